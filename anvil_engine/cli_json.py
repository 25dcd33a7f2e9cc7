"""A measured phase as JSON with fio's keys, so that what reads fio's output reads this.

An idle direction is null, where fio writes zeros.  `lat_ns` is lat, from submission to
reaping.  `samples`, `engine`, `warnings`, the facts about target and host, and `response_ns` and
`pace` of an open loop are additions.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

from anvil_engine import summary
from anvil_engine.cli_measure import PhaseRecord, Record
from anvil_engine.results import DirectionResult, DirectionSample, Latencies, PhaseResult, plain


def bench_json(record: Record, at: datetime) -> dict[str, Any]:
    """The document of `anvil bench --output-format json`; `at` is when the run ended."""
    assert record.started is not None
    return {
        "anvil version": version("anvil"),
        "timestamp": int(at.timestamp()),
        "time": f"{at:%a %b %e %H:%M:%S %Y}",
        "outcome": record.outcome,
        "error": record.error,
        "warnings": record.warnings,
        "engine": record.started.engine,
        "simulation": record.started.simulation,
        "target": record.started.target,
        "host": record.started.host,
        "jobs": [_job(phase) for phase in record.phases],
    }


def _job(phase: PhaseRecord) -> dict[str, Any]:
    workload, result = phase.phase.workload, phase.result
    job: dict[str, Any] = {
        "jobname": phase.phase.name,
        "groupid": 0,
        "error": (phase.errno or 1) if phase.error else 0,
        "job options": {
            name: value for name, value in phase.phase.to_dict().items() if name != "name"
        },
    }
    if result is None:
        return job
    samples = {name: [getattr(one, name) for one in phase.samples] for name in ("read", "write")}
    return job | {
        "read": result.read and direction_json(result.read, result, samples["read"]),
        "write": result.write and direction_json(result.write, result, samples["write"]),
        "job_runtime": round(result.elapsed_s * 1000) * workload.numjobs,
        "usr_cpu": result.cpu_user_pct / workload.numjobs,
        "sys_cpu": result.cpu_system_pct / workload.numjobs,
        "mean_depth": result.mean_depth,
        "randseed": result.randseed,
        "errors": result.errors,
        "engine": result.engine,
        **({"pace": plain(result.pace)} if result.pace else {}),
    }


def direction_json(
    side: DirectionResult, result: PhaseResult, samples: Sequence[DirectionSample | None]
) -> dict[str, Any]:
    """One direction with fio's keys, and its samples."""
    active = [sample for sample in samples if sample is not None]
    return {
        "io_bytes": side.io_bytes,
        "io_kbytes": side.io_bytes >> 10,
        "bw_bytes": round(side.bw_bytes),
        "bw": round(side.bw_bytes) >> 10,
        "iops": side.iops,
        "runtime": round(result.elapsed_s * 1000),
        "total_ios": side.ios,
        "lat_ns": _latencies(summary.lat(side)),
        **({"response_ns": _latencies(side.response)} if side.response else {}),
        **_spread("bw", "dev", [sample.bw_bytes / 1024 for sample in active]),
        **_spread("iops", "stddev", [sample.iops for sample in active]),
        "samples": [sample and _sample(sample) for sample in samples],
    }


def _latencies(found: Latencies) -> dict[str, Any]:
    return {
        "min": found.min_ns,
        "max": found.max_ns,
        "mean": found.mean_ns,
        "stddev": found.stddev_ns,
        "N": found.ios,
        "clamped": found.clamped,
        "percentile": {
            f"{float(name):.6f}": round(value) for name, value in found.percentiles.items()
        },
    }


def _spread(name: str, deviation: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {f"{name}_samples": 0}
    return {
        f"{name}_min": min(values),
        f"{name}_max": max(values),
        f"{name}_mean": statistics.fmean(values),
        f"{name}_{deviation}": statistics.stdev(values) if len(values) > 1 else 0.0,
        f"{name}_samples": len(values),
    }


def _sample(sample: DirectionSample) -> dict[str, float]:
    names = ("ios", "iops", "bw_bytes", "lat_mean_ns", "lat_p50_ns", "lat_p99_ns", "lat_p999_ns")
    return {name: getattr(sample, name) for name in (*names, "lat_p9999_ns", "lat_max_ns")}
