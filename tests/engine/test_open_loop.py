"""An open loop keeps to its schedule, or says by how much it could not."""

import math
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anvil_engine import _ioloop, histogram, native
from anvil_engine.workload import Workload

MASK = (1 << 64) - 1
GHZ = 2_600_000_000
PACED = {"rw": "randread", "bs": 4096, "size": 1 << 20, "iodepth": 32, "runtime": 0.5}
NULL_S = native.NULL_LATENCY_NS / 1e9

every_engine = pytest.mark.parametrize(
    "engine", [pytest.param("native", marks=pytest.mark.uring), "sync", "null"]
)
rates = st.integers(1, 1_000_000_000)
tick_rates = st.integers(1_000_000, 10_000_000_000)


def random_numbers(seed):
    """xoshiro256++ seeded by splitmix64, as its authors define it."""
    state = []
    for _ in range(4):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        mixed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        state.append(mixed ^ (mixed >> 31))
    a, b, c, d = state

    def rotate(value, by):
        return ((value << by) | (value >> (64 - by))) & MASK

    while True:
        yield (rotate((a + d) & MASK, 23) + a) & MASK
        shifted = (b << 17) & MASK
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= shifted
        d = rotate(d, 45)


def linear_starts(rate, ticks_per_second, count):
    return [number * ticks_per_second // rate for number in range(count)]


def poisson_starts(rate, ticks_per_second, seed, count):
    numbers, parts, starts = random_numbers(~seed & MASK), 0, []
    mean = ticks_per_second * 256.0 / rate
    for _ in range(count):
        uniform = ((next(numbers) >> 11) + 1) / 2**53
        parts += int(-math.log(uniform) * mean)
        starts.append(parts >> 8)
    return starts


def measure(engine="null", fd=-1, stop=None, **workload):
    """The result of one measurement."""
    measurement = native.Measurement(
        Workload(**PACED | workload), fd=fd, engine=engine, randseed=1
    )
    run = measurement.run(stop or threading.Event())
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


@pytest.fixture
def zeros():
    fd = os.open("/dev/zero", os.O_RDWR)
    yield fd
    os.close(fd)


# The schedule ---------------------------------------------------------------------------------


@given(rates, tick_rates, st.integers(0, 2000))
def test_linear_starts_are_their_slow_twins(rate, ticks_per_second, count):
    """Start i is floor(i / rate) in ticks: rounding never adds up."""
    starts = _ioloop.intended_starts(rate, ticks_per_second, 0, count, is_poisson=False)
    assert starts == linear_starts(rate, ticks_per_second, count)


@given(rates, tick_rates, st.integers(0, MASK), st.integers(0, 200))
def test_poisson_starts_are_their_slow_twins(rate, ticks_per_second, seed, count):
    """To the tick, for every seed."""
    starts = _ioloop.intended_starts(rate, ticks_per_second, seed, count, is_poisson=True)
    assert starts == poisson_starts(rate, ticks_per_second, seed, count)


@pytest.mark.parametrize("rate", [1, 1000, 3_000_000])
def test_poisson_gaps_are_exponential(rate):
    """The largest distance to the exponential's CDF is what chance allows (p > 0.001)."""
    count = 20_000
    starts = _ioloop.intended_starts(rate, GHZ, 7, count, is_poisson=True)
    gaps = np.sort(np.diff(np.array(starts, float), prepend=0)) * rate / GHZ
    cdf = 1 - np.exp(-gaps)
    ranks = np.arange(count + 1) / count
    distance = max(abs(cdf - ranks[1:]).max(), abs(cdf - ranks[:-1]).max())
    # A gap of less than a tick is rounded: at 3 MHz a tick is a 900th of the mean.
    assert distance < 1.95 / count**0.5 + rate / GHZ


# What was measured by it ----------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 999, 20_000])
def test_every_io_of_a_linear_schedule_is_accounted_for(rate):
    """Started and missed add up to rate x runtime, whatever the machine was doing."""
    pace = measure(rate_iops=rate).pace
    assert abs(pace.due - math.ceil(rate * PACED["runtime"])) <= (pace.started < pace.due)
    assert pace.started <= pace.due
    assert (pace.rate_iops, pace.rate_process) == (rate, "linear")


def test_every_io_of_a_poisson_schedule_is_accounted_for():
    """What was started is what the seed's schedule had until then; the rest is its mean."""
    result = measure(rate_iops=2000, rate_process="poisson")
    ticks = result.engine.get("tsc_hz", 1_000_000_000)
    starts = poisson_starts(2000, ticks, 1, 2000)
    due = sum(start < PACED["runtime"] * ticks for start in starts)
    missed = result.pace.due - result.pace.started
    assert abs(result.pace.due - due) <= 5 * missed**0.5


def test_jobs_have_a_schedule_each():
    """rate_iops is each job's, as in fio, and the result says what all of them meant to do."""
    pace = measure(rate_iops=500, numjobs=3).pace
    assert pace.rate_iops == 1500
    assert abs(pace.due - 3 * 250) <= 3


@every_engine
@pytest.mark.parametrize("process", ["linear", "poisson"])
def test_no_response_is_shorter_than_its_service(engine, process, zeros):
    """Each I/O has both times, and up to any latency there are no more responses than services."""
    result = measure(engine, zeros, rate_iops=4000, rate_process=process)
    read = result.read
    assert read.ios == read.response.ios == result.pace.started > 0
    service, response = map(histogram.unpack, (read.histogram, read.response.histogram))
    assert (np.cumsum(response) <= np.cumsum(service)).all()
    assert read.response.max_ns >= read.lat_max_ns
    assert read.response.mean_ns >= read.lat_mean_ns


def test_the_null_device_gives_its_latency_back():
    """Service time is never below what the device takes, and the best is within 5 % of it."""
    read = measure(rate_iops=2000).read
    assert 1 <= read.lat_min_ns / native.NULL_LATENCY_NS < 1.05
    assert read.response.min_ns >= native.NULL_LATENCY_NS


def test_a_rate_above_the_device_is_told_by_how_much():
    """One I/O of 100 us at a time cannot make 20 kIOPS: at least half of them is missed.

    Their wait is in the response time and not in the service time.
    """
    result = measure(rate_iops=20_000, iodepth=1)
    pace = result.pace
    assert abs(pace.due - 10_000) <= 1
    assert pace.started <= PACED["runtime"] / NULL_S + 1
    assert pace.behind_s >= PACED["runtime"] - (pace.started + 1) / 20_000
    assert pace.late >= pace.started - 2
    assert result.read.response.max_ns / 1e9 >= pace.behind_s
    assert result.read.response.mean_ns > 10 * result.read.lat_mean_ns
    (warning,) = (text for text in result.warnings if "could not keep up" in text)
    assert f"of {pace.due} I/Os that were due {pace.started} were started" in warning
    assert f"{pace.behind_s:.2f} s behind" in warning


@every_engine
def test_an_impossible_rate_ends_in_time(engine, zeros):
    """A billion I/Os a second are missed, counted and said, not waited for."""
    before = time.monotonic()
    result = measure(engine, zeros, rate_iops=1_000_000_000)
    assert time.monotonic() - before < 3
    assert result.pace.started == result.read.ios
    assert result.pace.started < result.pace.due / 2
    assert any("could not keep up" in text for text in result.warnings)


@every_engine
def test_a_mix_is_paced_as_a_whole(engine, zeros):
    """Reads and writes share one schedule, and each has its own response times."""
    result = measure(engine, zeros, rw="randrw", rate_iops=1000)
    assert result.read.ios + result.write.ios == result.pace.started <= 500
    assert result.write.response.ios == result.write.ios


def test_the_ramp_has_its_own_part_of_the_schedule():
    """What was due in the ramp is not counted."""
    pace = measure(rate_iops=1000, ramp_time=0.5).pace
    assert pace.due == pytest.approx(500, abs=100)


@every_engine
def test_a_stop_is_obeyed_between_two_starts(engine, zeros):
    """A job that waits a second for its next I/O does not let the user wait as long."""
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    before = time.monotonic()
    result = measure(engine, zeros, stop, rate_iops=1, runtime=60.0)
    assert time.monotonic() - before < 0.95
    assert result.pace.started == result.pace.due == 1


def test_a_closed_loop_has_no_response_time():
    """And says so by having none."""
    result = measure()
    assert result.pace is None
    assert result.read.response is None
