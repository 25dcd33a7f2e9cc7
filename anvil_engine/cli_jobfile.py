"""fio's job files and commands, as `anvil bench` takes and gives them."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import replace
from pathlib import Path

import click

from anvil_engine import fio, fio_file
from anvil_engine.errors import InvalidWorkload
from anvil_engine.workload import Phase, Profile

SUFFIX = ".fio"
_WITH_A_JOB_FILE = {
    "target", "engine", "output_format", "output", "show_fio", "confirm_serial",
    "yes_destroy_data",
}  # fmt: skip
"""What may be said beside a job file; the rest is in it."""


def loaded(path: Path, engine: str) -> tuple[Path, Profile, str]:
    """Target, phases and engine of a job file; an --engine that was given wins over the file's.

    Prints the file's warnings to standard error.  Raises `InvalidWorkload` for what Anvil
    cannot do, and `UsageError` when an option says what the file should.
    """
    given = _given_options()
    if others := sorted(given - _WITH_A_JOB_FILE):
        option = others[0].replace("_", "-")
        raise click.UsageError(f"--{option} belongs into {path}, which says what is measured")
    job_file = fio_file.load(str(path), _read_beside(path), os.environ, _keywords())
    for warning in job_file.warnings:
        print(f"anvil: {path}: {warning}", file=sys.stderr)
    profile = Profile(path.stem, path.stem, f"the jobs of {path.name}", job_file.phases)
    chosen = engine if "engine" in given else job_file.engine or engine
    return Path(job_file.filename), profile, chosen


def fio_commands(profile: Profile, target: Path) -> str:
    """What to type to have fio do the same, a line for each phase."""
    lines = (shlex.join(fio.command(_for_shell(phase, target), str(target))) for phase in profile)
    return "".join(f"{line}\n" for line in lines)


def _given_options() -> set[str]:
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is source}


def _read_beside(path: Path) -> fio_file.Reader:
    """Reads a job file; one that it includes is looked for beside it, as fio does."""

    def read(name: str) -> str:
        place = path.parent / name if name != str(path) else path
        try:
            return place.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidWorkload(f"cannot read the job file {place}: {error}") from error

    return read


def _keywords() -> dict[str, int]:
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        "pagesize": page,
        "mb_memory": os.sysconf("SC_PHYS_PAGES") * page >> 20,
        "ncpus": os.cpu_count() or 1,
    }


def _for_shell(phase: Phase, target: Path) -> Phase:
    """The phase as fio can run it on a path: /dev/zero knows no O_DIRECT and has no size."""
    try:
        is_char = stat.S_ISCHR(target.stat().st_mode)
    except OSError:
        is_char = False
    if not is_char:
        return phase
    size = phase.workload.size or 1 << 40
    return replace(phase, workload=replace(phase.workload, direct=False, size=size))
