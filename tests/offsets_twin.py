"""What `_offsets.pxd` computes, once more in plain Python: slow, and easy to verify."""

from __future__ import annotations

import math
from collections.abc import Iterator

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


class Map:
    """Every block of 0..size-1 once per pass; each pass takes four numbers of `random`."""

    def __init__(self, size: int, random: Random) -> None:
        self.size, self.random = size, random
        self.columns = math.isqrt(size - 1) + 1
        self.rows = -(-size // self.columns)
        self._pass: Iterator[int] = iter(())

    def next(self) -> int:
        for block in self._pass:
            return block
        self._pass = self._blocks([self.random.next() for _ in range(4)])
        return next(self._pass)

    def _blocks(self, keys: list[int]) -> Iterator[int]:
        for row in range(self.rows):
            for column in range(self.columns):
                block = self.cell(row, column, keys)
                if block < self.size:
                    yield block

    def cell(self, row: int, column: int, keys: list[int]) -> int:
        """A Feistel network of four rounds that adds modulo rows and columns."""
        for over_column, over_row in (keys[:2], keys[2:]):
            column = (column + _below(row, over_column, self.columns)) % self.columns
            row = (row + _below(column, over_row, self.rows)) % self.rows
        return row * self.columns + column


def _below(value: int, key: int, bound: int) -> int:
    mixed = ((value ^ key) * 0x9E3779B97F4A7C15) & WORD
    mixed = ((mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93) & WORD
    return mixed * bound >> 64
