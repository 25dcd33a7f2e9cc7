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


class Places:
    """A distribution over the blocks 0..blocks-1; `shape` and `centre` as the loop takes them."""

    def __init__(
        self, kind: str, blocks: int, shape: float, centre: float, random: Random
    ) -> None:
        self.kind, self.blocks, self.shape, self.centre = kind, blocks, shape, centre
        self.random = random
        self.map = Map(blocks, random)
        if scattered := kind != "normal" and centre < 0:
            self.keys = [random.next() for _ in range(4)]
        self.place = self.scatter if scattered else self.shift

    def next(self) -> int:
        if self.kind == "normal":
            return self.normal()
        return self.place(self.zipf() if self.kind == "zipf" else self.pareto())

    def unit(self) -> float:
        return (self.random.next() >> 11) * 2.0**-53

    def scatter(self, rank: int) -> int:
        while True:
            rank = self.map.cell(*divmod(rank, self.map.columns), self.keys)
            if rank < self.blocks:
                return rank

    def shift(self, rank: int) -> int:
        return (rank + int(self.centre * self.blocks)) % self.blocks

    def pareto(self) -> int:
        return int(min(self.blocks * self.unit() ** self.shape, self.blocks - 1))

    def normal(self) -> int:
        while True:
            radius = math.sqrt(-2.0 * math.log(1.0 - self.unit()))
            angle = 6.283185307179586 * self.unit()
            place = self.centre * self.blocks + self.shape * radius * math.cos(angle)
            if 0 <= place < self.blocks:
                return int(place)

    def zipf(self) -> int:
        """Rejection-inversion: a point below the hat, kept when it is below a rank's bar."""
        first = self._hat(1.5) - 1.0
        last = self._hat(self.blocks + 0.5)
        near = 2.0 - self._hat_inverse(self._hat(2.5) - self._h(2.0))
        while True:
            area = last + self.unit() * (first - last)
            x = self._hat_inverse(area)
            rank = math.floor(min(max(x + 0.5, 1.0), self.blocks))
            if rank - x <= near or area >= self._hat(rank + 0.5) - self._h(rank):
                return rank - 1

    def _h(self, x: float) -> float:
        return math.exp(-self.shape * math.log(x))

    def _hat(self, x: float) -> float:
        grown = (1.0 - self.shape) * math.log(x)
        slope = math.expm1(grown) / grown if abs(grown) > 1e-8 else 1.0 + grown / 2.0
        return math.log(x) * slope

    def _hat_inverse(self, area: float) -> float:
        grown = max(area * (1.0 - self.shape), -1.0)
        if grown == -1.0:
            return math.inf if area > 0 else 0.0
        slope = math.log1p(grown) / grown if abs(grown) > 1e-8 else 1.0 - grown / 2.0
        return math.exp(area * slope)


class Varied:
    """I/Os of several sizes over `blocks` of `bs`: rows of (bound, bytes), or any multiple."""

    def __init__(
        self, bs: int, largest: int, rows: list[list[int]], blocks: int, random: Random
    ) -> None:
        self.bs, self.largest, self.rows = bs, largest, rows
        self.blocks, self.random = blocks, random
        self.cursor = 0

    def length(self, position: int) -> int:
        while True:
            if self.rows:
                chosen = self.random.next()
                length = next((size for bound, size in self.rows if chosen < bound), None)
                length = length or self.rows[-1][1]
            else:
                length = self.bs * (1 + self.random.below(self.largest // self.bs))
            if position + length <= self.blocks * self.bs:
                return length

    def anywhere(self) -> tuple[int, int]:
        position = self.random.below(self.blocks) * self.bs
        return position, self.length(position)

    def in_sequence(self) -> tuple[int, int]:
        position = self.cursor
        length = self.length(position)
        past = position + length
        self.cursor = past if past + self.bs <= self.blocks * self.bs else 0
        return position, length
