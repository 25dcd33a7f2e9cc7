"""A measured phase in the words and the order of fio's normal output.

What fio cannot say is left out (depth per batch), what it does not know is added at the end
(mean depth, clamped latencies, recorded warnings).  Latency is lat, from submission to reaping;
in an open loop resp is the response time, from the intended start.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version

from anvil_engine import histogram, summary
from anvil_engine.cli_measure import PhaseRecord, Record
from anvil_engine.results import DirectionResult, Latencies, PhaseResult
from anvil_engine.units import format_binary, format_count, format_decimal
from anvil_engine.workload import DIRECTIONS, Workload

SHOWN_PERCENTILES = histogram.PERCENTILES[:17]
"""fio's default list: up to the 99.99th."""
PER_LINE = 4
NS_PER_UNIT = {"nsec": 1, "usec": 1_000, "msec": 1_000_000}
LATENCY_STEPS = (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000)


def phase_text(record: Record, phase: PhaseRecord, at: datetime) -> str:
    """Everything about one phase; `at` is when it ended."""
    return "\n".join(_lines(record, phase, at)) + "\n"


def _lines(record: Record, phase: PhaseRecord, at: datetime) -> Iterator[str]:
    assert record.started is not None
    workload, result = phase.phase.workload, phase.result
    name = phase.phase.name
    yield f"{name}: (g=0): {_job_line(workload, record.started.engine)}"
    yield f"anvil-{version('anvil')}"
    yield f"Target: {_target(record)}"
    yield ""
    error = f"{phase.errno or 1} ({phase.error})" if phase.error else "0"
    yield (
        f"{name}: (groupid=0, jobs={workload.numjobs}): err= {error}: pid={os.getpid()}: "
        f"{at:%a %b %e %H:%M:%S %Y}"
    )
    if result is not None:
        for direction in DIRECTIONS:
            yield from _direction_lines(direction, phase, result)
        yield from _shared_lines(workload, result)
        yield ""
        yield "Run status group 0 (all jobs):"
        yield from _status_lines(result)
    if record.outcome != "complete":
        yield f"\n{record.outcome}: {record.error}"
    yield from (f"warning: {text}" for text in record.warnings)


def _job_line(workload: Workload, engine: str) -> str:
    words = {
        "rw": workload.rw,
        "bs": f"{workload.bs}B",
        "ioengine": engine,
        "iodepth": workload.iodepth,
        "numjobs": workload.numjobs,
        "direct": int(workload.direct),
    }
    if workload.reads and workload.writes:
        words["rwmixread"] = workload.rwmixread
    return ", ".join(f"{name}={value}" for name, value in words.items())


def _target(record: Record) -> str:
    assert record.started is not None
    if record.started.simulation:
        return "none (SIMULATION: no storage was touched)"
    facts = record.started.target
    parts = [facts["path"], format_binary(facts["size_bytes"])]
    parts += [str(facts[name]) for name in ("model", "serial", "firmware") if facts.get(name)]
    return ", ".join(parts)


def _direction_lines(direction: str, phase: PhaseRecord, result: PhaseResult) -> Iterator[str]:
    side: DirectionResult | None = getattr(result, direction)
    if side is None:
        return
    yield (
        f"  {direction}: IOPS={format_count(side.iops)}, BW={_bandwidth(side.bw_bytes)}"
        f"({_tight(format_binary(side.io_bytes))}/{result.elapsed_s * 1000:.0f}msec)"
    )
    yield from _latency_lines("lat", summary.lat(side))
    yield from _latency_lines("resp", side.response)
    samples = [found for one in phase.samples if (found := getattr(one, direction)) is not None]
    if samples:
        total = sum(getattr(result, name).bw_bytes for name in DIRECTIONS if getattr(result, name))
        kib = [sample.bw_bytes / 1024 for sample in samples]
        share = 100 * statistics.fmean(kib) * 1024 / total
        yield f"   bw (  KiB/s): {_spread(kib, f'per={share:.2f}%, ')}"
        yield f"   iops        : {_spread([sample.iops for sample in samples])}"


