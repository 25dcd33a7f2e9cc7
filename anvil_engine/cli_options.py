"""What the verbs share: option types in fio's units, and the options of everything that measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from anvil_engine.errors import InvalidWorkload
from anvil_engine.units import parse_size, parse_time

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

ENGINES = ("native", "sync", "fio", "null")
"""`session.ENGINES`, repeated because importing it would load numpy and the extension."""

EXIT_CODES = {"complete": 0, "failed": 1, "aborted": 130}
"""What a verb that measures exits with; 2 is for what was refused before it began."""


class Size(click.ParamType[int]):
    """Bytes, written as fio does: 4k, 1m, 2g."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_size(value)
        except InvalidWorkload as error:
            self.fail(str(error), param, ctx)


class Time(click.ParamType[float]):
    """Seconds, written as fio does: 10, 500ms, 2m; a bare number is in `unit`."""

    name = "time"

    def __init__(self, unit: str = "s") -> None:
        self._unit = unit

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return (
                float(value) if isinstance(value, int | float) else parse_time(value, self._unit)
            )
        except InvalidWorkload as error:
            self.fail(str(error), param, ctx)


engine_option = click.option(
    "--engine",
    "--ioengine",
    type=click.Choice(ENGINES),
    default="native",
    show_default=True,
    help="native: io_uring.  sync: one pread or pwrite at a time, where io_uring is forbidden.  "
    "fio: the same by fio, as a second opinion.  null: a simulation that opens no target.",
)


def consent_options(verb: Decorated) -> Decorated:
    """Add the two ways to confirm a write: the parameters of `target.Consent`."""
    verb = click.option(
        "--yes-destroy-data",
        is_flag=True,
        help="Confirm that a workload may overwrite a file that Anvil did not create.",
    )(verb)
    return click.option(
        "--confirm-serial",
        metavar="LAST6",
        help="Confirm that a workload may overwrite a device: the last six characters of its "
        "serial (`anvil devices` shows it).",
    )(verb)
