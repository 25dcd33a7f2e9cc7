"""`anvil bench`: one workload in fio's words."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from anvil_engine import cli_jobfile
from anvil_engine.cli_options import EXIT_CODES, Size, Time, consent_options, engine_option
from anvil_engine.errors import EngineError
from anvil_engine.workload import RATE_PROCESSES, Phase, Profile, Workload

if TYPE_CHECKING:
    from anvil_engine.cli_measure import Record

FILE_BLOCK_BYTES = 4096


@click.command(short_help="Measure one workload, given in fio's words.")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--name", default="bench", show_default=True, help="What the job is called.")
@click.option(
    "--rw",
    "--readwrite",
    default="read",
    show_default=True,
    metavar="RW",
    help="read, write, randread, randwrite, rw or randrw.",
)
@click.option(
    "--bs", "--blocksize", type=Size(), default="4k", show_default=True, help="Bytes of one I/O."
)
@click.option(
    "--iodepth", type=int, default=1, show_default=True, help="I/Os that each job keeps in flight."
)
@click.option(
    "--numjobs",
    type=int,
    default=1,
    show_default=True,
    help="Identical jobs, each with a thread and a ring of its own.",
)
@click.option(
    "--runtime",
    type=Time(),
    default="10",
    show_default=True,
    help="Measured time, in seconds or like 500ms, 2m.",
)
@click.option(
    "--ramp-time",
    type=Time(),
    default="0",
    show_default=True,
    help="Time before that, with I/O that is not measured.",
)
@click.option(
    "--size",
    type=Size(),
    help="Span of the target that is used; all of it by default.  A target that does not "
    "exist is created as a file of this size.",
)
@click.option(
    "--offset", type=Size(), default="0", show_default=True, help="Where that span begins."
)
@click.option(
    "--rwmixread",
    type=int,
    default=50,
    show_default=True,
    help="Percent of I/Os that read, for rw and randrw.",
)
@click.option(
    "--randseed",
    "--seed",
    type=int,
    help="Repeat a run's random choices; the result states its seed.",
)
@click.option(
    "--direct",
    type=click.Choice(["0", "1"]),
    default="1",
    show_default=True,
    help="1: O_DIRECT, past the page cache.",
)
@click.option(
    "--iodepth-batch-submit",
    type=int,
    help="I/Os that are submitted together; as many as are free by default.",
)
@click.option(
    "--iodepth-batch-complete-min",
    type=int,
    default=1,
    show_default=True,
    help="I/Os that are waited for together.",
)
@click.option(
    "--rate-iops",
    type=int,
    help="Open loop: I/Os that each job means to start a second, whatever the device does.  "
    "Response time, from the intended start, is then reported beside lat.",
)
@click.option(
    "--rate-process",
    type=click.Choice(RATE_PROCESSES),
    default="linear",
    show_default=True,
    help="Equal intervals between the starts, or independent ones.",
)
@click.option(
    "--cpus-allowed",
    metavar="LIST",
    help="CPUs that the jobs' threads may use, like 0-3,7; all by default.",
)
@click.option("--continue-on-error", is_flag=True, help="Count failed I/Os and go on.")
@click.option("--time-based", is_flag=True, help="Accepted as fio's; always in effect.")
@click.option("--group-reporting", is_flag=True, help="Accepted as fio's; always in effect.")
@click.option("--norandommap", is_flag=True, help="Accepted as fio's; always in effect.")
@engine_option
@click.option(
    "--output-format",
    type=click.Choice(["normal", "json", "json+"]),
    default="normal",
    show_default=True,
    help="For people, for programs (with fio's keys), or exactly in fio's form with all bins.",
)
@click.option(
    "--output",
    type=click.File("w", lazy=True),
    default="-",
    metavar="FILE",
    help="Where the result goes; standard output by default.",
)
@click.option(
    "--show-fio", is_flag=True, help="Print the fio command that does the same, and do nothing."
)
@consent_options
def bench(
    target: Path, output_format: str, output: IO[str], *, show_fio: bool, **options: Any
) -> int:
    """Measure one workload on TARGET and print a result like fio's.

    A TARGET that ends in .fio is a fio job file, whose jobs run one after another.

    Options have fio's spelling and meaning, with hyphens or underscores; sizes and times have
    fio's units (4k, 1g, 500ms, 2m).  Two differences: direct=1 is the default, and a run lasts
    --runtime seconds whatever the size.

    \b
      anvil bench --rw randread --bs 4k --iodepth 32 --runtime 10 /dev/nvme0n1
      anvil bench --rw randrw --rwmixread 70 --size 1g ./new-file
      anvil bench --rw read --bs 1m --output-format json /dev/nvme0n1 > result.json
      anvil bench job.fio

    A workload that writes DESTROYS THE DATA on the target and has to be confirmed.
    """
    from anvil_engine import cli_measure, cli_progress

    profile = single_phase(options["name"], options)
    if target.suffix == cli_jobfile.SUFFIX:
        target, profile, options["engine"] = cli_jobfile.loaded(target, options["engine"])
    if show_fio:
        output.write(cli_jobfile.fio_commands(profile, target))
        return 0
    if options["engine"] != "null":
        _lay_out(target, options["size"], options["offset"])
    with cli_progress.shown() as show:
        record = cli_measure.measure(
            profile,
            target,
            [show],
            engine=options["engine"],
            confirm_serial=options["confirm_serial"],
            yes_destroy_data=options["yes_destroy_data"],
        )
    output.write(_result(record, output_format))
    if record.outcome == "failed":
        raise EngineError(record.error)
    return EXIT_CODES[record.outcome]


def single_phase(name: str, options: dict[str, Any]) -> Profile:
    """A profile with the one workload that `options` of bench, by name, ask for."""
    fields = (
        "rw", "bs", "iodepth", "numjobs", "runtime", "ramp_time", "size", "offset", "rwmixread",
        "randseed", "iodepth_batch_submit", "iodepth_batch_complete_min", "continue_on_error",
        "rate_iops", "rate_process", "cpus_allowed",
    )  # fmt: skip
    workload = Workload(
        direct=options["direct"] == "1", **{name: options[name] for name in fields}
    )
    return Profile(name, name, "one workload, from the shell", (Phase(name, workload),))


def _lay_out(target: Path, size: int | None, offset: int) -> None:
    """Create a missing target as fio does, when its size is known."""
    if size is None or target.exists() or _is_device_path(target):
        return
    from anvil_engine import cli_progress
    from anvil_engine.target import create_file_target

    whole = -(-(offset + size) // FILE_BLOCK_BYTES) * FILE_BLOCK_BYTES
    with cli_progress.shown_bytes(f"laying out {target}", whole) as show:
        create_file_target(target, whole, show)


def _is_device_path(path: Path) -> bool:
    """Whether a file at `path` would hide a missing device, and fill memory instead."""
    place = path.absolute()
    return place.is_relative_to("/dev") and not place.is_relative_to("/dev/shm")  # noqa: S108


def _result(record: Record, output_format: str) -> str:
    now = datetime.now().astimezone()
    if output_format == "json":
        from anvil_engine.cli_json import bench_json

        return json.dumps(bench_json(record, now), indent=2) + "\n"
    if output_format == "json+":
        from anvil_engine.cli_jsonplus import bench_json_plus

        return json.dumps(bench_json_plus(record, now), indent=2) + "\n"
    from anvil_engine.cli_text import phase_text

    return "".join(phase_text(record, phase, now) for phase in record.phases)
