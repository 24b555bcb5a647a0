"""Every promise of the reliability list has a test that names it, and the machines that search for counterexamples are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMED = re.compile(r"\bP([0-9]{1,2})(?:-P([0-9]{1,2}))?\b")


def promises_named() -> set[int]:
    """By the tests: ``P3``, or ``P1-P4`` for all of them."""
    found: set[int] = set()
    for path in TESTS.rglob("test_*.py"):
        if path != Path(__file__):
            for first, last in NAMED.findall(path.read_text()):
                found |= set(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize("number", range(1, 20))
def test_each_promise_is_named_by_a_test(number: int) -> None:
    assert number in promises_named()
