"""Inputs that are nearly right: seeds with bits flipped, parts cut, doubled or swapped, numbers and words replaced. All follow from one seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
LONGEST = 8192  # bytes of an input: what goes wrong with many goes wrong with few, and few are quick

_NUMBERS = (b"0", b"1", b"-1", b"7", b"255", b"256", b"65535", b"65536", b"4294967296", b"9223372036854775808", b"9" * 30, b"1e400")
_WIDE = tuple(value.to_bytes(8, "big") for value in (0, 1, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1))
_digits = re.compile(rb"[0-9]+")


class Mutator:
    """An endless row of inputs. ``words`` mean something to the parser; ``mend`` makes sums right again, so that inputs get past them."""

    def __init__(
        self, rng: random.Random, seeds: Sequence[bytes], words: Sequence[bytes] = (), mend: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._rng = rng
        self._seeds = list(seeds)
        self._words = words or (b"",)
        self._mend = mend
        self._ways = (self._flip, self._set, self._cut, self._remove, self._double, self._splice, self._number, self._word, self._wide)

    def __call__(self) -> bytes:
        data = self._pick(self._seeds)
        for _ in range(1 + self._below(4)):
            data = self._pick(self._ways)(data)[:LONGEST]
        return self._mend(data) if self._mend is not None and self._below(4) else data

    def _below(self, limit: int) -> int:
        return int(self._rng.random() * limit)

    def _pick(self, things: Sequence[T]) -> T:
        return things[self._below(len(things))]

    def _span(self, data: bytes) -> tuple[int, int]:
        """A short part, or now and then a long one, on the borders of tar blocks as often as not."""
        start = self._below(len(data) + 1)
        size = self._below(16 if self._below(2) else 1500)
        return (start, start + size) if self._below(2) else (start & -512, (start & -512) + (size & -512))

    def _flip(self, data: bytes) -> bytes:
        at = self._below(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._below(8)]) + data[at + 1 :] if data else data

    def _set(self, data: bytes) -> bytes:
        at = self._below(len(data) + 1)
        return data[:at] + bytes([self._below(256)]) + data[at + self._below(2) :]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._below(len(data) + 1)]

    def _remove(self, data: bytes) -> bytes:
        start, stop = self._span(data)
        return data[:start] + data[stop:]

    def _double(self, data: bytes) -> bytes:
        start, stop = self._span(data)
        return data[:stop] + data[start:]

    def _splice(self, data: bytes) -> bytes:
        other = self._pick(self._seeds)
        start, stop = self._span(other)
        at = self._below(len(data) + 1)
        return data[:at] + other[start : stop if self._below(2) else None] + data[at:]

    def _number(self, data: bytes) -> bytes:
        found = [match.span() for match in _digits.finditer(data[:2048])]
        if not found:
            return self._set(data)
        start, stop = self._pick(found)
        return data[:start] + self._pick(_NUMBERS) + data[stop:]

    def _word(self, data: bytes) -> bytes:
        at, word = self._below(len(data) + 1), self._pick(self._words)
        return data[:at] + word + data[at + self._below(2) * len(word) :]

    def _wide(self, data: bytes) -> bytes:
        at, size = self._below(len(data) + 1), 1 << self._below(4)
        return data[:at] + self._pick(_WIDE)[-size:] + data[at + size :]
