"""The offsets that the loop would issue, against their twin in plain Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from offsets_twin import Random

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
