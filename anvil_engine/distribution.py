"""How often which part of the range is used: fio's `random_distribution`.

* `random`: every block alike.
* `zipf:THETA[:CENTRE]`: the block of rank k as often as k**-THETA.
* `pareto:H[:CENTRE]`: the first share x of the ranks gets the share x**(1 / POWER) of the
  I/Os, where POWER = log(H) / log(1 - H); with H = 0.2 a fifth of the blocks gets 80 %.
* `normal:DEVIATION[:CENTRE]`: a bell around the centre, cut at the ends of the range;
  DEVIATION is in percent of the range.
* `zoned:ACCESS/SIZE:…`: ACCESS percent of the I/Os go to the next SIZE percent of the range.

Ranks of zipf and pareto are scattered over the range; a CENTRE (0 … 1) puts the first one
there, and the others after it, wrapping round.  A normal distribution's is 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from anvil_engine.errors import InvalidWorkload

SHAPES = {"zipf": "theta", "pareto": "h", "normal": "deviation"}
NAMES = ("random", *SHAPES, "zoned")
MAX_ZONES = 256
WORD = 1 << 64


@dataclass(frozen=True)
class Distribution:
    """`random_distribution`, parsed.  `zones` are (percent of I/Os, percent of the range)."""

    kind: str
    shape: float = 0.0
    centre: float | None = None
    zones: tuple[tuple[Fraction, Fraction], ...] = ()


def parse(text: str) -> Distribution:
    """The distribution that `text` names.  Raises `InvalidWorkload`."""
    kind, _, rest = text.partition(":")
    if kind in ("random", "uniform") and not rest:
        return Distribution("random")
    if kind in SHAPES:
        return _shaped(text, kind, rest)
    if kind == "zoned":
        return Distribution(kind, zones=_zones(text, rest))
    raise _wrong(text, f"is not known; use one of {', '.join(NAMES)}")


def loop_shape(of: Distribution, blocks: int) -> float:
    """The one number that the loop needs: theta, power, or a deviation in blocks."""
    if of.kind == "pareto":
        return math.log(of.shape) / math.log(1 - of.shape)
    return of.shape / 100 * blocks if of.kind == "normal" else of.shape


def loop_centre(of: Distribution) -> float:
    """The centre as a share of the range; negative to scatter the ranks."""
    if of.centre is not None:
        return of.centre
    return 0.5 if of.kind == "normal" else -1.0


def zone_table(zones: tuple[tuple[Fraction, Fraction], ...], blocks: int) -> list[list[int]]:
    """Rows of bound, first block, number of blocks, for a range of `blocks`.

    A 64-bit random number takes the first row whose bound is above it.  Zones are cut at
    whole blocks; one that is used has at least one block.
    """
    rows, access, size = [], Fraction(0), Fraction(0)
    for share, extent in zones:
        access += share
        first = min(int(blocks * size / 100), blocks - 1)
        size += extent
        if share:
            count = max(1, int(blocks * size / 100) - first)
            rows.append([min(int(WORD * access / 100), WORD - 1), first, count])
    return rows


def _shaped(text: str, kind: str, rest: str) -> Distribution:
    name = SHAPES[kind]
    shape, _, centre = rest.partition(":")
    try:
        parsed = Distribution(kind, float(shape), float(centre) if centre else None)
    except ValueError:
        raise _wrong(text, f"needs numbers: {kind}:{name} or {kind}:{name}:centre") from None
    low, high = {"zipf": (0, 100), "pareto": (0, 1), "normal": (0, 100)}[kind]
    if not (low < parsed.shape < high or (kind == "normal" and parsed.shape == high)):
        raise _wrong(text, f"needs a {name} between {low} and {high}")
    if parsed.centre is not None and not 0 <= parsed.centre <= 1:
        raise _wrong(text, "needs a centre in 0..1")
    return parsed


def _zones(text: str, rest: str) -> tuple[tuple[Fraction, Fraction], ...]:
    if "," in rest:
        raise _wrong(text, "has zones per direction, which is not supported; give one list")
    try:
        pairs = [zone.split("/") for zone in rest.split(":")]
        zones = tuple((Fraction(access), Fraction(size)) for access, size in pairs)
    except (ValueError, ZeroDivisionError):
        raise _wrong(
            text, "needs zones like zoned:60/10:40/90 (percent of I/Os / of range)"
        ) from None
    if len(zones) > MAX_ZONES:
        raise _wrong(text, f"has more than {MAX_ZONES} zones")
    for which, total in zip(("I/Os", "range"), map(sum, zip(*zones, strict=True)), strict=True):
        if total != 100:
            raise _wrong(text, f"has zones of {float(total):g} percent of the {which}; use 100")
    if any(access < 0 or size <= 0 for access, size in zones):
        raise _wrong(text, "needs zones of more than 0 percent of the range")
    return zones


def _wrong(text: str, why: str) -> InvalidWorkload:
    return InvalidWorkload(f"random_distribution={text} {why}")
