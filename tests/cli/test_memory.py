"""Keeping buffers is asked of glibc, and of nobody else."""

from __future__ import annotations

import ctypes
import resource

import pytest

from asyncdup.cli.memory import keep_buffers


class Library:
    def __init__(self) -> None:
        self.asked: dict[int, int] = {}

    def mallopt(self, parameter: int, value: int) -> int:
        self.asked[parameter] = value
        return 1


def test_freed_buffers_stay_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)

    keep_buffers()

    assert {-1, -3} <= library.asked.keys()
    assert min(library.asked[-1], library.asked[-3]) > 32 << 20


@pytest.mark.parametrize(("limit", "heaps"), [(1 << 28, 1), (resource.RLIM_INFINITY, None)])
def test_where_address_space_is_limited_all_threads_share_one_heap(limit: int, heaps: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, resource.RLIM_INFINITY))

    keep_buffers()

    assert library.asked.get(-8) == heaps


def test_a_system_without_that_call_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())

    keep_buffers()
