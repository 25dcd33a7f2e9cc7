"""Verdicts on made-up measurements whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anvil_engine import crosscheck_stats as stats

ratios = st.lists(st.floats(0.2, 5), min_size=1, max_size=15)


def pairs(true_ratio: float, noise: float, n: int, seed: int = 0) -> list[tuple[float, float]]:
    """`n` pairs around a true ratio, on a machine whose speed wanders by a factor of two."""
    random = np.random.default_rng(seed)
    speeds = 1000 * np.exp(random.uniform(-0.35, 0.35, n))
    firsts = speeds * true_ratio * np.exp(random.normal(0, noise, n))
    return list(zip(firsts.tolist(), speeds.tolist(), strict=True))


@pytest.mark.parametrize(
    ("true_ratio", "noise", "n", "verdict"),
    [
        (1.0, 0.01, 7, "agree"),
        (1.02, 0.01, 7, "agree"),
        (1.2, 0.01, 7, "differ"),
        (0.8, 0.01, 7, "differ"),
        (1.0, 0.3, 7, "inconclusive"),
        (1.05, 0.02, 7, "inconclusive"),
        (1.0, 0.0, 5, "inconclusive"),
        (1.2, 0.0, 1, "inconclusive"),
    ],
)
def test_the_truth_is_found_or_doubted(
    true_ratio: float, noise: float, n: int, verdict: str
) -> None:
    """Clear cases are decided whatever the machine's drift; noise and few pairs are not."""
    assert stats.compare(pairs(true_ratio, noise, n), 0.05).verdict == verdict


@pytest.mark.parametrize("n", [7, 15])
def test_wrong_verdicts_are_rare(n: int) -> None:
    """Equal tools are hardly ever told apart, different ones hardly ever called equal."""
    trials = range(200)
    equal = [stats.compare(pairs(1.0, 0.05, n, seed), 0.05).verdict for seed in trials]
    different = [stats.compare(pairs(1.1, 0.05, n, seed), 0.05).verdict for seed in trials]
    assert equal.count("differ") <= 4
    assert different.count("agree") <= 4


def test_the_interval_holds_the_truth() -> None:
    """In about 95 of 100 experiments the median that was put in is inside."""
    held = 0
    for seed in range(300):
        found = stats.compare(pairs(1.3, 0.1, 11, seed), 0.05)
        held += found.low <= 1.3 <= found.high
    assert held >= 0.9 * 300


def test_the_predicted_number_of_pairs_is_of_the_right_size() -> None:
    """With about as many pairs as it asked for, most inconclusive cells are decided."""
    decided = 0
    for seed in range(50):
        first = stats.compare(pairs(1.0, 0.08, 7, seed), 0.05)
        more = first.more_pairs or (stats.MAX_MORE_PAIRS if first.verdict != "agree" else 0)
        decided += stats.compare(pairs(1.0, 0.08, 7 + 2 * more, seed), 0.05).verdict == "agree"
    assert decided >= 40


def test_a_ratio_at_the_edge_promises_nothing() -> None:
    """Where the truth is the tolerance itself, no number of pairs is named."""
    exact = [(1.05 * math.exp(way), 1.0) for way in (-0.1, -0.05, -0.02, 0, 0.02, 0.05, 0.1)]
    found = stats.compare(exact, 0.05)
    assert (found.verdict, found.more_pairs) == ("inconclusive", None)


def test_too_few_pairs_ask_for_the_rest() -> None:
    """Three equal pairs need three more before anything is said."""
    assert stats.compare([(1.0, 1.0)] * 3, 0.05).more_pairs == stats.MIN_PAIRS - 3


@given(ratios, st.floats(0.01, 0.5))
def test_the_order_of_the_tools_does_not_matter(values: list[float], tolerance: float) -> None:
    """Turned round, the ratio is the inverse and the verdict the same."""
    there = stats.compare([(value, 1.0) for value in values], tolerance)
    back = stats.compare([(1.0, value) for value in values], tolerance)
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert back.low == pytest.approx(1 / there.high)
    edges = (abs(abs(math.log(end)) - math.log1p(tolerance)) for end in (there.low, there.high))
    assume(min(edges) > 1e-9)  # where rounding decides
    assert back.verdict == there.verdict


@given(ratios, st.floats(0.01, 0.5))
def test_a_comparison_is_consistent(values: list[float], tolerance: float) -> None:
    """The ratio is in its interval, the interval in the data, the verdict what they say."""
    found = stats.compare([(value, 1.0) for value in values], tolerance)
    assert min(values) <= found.low * (1 + 1e-9)
    assert found.low <= found.ratio * (1 + 1e-9)
    assert found.ratio <= found.high * (1 + 1e-9)
    assert found.high <= max(values) * (1 + 1e-9)
    assert (found.more_pairs is None) or found.verdict == "inconclusive"
    if found.verdict == "agree":
        assert 1 / (1 + tolerance) - 1e-9 <= found.low
        assert found.high <= 1 + tolerance + 1e-9
    if found.verdict == "differ":
        assert found.low > 1 + tolerance or found.high < 1 / (1 + tolerance)


@given(ratios)
def test_the_same_pairs_give_the_same_interval(values: list[float]) -> None:
    """A stored crosscheck can be judged again."""
    assert stats.interval(values) == stats.interval(values)


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["agree", "agree"], "agree"),
        (["agree", "inconclusive"], "inconclusive"),
        (["inconclusive", "differ", "agree"], "differ"),
        (["agree", "overhead"], "agree"),
        (["overhead"], "overhead"),
        ([], "overhead"),
    ],
)
def test_one_difference_is_a_difference(verdicts: list[stats.Verdict], verdict: str) -> None:
    """Difference before doubt before agreement; overhead has no say."""
    assert stats.combine(verdicts) == verdict
