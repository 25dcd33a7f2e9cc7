"""Sizes and times between people and base units: "4k" and 4096, "10m" and 600 s.

The suffixes are fio's: `k m g t p` are powers of 1024.  fio reads `Ki` as 1000, the
reverse of IEC 80000-13, so the `i` forms are refused instead of guessed.
"""

from __future__ import annotations

import re
from fractions import Fraction

from anvil_engine.errors import InvalidWorkload

_SIZE_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgtp]?)(i?)b?", re.IGNORECASE)
_SECONDS = {
    "us": 1e-6,
    "usec": 1e-6,
    "ms": 1e-3,
    "msec": 1e-3,
    "": 1.0,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_TIME = re.compile(r"(\d+(?:\.\d+)?)([a-z]*)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size in fio's notation: `4k`, `1g`, `512`, `1.5m`, `4kb`.

    Raises `InvalidWorkload` for anything else, for `4Ki`, and for a fraction of a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidWorkload(f"{text!r} is not a size; write bytes or a form like 4k, 1m, 2g")
    number, suffix, binary = match.groups()
    if binary:
        raise InvalidWorkload(
            f"{text!r} is ambiguous (fio reads Ki as 1000); write {number}{suffix} for "
            "powers of 1024, or the bytes"
        )
    scaled = Fraction(number) * (1 << 10 * _SIZE_POWER[suffix.lower()])
    if scaled.denominator != 1:
        raise InvalidWorkload(f"{text!r} is not a whole number of bytes")
    return scaled.numerator


def parse_time(text: str, unit: str = "s") -> float:
    """Seconds of a time in fio's notation: `10`, `10s`, `500ms`, `2m`, `1h`, `1d`.

    `unit` is that of a bare number: seconds, or what fio has for the option.  Raises `InvalidWorkload` for anything else.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None or match.group(2).lower() not in _SECONDS:
        raise InvalidWorkload(f"{text!r} is not a time; write seconds or a form like 500ms, 2m")
    return float(match.group(1)) * _SECONDS[match.group(2).lower() or unit]


def format_size(count: int) -> str:
    """The shortest exact form: 4096 is "4k", 1048576 is "1m", 513 is "513"."""
    for suffix in ("p", "t", "g", "m", "k"):
        unit = 1 << 10 * _SIZE_POWER[suffix]
        if count and count % unit == 0:
            return f"{count // unit}{suffix}"
    return str(count)


def format_binary(count: float) -> str:
    """Bytes for people in binary units: 1288490188 is "1.20 GiB"."""
    return _scaled(count, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"))


def format_decimal(count: float) -> str:
    """Bytes for people in decimal units, as drives are sold: 960197124096 is "960 GB"."""
    return _scaled(count, 1000, (" B", " kB", " MB", " GB", " TB", " PB"))


def format_count(value: float) -> str:
    """A rate or count for people: 1234567 is "1.23M", 950 is "950"."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T"))


def format_ns(value: float) -> str:
    """A latency for people: 820 is "820 ns", 81234 is "81.2 us"."""
    return _scaled(value, 1000, (" ns", " us", " ms", " s"))


def format_duration(seconds: float) -> str:
    """A time span for people: 54 is "54s", 653 is "10m53s", 7276 is "2h01m"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    """Three significant digits in the largest unit that leaves one before the point."""
    power = 0
    # 999.5 of the smaller unit would print as 1000.
    while abs(value) >= step - 0.5 and power < len(units) - 1:
        value /= step
        power += 1
    digits = 0 if power == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}{units[power]}"
