"""``asyncdup cat URL PATH``: the bytes of one file, and nothing else, on standard output (P3, P4, P9)."""

from __future__ import annotations

import io
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncdup
from asyncdup.commands.cat import CatResult, cat
from tests.commands.conftest import FILE, Stage
from tests.commands.days import Days

BINARY = random.Random(1).randbytes(300_000)


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    days = Days(tmp_path, capfdbinary)
    days.write("letters/one", b"one\n")
    days.write("big", BINARY)
    (days.source / "link").symlink_to("big")
    days.backup()
    days.write("letters/one", b"two\n")
    days.write("big", BINARY[:100_000] + b"in the middle" + BINARY[100_000:])
    days.backup()
    return days


def test_the_newest_content_and_nothing_else_comes_out(days: Days) -> None:
    assert days.run("cat", days.url, "letters/one") == 0
    assert (days.said, days.complained) == ("two\n", "")


def test_an_older_time_gives_the_older_content(days: Days) -> None:
    assert days.run("cat", days.url, "letters/one", f"--time={days.time(0)}") == 0
    assert days.said == "one\n"


def test_a_file_of_many_pieces_with_a_delta_comes_out_byte_for_byte(days: Days) -> None:
    assert days.run("cat", days.url, "big/") == 0
    assert days.said.encode("utf-8", "surrogateescape") == (days.source / "big").read_bytes()


def test_notices_and_chatter_stay_away_from_standard_output(days: Days) -> None:
    assert days.run("cat", days.url, "letters/one", "-v9") == 0
    assert days.said == "two\n"
    assert "cat" in days.complained


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("letters", 23, "letters is a folder, not a file"),
        (".", 19, ". is not in the backup"),
        ("/", 23, "which file?"),
        ("link", 23, "link is a symlink to big, not a file"),
        ("letters/none", 19, "letters/none is not in the backup"),
        ("letters/one/more", 19, "letters/one/more is not in the backup"),
    ],
)
def test_what_is_no_file_is_refused_by_name(days: Days, path: str, code: int, words: str) -> None:
    assert days.run("cat", days.url, path) == code
    assert days.said == ""
    assert words in days.complained


def test_a_log_on_standard_output_is_refused(days: Days) -> None:
    assert days.run("cat", days.url, "big", "--log-json=-") == 23
    assert days.said == "" and "--log-json" in days.complained


def test_a_damaged_volume_gives_no_byte_and_an_exit_code(days: Days) -> None:
    """P4: a volume is checked as a whole before anything in it is used."""
    for volume in days.target.glob("*full*difftar*"):
        data = bytearray(volume.read_bytes())
        data[len(data) // 2] ^= 1
        volume.write_bytes(data)

    assert days.run("cat", days.url, "big", "--num-retries=1") == 21
    assert days.said == ""


@pytest.mark.realtime
def test_a_reader_that_goes_away_ends_it_without_a_word(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as closed:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(closed)))
        code = days.run("cat", days.url, "big")

    assert (code, days.complained) == (141, "")


def test_no_room_behind_standard_output_is_said(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    full = io.TextIOWrapper(io.BufferedWriter(Full(), 1))
    monkeypatch.setattr(sys, "stdout", full)

    assert days.run("cat", days.url, "big") == 53
    assert "standard output takes no more: No space left on device" in days.complained
    full.detach().detach()


async def test_only_the_volumes_that_may_hold_it_are_fetched(stage: Stage) -> None:
    stage.fill(8)
    await stage.backup()
    pieces: list[bytes] = []

    result: CatResult = await stage._run(_cat_to(pieces), stage.url, "file06")

    assert b"".join(pieces) == (stage.source / "file06").read_bytes()
    assert result.size == FILE and 1 <= len(result.volumes) <= 3
    read = {event.name for event in stage.of(asyncdup.events.VolumeRead)}
    assert read == set(result.volumes)
    stage.nothing_is_left()


def _cat_to(pieces: list[bytes]) -> Any:
    async def command(url: str, path: str, options: asyncdup.Options, *, events: asyncdup.EventHub) -> CatResult:
        return await cat(url, path, options, write=pieces.append, events=events)

    return command
