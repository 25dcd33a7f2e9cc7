"""What is going on, on standard error: a live line on a terminal, one line a phase elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anvil_engine.results import (
    DirectionSample,
    Event,
    PhaseComplete,
    PhaseFailed,
    PhaseSample,
    PhaseStarted,
    RunStarted,
)
from anvil_engine.units import format_binary, format_count, format_duration, format_ns

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def shown() -> Iterator[Callable[[Event], None]]:
    """An observer that shows a run's events as they come."""
    if not sys.stderr.isatty():
        yield _PlainLines()
        return
    with _bars() as bars:
        yield _LiveLines(bars)


@contextmanager
def shown_bytes(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` bytes are done; yields what to tell it to."""
    if not sys.stderr.isatty():
        print(f"{what} ({format_binary(total)})", file=sys.stderr)
        yield lambda done: None  # noqa: ARG005
        return
    with _bars() as bars:
        task = bars.add_task(what, total=total, numbers="")
        yield lambda done: bars.update(
            task, completed=done, numbers=f"{format_binary(done)} of {format_binary(total)}"
        )


def numbers(sample: PhaseSample) -> str:
    """One second of a phase in one line."""
    sides = (("read", sample.read), ("write", sample.write), ("trim", sample.trim))
    return "  ".join(_direction(name, side) for name, side in sides if side is not None)


def _direction(name: str, side: DirectionSample) -> str:
    return (
        f"{name} {format_count(side.iops)} IOPS {format_binary(side.bw_bytes)}/s "
        f"p99 {format_ns(side.lat_p99_ns)}"
    )


class _PlainLines:
    """For logs: a line when a phase starts, unless it is the only one."""

    def __init__(self) -> None:
        self._count: int | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._count = len(event.phases)
            case PhaseStarted() if self._count != 1:
                seconds = format_duration(event.expected_runtime_s)
                order = f"{event.phase_order + 1}" + (f"/{self._count}" if self._count else "")
                print(f"phase {order} {event.phase_name} ({seconds})", file=sys.stderr)


class _LiveLines:
    """For terminals: a bar for each phase with its latest second."""

    _task: TaskID

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._count = 0

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._count = len(event.phases)
            case PhaseStarted():
                order = f"{event.phase_order + 1}/{self._count} " if self._count > 1 else ""
                self._task = self._bars.add_task(
                    f"{order}{event.phase_name}",
                    total=event.expected_runtime_s or None,  # its bytes end it, not its time
                    numbers="starting",
                )
            case PhaseSample():
                self._bars.update(
                    self._task,
                    total=event.elapsed_s + event.eta_s,
                    completed=event.elapsed_s,
                    numbers=f"{format_duration(event.eta_s)} left  {numbers(event)}",
                )
            case PhaseComplete():
                self._bars.update(self._task, visible=False)
            case PhaseFailed():
                self._bars.stop_task(self._task)


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[numbers]}"),
        console=Console(stderr=True),
        transient=True,
    )
