"""Do two tools agree?  The statistics of paired measurements.

Each pair gives one ratio, so that what drifts between pairs cancels.  The median of the
ratios stands for them, and a bootstrap interval says how well the pairs know it.  A verdict
needs the whole interval: inside the tolerance they agree, outside they differ, and across its
edge the evidence is not enough.  All of it is done on logarithms, so that it does not matter
which tool is called the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["agree", "differ", "inconclusive", "overhead"]

TOLERANCES: Mapping[str, float] = {
    "iops": 0.05,
    "bw": 0.05,
    "mean": 0.05,
    "p50": 0.05,
    "p99": 0.10,
    "p99.9": 0.20,
}
"""By metric, the part by which two tools may differ and still agree."""

CONFIDENCE = 0.95
MIN_PAIRS = 6
"""Below, not even the range of all ratios holds the median with 95 %: 2 · 2^-5 > 0.05."""
MAX_MORE_PAIRS = 1000
"""Where more would be needed, the ratio is at the edge and no number of pairs is promised."""
RESAMPLES = 10_000
_RESAMPLING_SEED = 1  # the same pairs give the same interval


@dataclass(frozen=True)
class Comparison:
    """One metric of one cell.  Ratios are first tool to second.

    `more_pairs` is about how many pairs more an inconclusive one needs, None when that
    cannot be said.
    """

    first: float
    second: float
    ratio: float
    low: float
    high: float
    tolerance: float
    verdict: Verdict
    more_pairs: int | None


def compare(pairs: Sequence[tuple[float, float]], tolerance: float) -> Comparison:
    """Compare the values of both tools, pair by pair; all are above 0, and there is a pair."""
    ratios = np.log([first / second for first, second in pairs])
    middle = float(np.median(ratios))
    low, high = interval(ratios)
    limit = math.log1p(tolerance)
    verdict = judge(low, high, limit, len(pairs))
    return Comparison(
        first=float(np.median([first for first, _ in pairs])),
        second=float(np.median([second for _, second in pairs])),
        ratio=math.exp(middle),
        low=math.exp(low),
        high=math.exp(high),
        tolerance=tolerance,
        verdict=verdict,
        more_pairs=(
            more_pairs(middle, low, high, limit, len(pairs)) if verdict == "inconclusive" else None
        ),
    )


def interval(
    values: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> tuple[float, float]:
    """The bootstrap interval of the median of `values`, by percentiles of its resamples."""
    sample = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(_RESAMPLING_SEED)
    chosen = random.integers(len(sample), size=(RESAMPLES, len(sample)))
    medians = np.median(sample[chosen], axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(low), float(high)


def judge(low: float, high: float, limit: float, n_pairs: int) -> Verdict:
    """The verdict on an interval of log ratios, when ±`limit` is tolerated."""
    if n_pairs < MIN_PAIRS:
        return "inconclusive"
    if -limit <= low and high <= limit:
        return "agree"
    return "differ" if low > limit or high < -limit else "inconclusive"


def more_pairs(middle: float, low: float, high: float, limit: float, n_pairs: int) -> int | None:
    """How many pairs more until the interval leaves the edge of the tolerance.

    An interval shrinks with the root of the number of pairs: the side that lies across the
    edge has to become as short as the way from the median to it.
    """
    if abs(middle) <= limit:
        # From inside, both sides have to fit.
        reach = max(_part(high - middle, limit - middle), _part(middle - low, limit + middle))
    else:
        # From outside, only the side that reaches in has to leave.
        reach = _part(middle - low if middle > 0 else high - middle, abs(middle) - limit)
    needed = n_pairs * reach * reach
    if needed > n_pairs + MAX_MORE_PAIRS:
        return None
    return max(math.ceil(needed), MIN_PAIRS, n_pairs + 1) - n_pairs


def _part(length: float, room: float) -> float:
    return length / room if room > 0 else math.inf if length > 0 else 0.0


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on several: one difference is a difference, one doubt is a doubt.

    What only measures overhead has no say; `overhead` when there is nothing else.
    """
    found = set(verdicts)
    for verdict in ("differ", "inconclusive", "agree"):
        if verdict in found:
            return verdict
    return "overhead"
