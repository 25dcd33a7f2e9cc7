"""fio's documents are read as they are, whatever is around them."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anvil_engine import fio_json, histogram

DOCUMENT = {"jobs": [{"read": {"lat_ns": {"N": 0}}}]}
TEXT = json.dumps(DOCUMENT, indent=2)


@given(
    st.lists(st.sampled_from([TEXT, "fio: terminating on signal 2", "", "note: x { y }"])),
    st.integers(1, 40),
)
def test_documents_are_found_among_messages_however_they_arrive(parts: list[str], step: int):
    """Cut anywhere, the stream gives each document once, and the messages in order."""
    stream = "".join(f"{part}\n" for part in parts).encode()
    parser, found = fio_json.Documents(), []
    for start in range(0, len(stream), step):
        found += parser.feed(stream[start : start + step])
    assert found == [DOCUMENT] * parts.count(TEXT)
    assert parser.messages == [part for part in parts if part not in (TEXT, "")]


@given(st.lists(st.integers(0, 1 << 34), max_size=50))
def test_bins_are_read_as_they_are_written(values: list[int]):
    """A histogram survives fio's form, as far as fio's range goes."""
    counts = histogram.empty()
    histogram.record(counts, values)
    again = fio_json.counts({"bins": fio_json.bins(counts)})
    last = fio_json.FIO_LAST_BUCKET
    assert (again[:last] == counts[:last]).all()
    assert again[last] == counts[last:].sum()
    assert not again[last + 1 :].any()


def test_a_direction_has_lat_and_not_clat():
    """Numbers come from lat_ns; clat is another quantity."""
    side = {
        "io_bytes": 12288,
        "clat_ns": {"min": 1, "max": 2, "mean": 1.5, "bins": {"1": 1, "2": 2}},
        "lat_ns": {"min": 100, "max": 301, "mean": 200.0, "bins": {"100": 1, "201": 1, "301": 1}},
    }
    found = fio_json.direction_result(side, 2.0)
    assert found is not None
    assert (found.ios, found.iops, found.io_bytes) == (3, 1.5, 12288)
    assert (found.lat_min_ns, found.lat_mean_ns, found.lat_max_ns) == (100, 200.0, 301)
    assert found.clamped == 0


def test_fios_last_bucket_counts_as_clamped():
    """fio puts all that is slower than 17 s there."""
    slow = int(histogram.MIDPOINTS_NS[fio_json.FIO_LAST_BUCKET])
    lat = {"min": 5, "max": slow, "mean": 9.0, "bins": {"5": 1, str(slow): 4}}
    found = fio_json.direction_result({"io_bytes": 5, "lat_ns": lat}, 1.0)
    assert found is not None
    assert found.clamped == 4


def test_nothing_recorded_is_no_direction():
    """An idle direction is None, never zeros."""
    lat = {"min": 0, "max": 0, "mean": 0.0, "N": 0}
    assert fio_json.direction_result({"io_bytes": 0, "lat_ns": lat}, 1.0) is None
    assert not np.any(fio_json.counts(lat))
