"""The offsets that the loop would issue, against their twin in plain Python."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from offsets_twin import Map, Places, Random, Varied

from anvil_engine import _ioloop, blocksizes, distribution, native, offsets
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
    states = [Random(offsets.job_seed(5, job)).s for job in range(64)]
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
        found = mixed[mixed[:, 2] == direction][:, 0]
        assert found.tolist() == [4096 * (i % 16) for i in range(len(found))]


@pytest.mark.parametrize("rw", ["write", "randwrite"])
def test_each_job_has_its_part_of_the_target(rw):
    """With offset_increment jobs keep to spans that begin so much later, and fill them."""
    for job in range(3):
        rows = issued(
            32, rw=rw, norandommap=False, offset=4096, offset_increment=1 << 20, numjobs=3,
            size=32 * 4096, job=job,
        )  # fmt: skip
        start = 4096 + job * (1 << 20)
        assert sorted(rows[:, 0]) == list(range(start, start + 32 * 4096, 4096))


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


# Distributions -------------------------------------------------------------------------------


def drawn(count, kind, blocks, seed=1):
    """Blocks of a range of `blocks`, drawn by `random_distribution=kind`."""
    return issued(count, seed, bs=1, size=blocks, random_distribution=kind)[:, 0].astype(np.int64)


@given(
    seeds,
    st.integers(1, 1 << 46),
    st.sampled_from(["zipf", "pareto", "normal"]),
    st.floats(0.01, 0.99),
    st.none() | st.floats(0, 1),
)
def test_distributions_are_those_of_the_twin(seed, blocks, kind, shape, centre):
    """Every draw is the twin's, to the block: for any shape, range and centre."""
    shape *= {"zipf": 3, "pareto": 1, "normal": 100}[kind]
    text = f"{kind}:{shape!r}" + ("" if centre is None else f":{centre!r}")
    of = distribution.parse(text)
    twin = Places(
        kind,
        blocks,
        distribution.loop_shape(of, blocks),
        distribution.loop_centre(of),
        Random(seed),
    )
    assert drawn(20, text, blocks, seed).tolist() == [twin.next() for _ in range(20)]


@pytest.mark.parametrize("theta", [0.3, 0.9, 0.9999999999, 1.0, 1.2, 2.5])
@pytest.mark.parametrize("centre", ["", ":0"])
def test_zipf_has_its_frequencies(theta, centre):
    """Rank k is drawn as often as scipy's zipfian says, scattered or not."""
    blocks, count = 1000, 200_000
    counts = np.bincount(drawn(count, f"zipf:{theta}{centre}", blocks), minlength=blocks)
    if not centre:
        twin = Places("zipf", blocks, theta, -1.0, Random(1))
        counts = counts[[twin.scatter(rank) for rank in range(blocks)]]
    expected = count * scipy.stats.zipfian(theta, blocks).pmf(np.arange(1, blocks + 1))
    enough = np.flatnonzero(expected >= 5)[-1] + 1
    observed = [*counts[:enough], counts[enough:].sum()]
    wanted = [*expected[:enough], max(expected[enough:].sum(), 1e-9)]
    if enough == blocks:
        observed, wanted = observed[:-1], wanted[:-1]
    assert scipy.stats.chisquare(observed, wanted, sum_check=False).pvalue > 1e-6


def test_zipf_over_a_huge_range_has_its_cumulated_frequencies():
    """Over 2**40 blocks the share of the first 1, 10, 1000 … ranks is that of scipy."""
    count, blocks = 200_000, 1 << 40
    ranks = drawn(count, "zipf:1.2:0", blocks)
    for past in (1, 10, 1000, 10**6, 10**9):
        share = scipy.special.zeta(1.2) - scipy.special.zeta(1.2, past + 1)
        share /= scipy.special.zeta(1.2) - scipy.special.zeta(1.2, blocks + 1)
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs((ranks < past).mean() - share) < 5 * deviation


@pytest.mark.parametrize("h", [0.1, 0.2, 0.5, 0.9])
def test_pareto_has_its_distribution(h):
    """Ranks follow scipy's power law, with fio's exponent."""
    count, blocks = 100_000, 1 << 40
    ranks = drawn(count, f"pareto:{h}:0", blocks)
    law = scipy.stats.powerlaw(np.log(1 - h) / np.log(h))
    for part in (1e-9, 1e-6, 0.001, 0.1, 0.2, 0.5, 0.9, 0.999):
        past = int(part * blocks)
        assert (
            scipy.stats.binomtest(int((ranks < past).sum()), count, law.cdf(past / blocks)).pvalue
            > 1e-6
        )
    if h == 0.2:
        assert abs((ranks < 0.2 * blocks).mean() - 0.8) < 0.01