def _latency_lines(name: str, found: Latencies | None) -> Iterator[str]:
    if found is None:
        return
    unit = _unit(found.min_ns, found.max_ns)
    low, high, mean, deviation = (
        value / NS_PER_UNIT[unit]
        for value in (found.min_ns, found.max_ns, found.mean_ns, found.stddev_ns)
    )
    yield (
        f"    {name:>4} ({unit}): min={_short(low)}, max={_short(high)}, "
        f"avg={mean:.2f}, stdev={deviation:.2f}"
    )
    values = {shown: found.percentiles[shown] for shown in SHOWN_PERCENTILES}
    unit = _unit(min(values.values()), max(values.values()))
    scaled = {shown: round(value / NS_PER_UNIT[unit]) for shown, value in values.items()}
    width = max(5, *(len(str(value)) for value in scaled.values()))
    cells = [f"{float(shown):5.2f}th=[{value:{width}}]" for shown, value in scaled.items()]
    yield f"    {name} percentiles ({unit}):"
    for start in range(0, len(cells), PER_LINE):
        ending = "," if start + PER_LINE < len(cells) else ""
        yield f"     | {', '.join(cells[start : start + PER_LINE])}{ending}"


def _shared_lines(workload: Workload, result: PhaseResult) -> Iterator[str]:
    yield from _distribution_lines(result)
    # As in fio, of the jobs' time, so that it does not grow with their number.
    user, system = (
        value / workload.numjobs for value in (result.cpu_user_pct, result.cpu_system_pct)
    )
    yield f"  cpu          : usr={user:.2f}%, sys={system:.2f}%"
    depth = result.engine.get("iodepth", workload.iodepth) * workload.numjobs
    yield f"  IO depths    : mean={result.mean_depth:.2f} of {depth}"
    if pace := result.pace:
        yield (
            f"  rate         : {pace.rate_iops} IOPS {pace.rate_process}, started {pace.started} "
            f"of {pace.due}, {pace.late} late, {pace.behind_s:.3f}s behind at the end"
        )
    reads, writes = (side.ios if side else 0 for side in (result.read, result.write))
    yield f"     issued rwts: total={reads},{writes},0,0"
    if result.errors:
        counted = ", ".join(f"{name}={count}" for name, count in result.errors.items())
        yield f"     errors     : {counted}"
    if clamped := sum(side.clamped for side in (result.read, result.write) if side):
        yield f"     clamped    : {clamped} latencies beyond {histogram.CLAMP_NS / 1e9:.0f} s"


def _distribution_lines(result: PhaseResult) -> Iterator[str]:
    """The share of I/Os up to each latency step, as fio's `lat (usec)` lines."""
    sides = [side for side in (result.read, result.write) if side is not None]
    if not sides:
        return
    counts = histogram.merge(histogram.unpack(side.histogram) for side in sides)
    recorded = histogram.total(counts)
    below = 0
    for unit, factor in NS_PER_UNIT.items():
        cells = []
        steps = (*LATENCY_STEPS, 2000) if unit == "msec" else LATENCY_STEPS
        for step in steps:
            up_to = int(counts[step * factor > histogram.MIDPOINTS_NS].sum())
            if up_to > below:
                cells.append(f"{step}={_percent(up_to - below, recorded)}")
            below = up_to
        if unit == "msec" and recorded > below:
            cells.append(f">=2000={_percent(recorded - below, recorded)}")
        if cells:
            yield f"  lat ({unit})   : {', '.join(cells)}"


def _percent(part: int, whole: int) -> str:
    """Fio shows what is there but rounds to nothing as 0.01%."""
    return f"{max(0.01, 100 * part / whole):.2f}%"


def _status_lines(result: PhaseResult) -> Iterator[str]:
    milliseconds = round(result.elapsed_s * 1000)
    for direction in DIRECTIONS:
        side: DirectionResult | None = getattr(result, direction)
        if side is not None:
            moved = f"{_tight(format_binary(side.io_bytes))} ({_decimal(side.io_bytes)})"
            yield (
                f"{direction.upper():>7}: bw={_bandwidth(side.bw_bytes)}, io={moved}, "
                f"run={milliseconds}-{milliseconds}msec"
            )


def _bandwidth(bytes_per_s: float) -> str:
    return f"{_tight(format_binary(bytes_per_s))}/s ({_decimal(bytes_per_s)}/s)"


def _decimal(count: float) -> str:
    return _tight(format_decimal(count))


def _tight(text: str) -> str:
    return text.replace(" ", "")


def _unit(low: float, high: float) -> str:
    """The coarsest unit that still shows four digits of `low`, if `high` needs one."""
    for unit in ("msec", "usec"):
        if low > 2 * NS_PER_UNIT[unit] and high > 100 * NS_PER_UNIT[unit]:
            return unit
    return "nsec"


def _short(value: float) -> str:
    return f"{value:.0f}" if value < 100_000 else f"{value / 1000:.1f}k"


def _spread(values: Sequence[float], share: str = "") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return (
        f"min={min(values):.0f}, max={max(values):.0f}, {share}avg={statistics.fmean(values):.2f}, "
        f"stdev={deviation:.2f}, samples={len(values)}"
    )
