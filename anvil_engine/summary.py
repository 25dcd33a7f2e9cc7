"""Histograms and counters to the numbers that people read."""

from __future__ import annotations

import numpy as np

from anvil_engine import histogram
from anvil_engine.histogram import Counts
from anvil_engine.results import DirectionResult, DirectionSample, Latencies


def direction_sample(
    counts: Counts, *, bs: int, seconds: float, slowest_ns: int
) -> DirectionSample | None:
    """One direction of an interval of `seconds`; None when nothing completed in it.

    `slowest_ns` is the slowest I/O that the loop noted for the interval.  A batch that is
    recorded while the watcher looks may leave its maximum with the interval before, so the
    highest bucket in use bounds it.
    """
    ios = histogram.total(counts)
    if not ios:
        return None
    low, past = histogram.bucket_bounds(int(np.flatnonzero(counts)[-1]))
    slowest = max(slowest_ns, low)
    if past < histogram.CLAMP_NS:
        slowest = min(slowest, past - 1)
    p50, p99, p999, p9999 = histogram.percentiles(counts, (50, 99, 99.9, 99.99))
    return DirectionSample(
        ios=ios,
        iops=ios / seconds,
        bw_bytes=ios * bs / seconds,
        lat_mean_ns=histogram.mean(counts),
        lat_p50_ns=min(p50, slowest),
        lat_p99_ns=min(p99, slowest),
        lat_p999_ns=min(p999, slowest),
        lat_p9999_ns=min(p9999, slowest),
        lat_max_ns=slowest,
        histogram=histogram.pack(counts),
    )


def direction_result(
    service: Latencies, *, io_bytes: int, seconds: float, response: Latencies | None = None
) -> DirectionResult:
    """One direction of a phase of `seconds`."""
    return DirectionResult(
        ios=service.ios,
        io_bytes=io_bytes,
        iops=service.ios / seconds,
        bw_bytes=io_bytes / seconds,
        lat_min_ns=service.min_ns,
        lat_max_ns=service.max_ns,
        lat_mean_ns=service.mean_ns,
        lat_stddev_ns=service.stddev_ns,
        percentiles=service.percentiles,
        clamped=service.clamped,
        histogram=service.histogram,
        response=response,
    )


def lat(side: DirectionResult) -> Latencies:
    """A direction's lat by itself."""
    return Latencies(
        ios=side.ios,
        min_ns=side.lat_min_ns,
        max_ns=side.lat_max_ns,
        mean_ns=side.lat_mean_ns,
        stddev_ns=side.lat_stddev_ns,
        percentiles=side.percentiles,
        clamped=side.clamped,
        histogram=side.histogram,
    )


def latencies(
    counts: Counts, *, ios: int, sum_ns: int, min_ns: int, max_ns: int, clamped: int
) -> Latencies | None:
    """One kind of latency of a phase; None when nothing was recorded."""
    if not ios:
        return None
    values = histogram.percentiles(counts, [float(name) for name in histogram.PERCENTILES])
    return Latencies(
        ios=ios,
        min_ns=min_ns,
        max_ns=max_ns,
        mean_ns=sum_ns / ios,
        stddev_ns=histogram.stddev(counts),
        # A bucket's midpoint may lie outside of what was really seen.
        percentiles={
            name: min(max(value, min_ns), max_ns)
            for name, value in zip(histogram.PERCENTILES, values, strict=True)
        },
        clamped=clamped,
        histogram=histogram.pack(counts),
    )
