"""How large the I/Os are when they are not all alike: fio's `bssplit` and `bsrange`.

* `bssplit=4k/10:64k/50:32k/40`: sizes with their percent of the I/Os; sizes without one share
  what is left.
* `bsrange=4k-64k`: every multiple of the smallest up to the largest, alike.
"""

from __future__ import annotations

from fractions import Fraction

from anvil_engine.errors import InvalidWorkload
from anvil_engine.units import parse_size

MAX_SIZES = 64
WORD = 1 << 64


def parse_split(text: str) -> dict[int, Fraction]:
    """Percent of the I/Os by size in bytes.  Raises `InvalidWorkload`."""
    if "," in text:
        raise _wrong(text, "has sizes per direction, which is not supported; give one list")
    entries = [entry.partition("/") for entry in text.split(":")]
    try:
        sizes = [parse_size(size) for size, _, _ in entries]
        shares = [Fraction(share) if share else None for _, _, share in entries]
    except (InvalidWorkload, ValueError, ZeroDivisionError):
        raise _wrong(text, "needs sizes and percents like 4k/10:64k/90") from None
    if len(set(sizes)) != len(sizes) or len(sizes) > MAX_SIZES:
        raise _wrong(text, f"needs at most {MAX_SIZES} sizes, each once")
    return _completed(text, dict(zip(sizes, shares, strict=True)))


def parse_range(text: str) -> tuple[int, int]:
    """The smallest and the largest size in bytes.  Raises `InvalidWorkload`."""
    try:
        low, high = (parse_size(size) for size in text.split("-"))
    except ValueError:
        raise InvalidWorkload(f"bsrange={text} needs two sizes like 4k-64k") from None
    except InvalidWorkload as error:
        raise InvalidWorkload(f"bsrange={text}: {error}") from None
    if not 0 < low <= high:
        raise InvalidWorkload(f"bsrange={text} needs a smaller size above 0 first")
    return low, high


def split_table(split: dict[int, Fraction]) -> list[list[int]]:
    """Rows of bound and bytes: a 64-bit random number takes the first row it is below."""
    rows, summed = [], Fraction(0)
    for size, share in split.items():
        if share:
            summed += share
            rows.append([min(int(WORD * summed / 100), WORD - 1), size])
    return rows


def _completed(text: str, shares: dict[int, Fraction | None]) -> dict[int, Fraction]:
    """Every size with its percent: those without share what the others leave."""
    given = sum((share for share in shares.values() if share is not None), Fraction(0))
    open_sizes = sum(share is None for share in shares.values())
    if given > 100 or (not open_sizes and given != 100):
        raise _wrong(text, f"has percents of {float(given):g} together; use 100")
    if any(size <= 0 or (share is not None and share < 0) for size, share in shares.items()):
        raise _wrong(text, "needs sizes above 0, and percents that are not below")
    rest = (100 - given) / open_sizes if open_sizes else Fraction(0)
    split = {size: rest if share is None else share for size, share in shares.items()}
    return {size: share for size, share in split.items() if share}


def _wrong(text: str, why: str) -> InvalidWorkload:
    return InvalidWorkload(f"bssplit={text} {why}")