@pytest.mark.parametrize(("deviation", "centre"), [(1, 0.5), (20, 0.5), (100, 0.5), (10, 0.25)])
def test_normal_has_its_distribution(deviation, centre):
    """Blocks follow scipy's normal distribution, cut at the ends of the range."""
    places = drawn(100_000, f"normal:{deviation}:{centre}", 1 << 40) / (1 << 40)
    scale = deviation / 100
    law = scipy.stats.truncnorm(-centre / scale, (1 - centre) / scale, centre, scale)
    assert scipy.stats.kstest(places, law.cdf).pvalue > 1e-6


def test_zones_have_their_shares():
    """JESD219's zones: half of the I/Os in 5 % of the range, and evenly within each zone."""
    blocks, count = 1 << 30, 200_000
    places = drawn(count, "zoned:50/5:30/15:20/80", blocks) / blocks
    for low, high, share in ((0, 0.05, 0.5), (0.05, 0.2, 0.3), (0.2, 1, 0.2)):
        inside = places[(low <= places) & (places < high)]
        assert scipy.stats.binomtest(len(inside), count, share).pvalue > 1e-6
        law = scipy.stats.uniform(low, high - low)
        assert scipy.stats.kstest(inside, law.cdf).pvalue > 1e-6


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 100_000))
def test_zones_cover_the_range(weights, blocks):
    """Zones of at least a block each follow one another to the end; no row leaves the range."""
    total = sum(weights)
    zones = tuple((Fraction(100 * w, total), Fraction(100 * w, total)) for w in weights)
    rows = distribution.zone_table(zones, blocks)
    assert rows[-1][0] == (1 << 64) - 1
    assert rows[0][1] == 0
    assert rows[-1][1] + rows[-1][2] == blocks
    assert all(count >= 1 and first + count <= blocks for _, first, count in rows)
    if blocks >= 100 * total:
        for one, following in pairwise(rows):
            assert one[1] + one[2] == following[1]


def test_a_zone_without_ios_is_left_alone():
    """0 percent of the I/Os go nowhere near that zone."""
    places = drawn(1000, "zoned:50/40:0/20:50/40", 1000)
    assert not ((places >= 400) & (places < 600)).any()


@pytest.mark.parametrize("rwmixread", [30, 70])
def test_a_mix_keeps_its_distribution(rwmixread):
    """Direction and place are drawn apart: both directions see the same zones."""
    rows = issued(
        20_000, rw="randrw", rwmixread=rwmixread, random_distribution="zoned:90/10:10/90", bs=1
    )
    for direction in (_ioloop.READ, _ioloop.WRITE):
        found = rows[rows[:, 2] == direction][:, 0]
        assert abs((found < (1 << 20) * 0.1).mean() - 0.9) < 0.02


# Several block sizes -------------------------------------------------------------------------

varied = st.sampled_from(
    [
        {"bssplit": "4k/50:64k/50"},
        {"bssplit": "512/1:1536/:128k/30"},
        {"bsrange": "4k-64k"},
        {"bsrange": "3k-10k"},
    ]
)


@given(seeds, varied, st.sampled_from(["randwrite", "write"]), st.integers(128 << 10, 1 << 24))
def test_several_sizes_are_those_of_the_twin(seed, sizes, rw, size):
    """Every offset and size is the twin's, and no I/O leaves the range."""
    workload = Workload(rw=rw, bs=1, size=size, **sizes)
    blocks = size // workload.bs
    rows = blocksizes.split_table(workload.split)
    twin = Varied(workload.bs, workload.largest_bs, rows, blocks, Random(seed))
    decide = twin.anywhere if rw == "randwrite" else twin.in_sequence
    found = issued(60, seed, **{"rw": rw, "size": size, "bs": 1, **sizes})
    assert found[:, :2].tolist() == [list(decide()) for _ in range(60)]
    assert (found[:, 0] + found[:, 1]).max() <= blocks * workload.bs


def test_a_split_has_its_shares():
    """Each size is drawn as often as its percent says, by a chi-square test."""
    count, shares = 200_000, {4096: 10, 8192: 65, 65536: 25}
    rows = issued(count, bssplit="4k/10:8k:64k/25", size=1 << 30)
    drawn_sizes, counts = np.unique(rows[:, 1], return_counts=True)
    assert drawn_sizes.tolist() == list(shares)
    expected = [count * share / 100 for share in shares.values()]
    # 64k does not fit in the last fifteen places; of 262144 that does not show.
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-6


def test_a_range_has_every_multiple_alike():
    """bsrange draws every multiple of its smallest size up to the largest, equally often."""
    rows = issued(100_000, bsrange="4k-20k", size=1 << 34)
    drawn_sizes, counts = np.unique(rows[:, 1], return_counts=True)
    assert drawn_sizes.tolist() == [4096 * i for i in range(1, 6)]
    assert scipy.stats.chisquare(counts).pvalue > 1e-6


def test_a_sequence_of_several_sizes_has_no_gap():
    """Each I/O starts where the one before ended, until the range is over."""
    rows = issued(5000, rw="read", bssplit="4k/50:12k/50", size=1 << 20)
    past = rows[:-1, 0] + rows[:-1, 1]
    assert ((rows[1:, 0] == past) | ((rows[1:, 0] == 0) & (past == 1 << 20))).all()
