"""What `_offsets.pxd` computes, once more in plain Python: slow, and easy to verify."""

from __future__ import annotations

WORD = (1 << 64) - 1


def splitmix(state: int) -> int:
    """One output of splitmix64 for the state after its step."""
    mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & WORD
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & WORD
    return mixed ^ mixed >> 31


class Random:
    """xoshiro256++, seeded by splitmix64."""

    def __init__(self, seed: int) -> None:
        self.s = [splitmix((seed + (i + 1) * 0x9E3779B97F4A7C15) & WORD) for i in range(4)]

    def next(self) -> int:
        a, b, c, d = self.s
        result = (_rotate((a + d) & WORD, 23) + a) & WORD
        c ^= a
        d ^= b
        self.s = [a ^ d, b ^ c, c ^ (b << 17 & WORD), _rotate(d, 45)]
        return result

    def below(self, bound: int) -> int:
        """A number in 0..bound-1."""
        return self.next() * bound >> 64


def _rotate(value: int, by: int) -> int:
    return (value << by | value >> 64 - by) & WORD
