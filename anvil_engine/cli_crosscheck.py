"""`anvil crosscheck`: whether the native engine and fio agree on a target."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from anvil_engine.cli_bench import bench, single_phase
from anvil_engine.cli_options import consent_options
from anvil_engine.errors import AnvilError
from anvil_engine.workload import Profile, Workload

if TYPE_CHECKING:
    from anvil_engine.cli_crosscheck_report import Report

EXIT_CODES = {"agree": 0, "differ": 1, "inconclusive": 3, "overhead": 3}
STOPPED = 130
DEFAULT_RUNTIME = "2"
_OF_A_MATRIX = ("rw", "bs", "iodepth")


class CouldNotRun(click.ClickException):
    """There is no verdict: 1 would say that the tools differ."""

    exit_code = 2


@click.command(short_help="Compare the native engine with fio, with a verdict.")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--matrix",
    type=click.Choice(["quick", "full"]),
    help="Several cells instead of one workload: quick only reads (and is what runs when nothing "
    "is said), full writes, too.",
)
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    help="Measurements of each tool in each cell; fewer than 6 are never enough for a verdict.",
)
@click.option(
    "--paced/--no-paced",
    default=True,
    show_default=True,
    help="Measure each cell again at half of the slower tool's rate.  What is limited by a core "
    "can only be judged so.",
)
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="METRIC=PERCENT",
    help="How far the tools may differ and still agree; by default 5 for iops, bw, mean and p50, "
    "10 for p99, 20 for p99.9.  May be given several times.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write every measurement and the statistics to FILE as JSON.",
)
@click.option(
    "--junit",
    "junit_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the verdicts to FILE as JUnit XML: a test case for each cell.",
)
@consent_options
def crosscheck(
    target: Path,
    matrix: str | None,
    pairs: int,
    paced: bool,
    tolerances: tuple[str, ...],
    json_path: Path | None,
    junit_path: Path | None,
    confirm_serial: str | None,
    yes_destroy_data: bool,
    **options: Any,
) -> int:
    """Measure TARGET with the native engine and with fio in turn, and say whether they agree.

    Each metric's verdict comes from the median of the paired ratios and its 95 % interval:
    agree, differ, or inconclusive with the number of pairs it would take.  A closed loop in
    which a tool's thread is busy for 80 % of a core or more compares what the tools cost, not
    the target: it is reported as overhead and has no part in the verdict.  Each cell is
    therefore measured again at a pace that both can hold.

    Exit codes: 0 they agree, 1 they differ, 3 inconclusive, 2 could not run, 130 stopped.

    \b
      anvil crosscheck /dev/nvme0n1
      anvil crosscheck --rw randread --bs 4k --iodepth 8 --pairs 11 /dev/nvme0n1
      anvil crosscheck --json result.json --junit result.xml ./file

    A workload that writes DESTROYS THE DATA on the target and has to be confirmed.
    """
    from anvil_engine.cli_crosscheck_report import junit, report_json

    limits = _tolerances(tolerances)
    profile = _cells(matrix, options)
    with ExitStack() as held:
        held.enter_context(_refusals())
        # Opened first: a result that cannot be written should not be measured.
        files = [held.enter_context(_opened(path)) for path in (json_path, junit_path)]
        report = _measured(
            profile,
            target,
            pairs=pairs,
            paced=paced,
            tolerances=limits,
            confirm_serial=confirm_serial,
            yes_destroy_data=yes_destroy_data,
        )
        for file, write in zip(files, (report_json, junit), strict=True):
            if file is not None:
                file.write(write(report))
    return STOPPED if report.stopped else EXIT_CODES[report.verdict]


def _workload_options() -> Iterator[click.Parameter]:
    """Those of `anvil bench` that say what the I/O is."""
    known = {field.name for field in fields(Workload)}
    for option in bench.params:
        if option.name in known:
            ours = copy.copy(option)
            if ours.name == "runtime":
                ours.default = DEFAULT_RUNTIME
            yield ours


crosscheck.params[1:1] = _workload_options()


def _cells(name: str | None, options: dict[str, Any]) -> Profile:
    from anvil_engine.crosscheck import matrix, single

    source = click.get_current_context().get_parameter_source
    given = [
        option
        for option in _OF_A_MATRIX
        if source(option) is click.core.ParameterSource.COMMANDLINE
    ]
    if name and given:
        raise click.UsageError(f"--{given[0]} is what --matrix varies; leave one of them out")
    (phase,) = single_phase("crosscheck", {**options, "time_based": True})
    return single(phase.workload) if given else matrix(name or "quick", phase.workload)


def _tolerances(given: tuple[str, ...]) -> dict[str, float]:
    from anvil_engine.crosscheck_stats import TOLERANCES

    found = dict(TOLERANCES)
    for text in given:
        metric, _, percent = text.partition("=")
        try:
            value = float(percent.removesuffix("%")) / 100
        except ValueError:
            value = 0.0
        if metric not in found or not 0 < value < float("inf"):
            raise click.UsageError(
                f"--tolerance {text} is not METRIC=PERCENT with one of {', '.join(found)}"
            )
        found[metric] = value
    return found


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except AnvilError as error:
        raise CouldNotRun(str(error)) from error
    except OSError as error:
        raise CouldNotRun(f"{error.filename}: {error.strerror}") from error


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    with path.open("w") as file:
        yield file


def _measured(
    profile: Profile,
    path: Path,
    *,
    pairs: int,
    paced: bool,
    tolerances: dict[str, float],
    confirm_serial: str | None,
    yes_destroy_data: bool,
) -> Report:
    """Measure every cell and print each as it is decided; a stop keeps the finished ones."""
    from anvil_engine import lifeline
    from anvil_engine.cli_crosscheck_report import Report, Shown
    from anvil_engine.crosscheck import Stopped, check_available, measure_cells
    from anvil_engine.plan import expand
    from anvil_engine.target import Consent, open_target

    seed = secrets.randbits(63)
    with ExitStack() as held:
        target = held.enter_context(
            open_target(
                path,
                read=any(phase.workload.reads for phase in profile),
                write=profile.destructive,
                direct=all(phase.workload.direct for phase in profile),
                consent=Consent(confirm_serial, yes_destroy_data),
            )
        )
        facts = target.facts
        plan = expand(profile, target_size=facts.size_bytes, lba_size=facts.lba_size)
        check_available(plan.phases, target.fd)
        report = Report(facts.to_dict(), pairs, tolerances, seed, list(plan.warnings))
        closed = [phase for phase in plan.phases if phase.workload.rate_iops is None]
        shown = Shown(report, len(plan.phases) + (len(closed) if paced else 0))
        stop = held.enter_context(lifeline.stop_on_signals())
        cells = measure_cells(
            plan.phases,
            target,
            pairs=pairs,
            paced=paced,
            tolerances=tolerances,
            randseed=seed,
            stop=stop,
            on_pair=shown.pair,
        )
        try:
            for cell in cells:
                report.cells.append(cell)
                shown.cell(cell)
        except Stopped:
            report.stopped = True
        shown.verdict()
    return report
