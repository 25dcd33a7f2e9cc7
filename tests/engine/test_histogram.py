"""The histogram's geometry is fio's, and its algebra holds."""

import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anvil_engine import histogram

latencies = st.lists(
    st.integers(0, 64).flatmap(lambda bits: st.integers(0, (1 << bits) - 1 if bits else 0)),
    max_size=50,
)
nonempty = latencies.filter(bool)


def of(values):
    counts = histogram.empty()
    histogram.record(counts, values)
    return counts


@given(st.integers(0, (1 << 64) - 1))
def test_every_value_is_within_its_bucket(value):
    """A bucket holds the values between its bounds; past the range the last one holds all."""
    low, past = histogram.bucket_bounds(histogram.bucket_index(value))
    assert low <= value
    assert value < past or value >= histogram.CLAMP_NS


@given(st.integers(128, histogram.CLAMP_NS - 1))
def test_the_midpoint_is_within_a_128th(value):
    """The relative error of a bucket's midpoint is below 1/128."""
    midpoint = histogram.MIDPOINTS_NS[histogram.bucket_index(value)]
    assert abs(midpoint - value) / value <= 1 / 128


def test_bins_are_those_of_fio():
    """The first buckets, and bins that fio 3.33 prints in json+, fall where fio puts them."""
    assert [histogram.bucket_index(value) for value in (0, 127, 128, 129, 130)] == [
        0, 127, 128, 128, 129,
    ]  # fmt: skip
    for fio_bin in (129, 131, 454, 1176, 10304, 94720, 2007040):
        assert histogram.MIDPOINTS_NS[histogram.bucket_index(fio_bin)] == fio_bin


def test_buckets_leave_no_gap():
    """Each bucket begins where the one before ends."""
    bounds = [histogram.bucket_bounds(index) for index in range(histogram.N_BUCKETS)]
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    assert bounds[-1][1] == histogram.CLAMP_NS


@given(latencies, latencies)
def test_merging_equals_recording_together(first, second):
    """merge(of(a), of(b)) is of(a + b), in either order."""
    merged = histogram.merge([of(first), of(second)])
    assert (merged == of(first + second)).all()
    assert (merged == histogram.merge([of(second), of(first)])).all()


@given(latencies, latencies)
def test_a_difference_is_what_came_later(earlier, later):
    """diff undoes merge."""
    assert (histogram.diff(of(earlier + later), of(earlier)) == of(later)).all()


@given(latencies)
def test_packing_loses_nothing(values):
    """unpack(pack(h)) is h."""
    assert (histogram.unpack(histogram.pack(of(values))) == of(values)).all()


@pytest.mark.parametrize(
    "junk", [b"", b"junk", zlib.compress(b"short"), zlib.compress(b"\xff" * 12)]
)
def test_junk_does_not_unpack(junk):
    """What pack did not write is an error, not a histogram."""
    with pytest.raises(ValueError, match="not a packed histogram"):
        histogram.unpack(junk)


@given(nonempty, st.lists(st.floats(0.0001, 100), min_size=2, max_size=6))
def test_percentiles_agree_with_sorting(values, percents):
    """A percentile is the bucket of the value that sorting finds at that rank."""
    ordered = sorted(values)
    for percent, found in zip(percents, histogram.percentiles(of(values), percents), strict=True):
        rank = max(1, int(np.ceil(len(ordered) * percent / 100 - 1e-9)))
        assert found == histogram.MIDPOINTS_NS[histogram.bucket_index(ordered[rank - 1])]


def test_past_the_range_is_clamped_and_counted():
    """A value past the last bucket is counted there, and counted as clamped."""
    counts = histogram.empty()
    assert histogram.record(counts, [5, histogram.CLAMP_NS - 1, histogram.CLAMP_NS, 1 << 63]) == 2
    assert counts[-1] == 3
    assert histogram.total(counts) == 4


def test_mean_and_deviation_come_from_midpoints():
    """Below 128 ns buckets are exact, so the moments are."""
    counts = of([10, 20, 60])
    assert histogram.mean(counts) == 30
    assert histogram.stddev(counts) == pytest.approx(np.std([10, 20, 60]))


def test_nothing_recorded_has_no_percentile():
    """An empty histogram has no percentile and no mean."""
    with pytest.raises(histogram.EmptyHistogram):
        histogram.percentile(histogram.empty(), 50)
    with pytest.raises(histogram.EmptyHistogram):
        histogram.mean(histogram.empty())


def test_bins_list_what_is_used():
    """bins are ascending midpoints with counts above 0."""
    assert histogram.bins(of([7, 7, 1000])) == [(7, 2), (1004, 1)]
