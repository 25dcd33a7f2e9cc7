"""The native engine and fio in turn, on one target, until there is a verdict.

The order is A B, B A, A B …, so that what drifts hits both.  A closed loop on a fast target
compares what the tools cost, not what the target does: where a tool's thread is near a whole
core, the cell is reported as `overhead` and decides nothing.  So each cell comes again paced,
at half of what the slower tool reached: then both leave the target the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from anvil_engine import session
from anvil_engine.crosscheck_stats import Comparison, Verdict, combine, compare
from anvil_engine.errors import EngineError
from anvil_engine.results import DirectionResult, PhaseResult
from anvil_engine.target import Target
from anvil_engine.units import format_size
from anvil_engine.workload import SIDES, Phase, Profile, Workload

TOOLS = ("native", "fio")
CPU_BOUND_PCT = 80.0
"""From this part of a core on, a submitting thread is what limits a closed loop."""
PACE = 0.5
"""A paced cell's rate, as a part of the slower tool's closed loop."""
_PERCENTILES = {"p50": "50", "p99": "99", "p99.9": "99.9"}

# All at random: neighbours that are in one batch merge in the kernel, so that a sequential
# workload is another one for the device when the tools batch a little differently.
_QUICK = (("randread", 4096, 1), ("randread", 4096, 32), ("randread", 131072, 8))
_FULL = (
    *_QUICK,
    ("randwrite", 4096, 1), ("randwrite", 4096, 32), ("randrw", 4096, 32),
    ("randwrite", 131072, 8),
)  # fmt: skip
MATRICES = {"quick": _QUICK, "full": _FULL}
"""rw, bs and iodepth of each cell; quick only reads."""


class Stopped(Exception):
    """The user ended it before the verdict."""


@dataclass(frozen=True)
class Measured:
    """One measurement: metrics by name, and what explains them.

    `busy_pct` is the part of a core that each thread used, `mean_depth` how many I/Os were
    in flight.
    """

    values: Mapping[str, float]
    busy_pct: float
    mean_depth: float


Pair = tuple[Measured, Measured]


@dataclass(frozen=True)
class Cell:
    """One workload, measured in pairs of native and fio."""

    phase: Phase
    pairs: tuple[Pair, ...]
    metrics: Mapping[str, Comparison]

    @property
    def busy_pct(self) -> tuple[float, float]:
        """Median part of a core that a submitting thread of either tool used."""
        native, fio = (median(pair[tool].busy_pct for pair in self.pairs) for tool in (0, 1))
        return native, fio

    @property
    def mean_depth(self) -> tuple[float, float]:
        """Median number of I/Os in flight with either tool."""
        native, fio = (median(pair[tool].mean_depth for pair in self.pairs) for tool in (0, 1))
        return native, fio

    @property
    def is_paced(self) -> bool:
        """Whether it was an open loop; then a busy thread is one that waits for its time."""
        return self.phase.workload.rate_iops is not None

    @property
    def verdict(self) -> Verdict:
        if not self.is_paced and max(self.busy_pct) >= CPU_BOUND_PCT:
            return "overhead"
        return combine(metric.verdict for metric in self.metrics.values())

    @property
    def more_pairs(self) -> int | None:
        """How many pairs more would decide every metric; None when that cannot be said."""
        open_ones = [m for m in self.metrics.values() if m.verdict == "inconclusive"]
        needed = [metric.more_pairs for metric in open_ones]
        known = [number for number in needed if number is not None]
        return max(known) if known and len(known) == len(needed) else None


def matrix(name: str, workload: Workload) -> Profile:
    """The cells of a matrix; `workload` gives all that a cell does not say."""
    phases = tuple(
        _phase(replace(workload, rw=rw, bs=bs, iodepth=iodepth))
        for rw, bs, iodepth in MATRICES[name]
    )
    return Profile(name, name, "native and fio in turn", phases)


def single(workload: Workload) -> Profile:
    """One cell of the user's own."""
    return Profile("crosscheck", "crosscheck", "native and fio in turn", (_phase(workload),))


def check_available(phases: Sequence[Phase], fd: int) -> None:
    """Raise `EngineError`, with the way out, when one of the tools cannot run them here."""
    for phase in phases:
        for tool in TOOLS:
            session.check_available(tool, phase.workload, fd)


