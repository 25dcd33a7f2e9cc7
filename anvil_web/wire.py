"""From the engine's words to the contract's: `rw` becomes `pattern`, `rwmixread` its complement."""

from __future__ import annotations

from typing import Any

from anvil_engine.results import DirectionResult, DirectionSample
from anvil_engine.workload import Phase

# Wire suffix of a latency percentile, and its key in `DirectionResult.percentiles`.
PERCENTILES = {"p50": "50", "p99": "99", "p999": "99.9", "p9999": "99.99"}
DIRECTIONS = ("read", "write")
METRICS = tuple(
    f"{direction}_{metric}"
    for direction in DIRECTIONS
    for metric in (
        "iops",
        "bw_bytes",
        "clat_mean_ns",
        *(f"clat_{suffix}_ns" for suffix in PERCENTILES),
    )
)
"""The 14 numbers of a phase.  `clat` keeps the contract's name and holds lat."""

SERIES = tuple(
    f"{direction}_{metric}"
    for metric in ("iops", "bw_bytes", "clat_mean_ns")
    for direction in DIRECTIONS
)
"""The metrics of the time series, in the order in which one sample gives them."""

LIVE = (*SERIES, "read_clat_p99_ns", "write_clat_p99_ns")
"""What a live sample tells: the time series, and the tail latency for progress displays."""


def phase_columns(phase: Phase) -> dict[str, Any]:
    """What `run_phase` and the catalogue say about a phase's workload."""
    workload = phase.workload
    return {
        "phase_name": phase.name,
        "pattern": workload.rw,
        "block_size": workload.bs,
        "iodepth": workload.iodepth,
        "numjobs": workload.numjobs,
        "rwmix_write_pct": 100 - workload.read_pct,
        "runtime_s": workload.runtime,
    }


def result_columns(direction: str, result: DirectionResult | None) -> dict[str, Any]:
    """The columns that a finished phase fills for one direction; an idle one fills none."""
    if result is None:
        return {}
    return {
        f"{direction}_iops": result.iops,
        f"{direction}_bw_bytes": round(result.bw_bytes),
        f"{direction}_clat_mean_ns": result.lat_mean_ns,
        **{
            f"{direction}_clat_{suffix}_ns": result.percentiles.get(key)
            for suffix, key in PERCENTILES.items()
        },
        f"{direction}_histogram": result.histogram,
    }


def sample_columns(direction: str, sample: DirectionSample | None) -> dict[str, Any]:
    """The columns that one interval fills for one direction; an idle one fills none."""
    if sample is None:
        return {}
    return {
        f"{direction}_iops": sample.iops,
        f"{direction}_bw_bytes": sample.bw_bytes,
        f"{direction}_clat_mean_ns": sample.lat_mean_ns,
        **{
            f"{direction}_clat_{suffix}_ns": getattr(sample, f"lat_{suffix}_ns")
            for suffix in PERCENTILES
        },
        f"{direction}_clat_max_ns": sample.lat_max_ns,
        f"{direction}_histogram": sample.histogram,
    }
