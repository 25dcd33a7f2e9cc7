"""Sizes and times are fio's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anvil_engine import units
from anvil_engine.errors import InvalidWorkload


@pytest.mark.parametrize(
    ("text", "count"),
    [("512", 512), ("4k", 4096), ("4K", 4096), ("4kb", 4096), ("1.5m", 1572864), ("2t", 2 << 40)],
)
def test_sizes_are_powers_of_1024(text, count):
    """A size means what it means to fio."""
    assert units.parse_size(text) == count


@pytest.mark.parametrize("text", ["", "k", "-4k", "4x", "4 4", "1e3", "0.3k"])
def test_what_is_no_size_is_refused(text):
    """A wrong size is an error that repeats it."""
    with pytest.raises(InvalidWorkload, match=r"size|whole"):
        units.parse_size(text)


def test_ki_is_refused_as_ambiguous():
    """`4Ki` is 4000 to fio and 4096 to everybody else, so it has no meaning here."""
    with pytest.raises(InvalidWorkload, match=r"ambiguous.*4K"):
        units.parse_size("4Ki")


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_formatted_size_parses_to_itself(count):
    """format_size is exact."""
    assert units.parse_size(units.format_size(count)) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1d", 86400)],
)
def test_times_are_seconds_unless_a_unit_is_given(text, seconds):
    """A time means what it means to fio."""
    assert units.parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10x", "-1"])
def test_what_is_no_time_is_refused(text):
    """A wrong time is an error that repeats it."""
    with pytest.raises(InvalidWorkload, match="not a time"):
        units.parse_time(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.7, "1.00k"),
        (1234567, "1.23M"),
        (56789, "56.8k"),
        (1e9, "1.00G"),
    ],
)
def test_counts_keep_three_digits(value, text):
    """A count for people never prints four digits before the point."""
    assert units.format_count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(54, "54s"), (653, "10m53s"), (7276, "2h01m"), (59.7, "1m00s")]
)
def test_durations_use_the_two_largest_units(seconds, text):
    """A duration for people."""
    assert units.format_duration(seconds) == text


def test_latencies_and_bytes_name_their_unit():
    """ns, us, ms, s; binary and decimal bytes."""
    assert [units.format_ns(value) for value in (820, 81234, 5.2e6, 3e9)] == [
        "820 ns",
        "81.2 us",
        "5.20 ms",
        "3.00 s",
    ]
    assert units.format_binary(3 << 29) == "1.50 GiB"
    assert units.format_decimal(960197124096) == "960 GB"


def test_a_bare_time_is_in_the_options_unit():
    """thinktime=500 is 500 us as in fio; a suffix wins."""
    assert units.parse_time("500", "us") == pytest.approx(5e-4)
    assert units.parse_time("2s", "us") == 2