def measure_cells(
    phases: Sequence[Phase],
    target: Target,
    *,
    pairs: int,
    tolerances: Mapping[str, float],
    randseed: int,
    paced: bool,
    stop: threading.Event,
    on_pair: Callable[[Phase, int, Pair], None],
) -> Iterator[Cell]:
    """Measure each phase `pairs` times with both tools; `on_pair` sees each pair as it comes.

    With `paced` each closed loop is followed by its paced cell.  Raises `Stopped`, and what
    the engines raise: a failed I/O of either is no verdict.
    """

    def measured(phase: Phase) -> Cell:
        seed = randseed if phase.workload.randseed is None else phase.workload.randseed
        found = []
        for number in range(pairs):
            found.append(_pair(phase, target, seed, stop, native_first=number % 2 == 0))
            on_pair(phase, number, found[-1])
        return Cell(phase, tuple(found), _compare(found, tolerances))

    for phase in phases:
        cell = measured(phase)
        yield cell
        if paced and not cell.is_paced:
            yield measured(_paced(cell))


def _paced(cell: Cell) -> Phase:
    """The open loop at the pace that both tools can hold."""
    totals = (
        median(
            sum(value for name, value in pair[tool].values.items() if name.endswith("iops"))
            for pair in cell.pairs
        )
        for tool in (0, 1)
    )
    workload = cell.phase.workload
    rate = max(1, round(PACE * min(totals) / workload.numjobs))
    # Batches would make I/Os wait for each other.
    paced = replace(
        workload, rate_iops=rate, iodepth_batch_submit=None, iodepth_batch_complete_min=1
    )
    return Phase(f"{cell.phase.name} paced", paced)


def _phase(workload: Workload) -> Phase:
    jobs = f"x{workload.numjobs}" if workload.numjobs > 1 else ""
    return Phase(f"{workload.rw} {format_size(workload.bs)} qd{workload.iodepth}{jobs}", workload)


def _pair(
    phase: Phase, target: Target, seed: int, stop: threading.Event, *, native_first: bool
) -> Pair:
    found = {
        tool: _measure(phase, target, tool, seed, stop)
        for tool in (TOOLS if native_first else TOOLS[::-1])
    }
    native, fio = (found[tool] for tool in TOOLS)
    return native, fio


def _measure(
    phase: Phase, target: Target, tool: str, seed: int, stop: threading.Event
) -> Measured:
    running = session.measurement(phase.workload, target, engine=tool, randseed=seed).run(stop)
    while True:
        try:
            next(running)
        except StopIteration as end:
            result: PhaseResult | None = end.value
            break
    if stop.is_set():
        raise Stopped
    if result is None:
        raise EngineError(f"cell {phase.name}: {tool} measured nothing")
    return Measured(
        values=_values(phase, tool, result),
        busy_pct=(result.cpu_user_pct + result.cpu_system_pct) / phase.workload.numjobs,
        mean_depth=result.mean_depth,
    )


def _values(phase: Phase, tool: str, result: PhaseResult) -> dict[str, float]:
    workload = phase.workload
    active = [name for name in SIDES if getattr(workload, f"{name}s")]
    values: dict[str, float] = {}
    for direction in active:
        side: DirectionResult | None = getattr(result, direction)
        if side is None:
            raise EngineError(
                f"cell {phase.name}: {tool} completed no {direction} in {workload.runtime:g} s; "
                "use a longer runtime"
            )
        prefix = f"{direction} " if len(active) > 1 else ""
        values |= {f"{prefix}{name}": value for name, value in _metrics(side).items()}
    return values


def _metrics(side: DirectionResult) -> dict[str, float]:
    return {
        "iops": side.iops,
        "bw": side.bw_bytes,
        "mean": side.lat_mean_ns,
        **{name: side.percentiles[key] for name, key in _PERCENTILES.items()},
    }


def _compare(pairs: Sequence[Pair], tolerances: Mapping[str, float]) -> dict[str, Comparison]:
    return {
        name: compare(
            [(native.values[name], fio.values[name]) for native, fio in pairs],
            tolerances[name.rpartition(" ")[2]],
        )
        for name in pairs[0][0].values
    }
