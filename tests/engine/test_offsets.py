"""The offsets that the loop would issue, against their twin in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offsets_twin import Map, Random

from anvil_engine import _ioloop, native
from anvil_engine.workload import Workload

seeds = st.integers(0, (1 << 64) - 1)


def issued(count, seed=1, job=0, **fields):
    """The first `count` I/Os of one job, as rows of offset, bytes and direction."""
    fields = {"rw": "randread", "bs": 4096, "size": 1 << 20, **fields}
    measurement = native.Measurement(Workload(**fields), fd=-1, engine="null", randseed=seed)
    return measurement.preview(job, count)


@given(seeds, st.integers(1, 1 << 46))
def test_independent_draws_are_those_of_the_twin(seed, blocks):
    """Without a map every offset is one number of the generator, scaled to the range."""
    random = Random(seed)
    rows = issued(20, seed, bs=1, size=blocks)
    assert rows[:, 0].tolist() == [random.below(blocks) for _ in range(20)]


@given(seeds, st.integers(1, 99))
def test_a_mix_draws_its_direction_first(seed, rwmixread):
    """A mixed I/O takes two numbers: direction, then block."""
    random, expected = Random(seed), []
    for _ in range(20):
        write = random.next() >= (1 << 64) // 100 * rwmixread
        expected.append([random.below(256) * 4096, 4096, int(write)])
    assert issued(20, seed, rw="randrw", rwmixread=rwmixread).tolist() == expected


@pytest.mark.parametrize("rw", ["randread", "randrw"])
def test_the_seed_alone_decides(rw):
    """The same seed gives the same offsets whatever the depth; another gives others."""
    first = issued(100, 7, rw=rw).tolist()
    assert issued(100, 7, rw=rw, iodepth=32, numjobs=3).tolist() == first
    assert issued(100, 8, rw=rw).tolist() != first


def test_jobs_have_streams_of_their_own():
    """No two jobs of a run share a word of their generators' states."""
    states = [Random(native.job_seed(5, job)).s for job in range(64)]
    assert len({word for state in states for word in state}) == 4 * 64
    assert issued(9, job=1, numjobs=2).tolist() != issued(9, job=0, numjobs=2).tolist()


def test_sequential_positions_are_each_jobs_own():
    """Every job and every direction starts at the offset and wraps at the end of the range."""
    for job in (0, 1):
        rows = issued(6, rw="write", bs=4096, offset=8192, size=4 * 4096, numjobs=2, job=job)
        assert rows[:, 0].tolist() == [8192 + 4096 * (i % 4) for i in range(6)]
        assert set(rows[:, 2]) == {_ioloop.WRITE}
    mixed = issued(200, rw="rw", size=16 * 4096)
    for direction in (_ioloop.READ, _ioloop.WRITE):
        offsets = mixed[mixed[:, 2] == direction][:, 0]
        assert offsets.tolist() == [4096 * (i % 16) for i in range(len(offsets))]


# The random map ------------------------------------------------------------------------------

MAP = {"norandommap": False, "bs": 1}


def blocks(count, seed=1, **fields):
    return issued(count, seed, **MAP | fields)[:, 0]


@given(seeds, st.integers(1, 3000))
def test_a_pass_takes_every_block_once(seed, size):
    """Two passes are two permutations of the range, for any size and seed."""
    found = blocks(2 * size, seed, size=size)
    for order in (found[:size], found[size:]):
        assert (np.sort(order) == np.arange(size)).all()


@given(seeds, st.integers(1, 400), st.integers(1, 99))
def test_a_mix_shares_the_map(seed, size, rwmixread):
    """Reads and writes together take every block once."""
    rows = issued(size, seed, **MAP, rw="randrw", size=size, rwmixread=rwmixread)
    assert sorted(rows[:, 0]) == list(range(size))


@given(seeds, st.integers(1, 1 << 46))
def test_the_map_is_that_of_the_twin(seed, size):
    """The order of the blocks is the twin's, up to 64 TiB in bytes."""
    twin = Map(size, Random(seed))
    assert blocks(40, seed, size=size).tolist() == [twin.next() for _ in range(40)]


@settings(max_examples=20)
@given(seeds, st.integers(1 << 20, 1 << 46))
def test_a_huge_range_repeats_nothing(seed, size):
    """A hundred thousand blocks of a huge range are different ones, all inside."""
    found = blocks(100_000, seed, size=size)
    assert len(np.unique(found)) == len(found)
    assert found.max() < size


def test_every_pass_has_an_order_of_its_own():
    """The second pass does not repeat the first one's order, nor does another seed."""
    found = blocks(2000, 1, size=1000)
    assert np.mean(found[:1000] == found[1000:]) < 0.02
    assert np.mean(found[:1000] == blocks(1000, 2, size=1000)) < 0.02


@pytest.mark.parametrize("size", [10_000, 65_536, 1_000_003])
def test_the_order_looks_random(size):
    """No run of a pass prefers a part of the range, and neighbours in time are strangers.

    Against what independent draws do: 16 parts of the range in each 16th of the pass
    (chi-square, 225 degrees of freedom, six standard deviations), the correlation of
    successive blocks (five), and the mean distance of a jump, a third of the range (1 %).
    """
    order = blocks(size, 3, size=size).astype(np.int64)
    cells, *_ = np.histogram2d(np.arange(size), order, bins=16)
    expected = size / 256
    assert ((cells - expected) ** 2 / expected).sum() < 225 + 6 * (2 * 225) ** 0.5
    for lag in (1, 2, 3, 100):
        correlation = np.corrcoef(order[:-lag], order[lag:])[0, 1]
        assert abs(correlation) < 5 / size**0.5
    assert abs(np.abs(np.diff(order)).mean() / size - 1 / 3) < 0.01
