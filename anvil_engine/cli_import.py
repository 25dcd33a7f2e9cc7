"""`anvil import`: a result of fio as a result of Anvil."""

from __future__ import annotations

import json
from typing import IO

import click


@click.command("import", short_help="Read a result of fio.")
@click.argument("result", type=click.File())
@click.option(
    "--json",
    "document",
    type=click.File("w", lazy=True),
    metavar="FILE",
    help="Write it to FILE (- is standard output), as `anvil run --json` does.",
)
def import_result(result: IO[str], document: IO[str] | None) -> None:
    """Read RESULT, the output of fio with --output-format=json+ or json, and print a table.

    With json+ and --lat_percentiles=1 nothing is missing; without, percentiles or the
    histogram are, and it says so.  - is standard input.

    \b
      fio --output-format=json+ --lat_percentiles=1 … > result.json
      anvil import result.json --json anvil.json
    """
    from anvil_engine import fio_import
    from anvil_engine.cli_measure import Record
    from anvil_engine.cli_run import print_tables

    record = Record()
    for event in fio_import.events(result.read()):
        record(event)
    print_tables(record, to_stderr=document is not None and document.name == "-")
    if document is not None:
        document.write(json.dumps(record.to_dict(), indent=2) + "\n")
