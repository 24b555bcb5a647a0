"""Temporary names at a target: no two alike, known by the process that made them, and nobody else's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from asyncdup.backends.names import TEMP_PREFIX, is_temp_name_of, temp_name, writer
from asyncdup.formats.names import NO_PREFIXES, parse_name


def test_no_two_are_alike_and_each_is_known_by_its_writer() -> None:
    names = [temp_name() for _ in range(100)]

    assert len(set(names)) == 100
    assert all(name.startswith(TEMP_PREFIX) and is_temp_name_of(name, {writer()}) for name in names)


def test_another_process_has_other_names() -> None:
    program = "from asyncdup.backends.names import temp_name, writer; print(temp_name(), writer())"
    name, other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert is_temp_name_of(name, {other})
    assert not is_temp_name_of(name, {writer()})


@pytest.mark.parametrize(
    "name",
    ["", TEMP_PREFIX, TEMP_PREFIX + "lock", "volume", ".asyncdup", writer() + "-0", TEMP_PREFIX + writer()],
    ids=["empty", "prefix", "lock", "volume", "cut", "no prefix", "no number"],
)
def test_what_is_no_temporary_name_belongs_to_nobody(name: str) -> None:
    assert not is_temp_name_of(name, {writer(), "", "lock"})


def test_stock_takes_none_for_a_file_of_its_own() -> None:
    """Format, section 2.1."""
    assert parse_name(temp_name(), NO_PREFIXES, 0) is None
