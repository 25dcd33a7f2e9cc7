"""A measured run as fio's json+, for programs that know only fio's.

Here everything has fio's form: an idle direction is zeros, options are text, and what was not
recorded has an `N` of 0, as slat and clat do.  What fio has no place for is in `anvil`.
"""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Any

from anvil_engine import fio, fio_json, histogram
from anvil_engine.cli_json import bench_json, direction_json
from anvil_engine.cli_measure import PhaseRecord, Record
from anvil_engine.histogram import Counts
from anvil_engine.results import DirectionResult, PhaseResult
from anvil_engine.workload import SIDES

_STEPS = (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000)
_UNITS = {"latency_ns": 1, "latency_us": 1_000, "latency_ms": 1_000_000}
_SLOWEST = 2000
_NOT_RECORDED = {"min": 0, "max": 0, "mean": 0.0, "stddev": 0.0, "N": 0}
_IDLE = {
    "io_bytes": 0, "io_kbytes": 0, "bw_bytes": 0, "bw": 0, "iops": 0.0, "runtime": 0,
    "total_ios": 0, "short_ios": 0, "drop_ios": 0,
    "slat_ns": _NOT_RECORDED, "clat_ns": _NOT_RECORDED, "lat_ns": _NOT_RECORDED,
    "bw_min": 0, "bw_max": 0, "bw_agg": 0.0, "bw_mean": 0.0, "bw_dev": 0.0, "bw_samples": 0,
    "iops_min": 0, "iops_max": 0, "iops_mean": 0.0, "iops_stddev": 0.0, "iops_samples": 0,
}  # fmt: skip


def bench_json_plus(record: Record, at: datetime) -> dict[str, Any]:
    """The document of `--output-format json+`; `at` is when the run ended."""
    ours = bench_json(record, at)
    common = {name: ours.pop(name) for name in ("timestamp", "time", "jobs")}
    return {
        "fio version": f"anvil-{version('anvil')}",
        "timestamp": common["timestamp"],
        "timestamp_ms": round(at.timestamp() * 1000),
        "time": common["time"],
        "jobs": [
            _job(record, phase, job)
            for phase, job in zip(record.phases, common["jobs"], strict=True)
        ],
        "anvil": ours,
    }


def _job(record: Record, phase: PhaseRecord, ours: dict[str, Any]) -> dict[str, Any]:
    assert record.started is not None
    options = fio.job_options(phase.phase, record.started.device_path)
    shared = ("jobname", "groupid", "error", "job_runtime", "usr_cpu", "sys_cpu")
    job = {name: ours.get(name, 0) for name in shared}
    job["job options"] = {"name": ours["jobname"]} | dict(
        option.split("=", 1) for option in options
    )
    for direction in SIDES:
        job[direction] = _direction(direction, phase)
    return job | {
        "trim": _IDLE,
        "sync": {"total_ios": 0, "lat_ns": _NOT_RECORDED},
        **_latency_shares(phase.result),
        "anvil": {name: ours.get(name) for name in ("mean_depth", "randseed", "errors", "engine")},
    }


def _direction(direction: str, phase: PhaseRecord) -> dict[str, Any]:
    result = phase.result
    side: DirectionResult | None = getattr(result, direction, None)
    if side is None or result is None:
        return _IDLE
    samples = [getattr(sample, direction) for sample in phase.samples]
    ours = direction_json(side, result, samples)
    del ours["samples"]
    total = sum(found.bw_bytes for name in SIDES if (found := getattr(result, name)))
    bins = fio_json.bins(histogram.unpack(side.histogram))
    lat = ours["lat_ns"] | {"bins": bins}
    return _IDLE | ours | {"bw_agg": 100 * side.bw_bytes / total, "lat_ns": lat}


def _latency_shares(result: PhaseResult | None) -> dict[str, dict[str, float]]:
    """Percent of I/Os up to each latency step and past the one before."""
    sides = [side for name in SIDES if (side := getattr(result, name, None)) is not None]
    counts = histogram.merge(histogram.unpack(side.histogram) for side in sides)
    recorded, below = max(1, histogram.total(counts)), 0
    shares: dict[str, dict[str, float]] = {name: {} for name in _UNITS}
    for name, factor in _UNITS.items():
        for step in (*_STEPS, _SLOWEST) if name == "latency_ms" else _STEPS:
            up_to = _faster_than(counts, step * factor)
            shares[name][str(step)] = 100 * (up_to - below) / recorded
            below = up_to
    shares["latency_ms"][f">={_SLOWEST}"] = 100 * (histogram.total(counts) - below) / recorded
    return shares


def _faster_than(counts: Counts, limit_ns: int) -> int:
    return int(counts[limit_ns > histogram.MIDPOINTS_NS].sum())
