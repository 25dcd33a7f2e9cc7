"""`anvil run`: a whole profile, for people, for files and for the runner."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from anvil_engine.cli_options import EXIT_CODES, consent_options, engine_option
from anvil_engine.errors import EngineError, InvalidWorkload
from anvil_engine.workload import Profile

if TYPE_CHECKING:
    from anvil_engine.cli_measure import Record
    from anvil_engine.results import Event


@click.command(short_help="Run a whole profile.")
@click.argument("profile")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--json",
    "document",
    type=click.File("w", lazy=True),
    metavar="FILE",
    help="Write everything that was measured to FILE as JSON (- is standard output).",
)
@click.option(
    "--events",
    type=click.Choice(["jsonl"]),
    help="Write each event to standard output as it happens, as one JSON object a line.",
)
@engine_option
@click.option("--seed", "--randseed", "randseed", type=int, help="Repeat a run's random choices.")
@click.option(
    "--expect-serial",
    metavar="SERIAL",
    help="Refuse a target with another serial; an empty one expects none.",
)
@click.option(
    "--expect-wwid",
    metavar="WWID",
    help="Refuse a target with another WWID; an empty one expects none.",
)
@click.option(
    "--die-with-parent",
    type=int,
    metavar="PID",
    help="For programs that start this one: end as soon as the process PID has ended.",
)
@consent_options
def run(
    profile: str,
    target: Path,
    document: IO[str] | None,
    events: str | None,
    die_with_parent: int | None,
    **options: Any,
) -> int:
    """Run PROFILE, phase after phase, on TARGET and print a table of results.

    PROFILE is a name that `anvil profiles` lists, or a file ending in .json with a profile
    (`anvil profiles NAME --json` prints one to start from).

    \b
      anvil run quick /dev/nvme0n1
      anvil run quick /dev/nvme0n1 --json result.json
      anvil run quick nothing --engine null

    A profile that writes DESTROYS THE DATA on the target and has to be confirmed.
    """
    from anvil_engine import cli_measure, cli_progress, lifeline

    if die_with_parent is not None:
        lifeline.die_with_parent(die_with_parent)
    chosen = _profile(profile)
    if events:
        record = cli_measure.measure(chosen, target, [_EventLines(sys.stdout)], **options)
        return EXIT_CODES[record.outcome]
    with cli_progress.shown() as show:
        record = cli_measure.measure(chosen, target, [show], **options)
    print_tables(record, to_stderr=document is not None and document.name == "-")
    if document is not None:
        document.write(json.dumps(record.to_dict(), indent=2) + "\n")
    if record.outcome == "failed":
        raise EngineError(record.error)
    return EXIT_CODES[record.outcome]


class _EventLines:
    """Numbers the events and writes each as a line, at once."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._number = 0

    def __call__(self, event: Event) -> None:
        from anvil_engine.results import encode

        self._number += 1
        line = json.dumps(encode(event, self._number, datetime.now(UTC)))
        self._stream.write(f"{line}\n")
        self._stream.flush()


def _profile(name: str) -> Profile:
    if name.endswith(".json"):
        try:
            return Profile.from_dict(json.loads(Path(name).read_text()))
        except (ValueError, OSError) as error:
            raise InvalidWorkload(f"{name} is not a profile: {error}") from error
    from anvil_engine import profiles

    return profiles.get(name)


def print_tables(record: Record, *, to_stderr: bool) -> None:
    """The results, and what has to be said beside them."""
    from anvil_engine.cli_tables import console, run_table

    out = console(to_stderr=to_stderr)
    out.print(run_table(record))
    for warning in record.warnings:
        out.print(f"warning: {warning}", markup=False, highlight=False)
    if record.outcome == "aborted":
        out.print(f"aborted: {record.error}", markup=False, highlight=False)
