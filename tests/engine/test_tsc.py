"""The TSC is used only where it is trusted, and at its true rate."""

import pytest

from anvil_engine import _ioloop, tsc


@pytest.fixture
def a_host(tmp_path):
    def make(clocksource="tsc", flags="fpu constant_tsc nonstop_tsc"):
        source = tmp_path / "sys/devices/system/clocksource/clocksource0/current_clocksource"
        source.parent.mkdir(parents=True)
        source.write_text(f"{clocksource}\n")
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ({}, True),
        ({"clocksource": "hpet"}, False),
        ({"clocksource": "kvm-clock"}, False),
        ({"flags": "fpu constant_tsc"}, False),
        ({"flags": "fpu nonstop_tsc"}, False),
    ],
)
def test_kernel_and_cpu_must_both_vouch(a_host, host, trusted):
    """The TSC is a clock where the kernel keeps time by it and the CPU calls it invariant."""
    assert tsc.is_trusted(a_host(**host)) is trusted


def test_a_host_that_tells_nothing_is_not_trusted(tmp_path):
    """No clocksource and no cpuinfo: CLOCK_MONOTONIC."""
    assert not tsc.is_trusted(tmp_path)


def test_the_rate_is_ticks_over_time():
    """Two readings 50 ms apart give the rate; where there is no TSC there is none."""
    pairs = iter([(1000, 0, 1), (1000 + 115_000_000, 50_000_000, 1)])
    assert tsc.calibrate(lambda: next(pairs)).ticks_per_second == 2_300_000_000
    assert tsc.calibrate(lambda: None) is None


def test_drift_is_how_far_the_clocks_moved_apart():
    """A TSC that gained a millionth since its calibration drifts by 1 ppm."""
    rate = tsc.Rate(1_000_000_000, (0, 0, 1))
    assert rate.drift_ppm((1_000_001_000, 1_000_000_000, 1)) == pytest.approx(1.0)
    assert rate.drift_ppm((999_999_000, 1_000_000_000, 1)) == pytest.approx(-1.0)


def test_this_machines_clocks_agree():
    """The calibrated TSC and CLOCK_MONOTONIC stay together on this machine."""
    rate = tsc.rate(_ioloop.read_clocks)
    if rate is None:
        pytest.skip("this machine's TSC is not trusted")
    assert abs(tsc.calibrate(_ioloop.read_clocks).ticks_per_second / rate.ticks_per_second - 1) < (
        1e-3
    )
