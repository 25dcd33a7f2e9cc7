"""Latency histograms with fio's bucket geometry.

In short: relative error below 1/128, every uint64 has a bucket, 2304 buckets of 8 bytes
(18 KiB) per direction, exact to the nanosecond below 128 ns, range up to 2^41 ns (36 min).

Buckets are log-linear.  Values below 128 have a bucket each.  Above, every octave
[2^k, 2^(k+1)) is cut into 64 equal buckets, each 2^(k-6) wide.  This is the layout of
fio's stat.h (FIO_IO_U_PLAT_BITS = 6), so that bins compare one by one with fio's json+;
fio stops at 29 groups (17 s), these go on to 36.  A value past the last bucket is counted
in it, and counted as clamped.

A histogram is an array `counts` of shape (N_BUCKETS,) and dtype uint64, in nanoseconds.
The loop in `_ioloop.pyx` has the same arithmetic in C; `record` is its slow twin.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.uint64]

SUB_BITS = 6
SUB_BUCKETS = 1 << SUB_BITS
N_GROUPS = 36
N_BUCKETS = N_GROUPS * SUB_BUCKETS
CLAMP_NS = 1 << (N_GROUPS + SUB_BITS - 1)  # the first value past the last bucket

PERCENTILES = (
    "1", "5", "10", "20", "30", "40", "50", "60", "70", "80", "90", "95", "99",
    "99.5", "99.9", "99.95", "99.99", "99.999", "99.9999",
)  # fmt: skip


class EmptyHistogram(ValueError):
    """A percentile was asked of a histogram that counted nothing."""


def empty() -> Counts:
    """A histogram without a count."""
    return np.zeros(N_BUCKETS, dtype=np.uint64)


def bucket_index(value_ns: int) -> int:
    """Index of the bucket that holds `value_ns`; values past the range get the last one."""
    if value_ns < 2 * SUB_BUCKETS:
        return value_ns
    error_bits = value_ns.bit_length() - 1 - SUB_BITS
    index = ((error_bits + 1) << SUB_BITS) + ((value_ns >> error_bits) & (SUB_BUCKETS - 1))
    return min(index, N_BUCKETS - 1)


def bucket_bounds(index: int) -> tuple[int, int]:
    """First value of bucket `index`, and the first value past it."""
    if index < 2 * SUB_BUCKETS:
        return index, index + 1
    error_bits = (index >> SUB_BITS) - 1
    low = (SUB_BUCKETS + (index & (SUB_BUCKETS - 1))) << error_bits
    return low, low + (1 << error_bits)


def _midpoints() -> npt.NDArray[np.float64]:
    bounds = np.array([bucket_bounds(index) for index in range(N_BUCKETS)], dtype=np.float64)
    middles: npt.NDArray[np.float64] = bounds.mean(axis=1)
    middles[: 2 * SUB_BUCKETS] = np.arange(2 * SUB_BUCKETS)
    return middles


MIDPOINTS_NS = _midpoints()
"""Value that stands for each bucket, as in fio's `plat_idx_to_val`; shape (N_BUCKETS,)."""


def record(counts: Counts, values_ns: Iterable[int]) -> int:
    """Add each value to `counts` in place; returns how many were clamped."""
    clamped = 0
    for value in values_ns:
        counts[bucket_index(value)] += np.uint64(1)
        clamped += value >= CLAMP_NS
    return clamped


def merge(histograms: Iterable[Counts]) -> Counts:
    """The histogram of all I/Os of several histograms."""
    total = empty()
    for counts in histograms:
        total += counts
    return total


def diff(later: Counts, earlier: Counts) -> Counts:
    """The histogram of what was recorded between two snapshots of one histogram."""
    return later - earlier


def total(counts: Counts) -> int:
    """How many I/Os were recorded."""
    return int(counts.sum())


def percentile(counts: Counts, percent: float) -> float:
    """Latency in ns at or below which `percent` of the I/Os fall, as the bucket's midpoint.

    Raises `EmptyHistogram` when nothing was recorded.
    """
    return percentiles(counts, (percent,))[0]


def percentiles(counts: Counts, percents: Sequence[float]) -> list[float]:
    """`percentile` for several values, in one pass."""
    cumulative = np.cumsum(counts)
    recorded = int(cumulative[-1])
    if not recorded:
        raise EmptyHistogram("nothing was recorded")
    # fio's rule: the first bucket whose cumulative count reaches percent of the total.
    ranks = [max(1, int(np.ceil(recorded * percent / 100 - 1e-9))) for percent in percents]
    return [float(MIDPOINTS_NS[index]) for index in np.searchsorted(cumulative, ranks)]


def mean(counts: Counts) -> float:
    """Mean in ns from bucket midpoints; raises `EmptyHistogram` when nothing was recorded."""
    recorded = total(counts)
    if not recorded:
        raise EmptyHistogram("nothing was recorded")
    return float(counts @ MIDPOINTS_NS) / recorded


def stddev(counts: Counts) -> float:
    """Standard deviation in ns (of the population) from bucket midpoints; 0 when empty."""
    recorded = total(counts)
    if not recorded:
        return 0.0
    deviations = MIDPOINTS_NS - mean(counts)
    return float(np.sqrt(counts @ (deviations * deviations) / recorded))


def highest_ns(counts: Counts) -> int:
    """The largest value that the highest bucket in use can hold; 0 when empty."""
    used = np.flatnonzero(counts)
    return bucket_bounds(int(used[-1]))[1] - 1 if used.size else 0


def bins(counts: Counts) -> list[tuple[int, int]]:
    """The buckets in use as (midpoint in ns, count), ascending: fio's json+ `bins`."""
    used = np.flatnonzero(counts)
    return [(int(MIDPOINTS_NS[index]), int(counts[index])) for index in used]


def pack(counts: Counts) -> bytes:
    """The buckets in use as zlib-compressed little-endian (index u4, count u8) pairs."""
    used = np.flatnonzero(counts)
    body = used.astype("<u4").tobytes() + counts[used].astype("<u8").tobytes()
    return zlib.compress(body, level=1)


def unpack(packed: bytes) -> Counts:
    """The histogram that `pack` packed.  Raises `ValueError` when `packed` is not one."""
    try:
        body = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"not a packed histogram: {error}") from error
    length, rest = divmod(len(body), 12)
    indices = np.frombuffer(body, dtype="<u4", count=length)
    if rest or (indices >= N_BUCKETS).any():
        raise ValueError("not a packed histogram: wrong length or bucket")
    counts = empty()
    counts[indices] = np.frombuffer(body, dtype="<u8", offset=4 * length)
    return counts
