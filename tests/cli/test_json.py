"""``--json``: every command that finds something, against the examples of docs/json.md."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncdup.archive.lock import MARK, Holder
from asyncdup.cli.json_output import iso_time, item_line, named, record_line
from asyncdup.cli.options import REPORTING
from tests.commands.days import DAY, START, Days

_PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
_EXAMPLE = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ODD = b"caf\xe9"  # no UTF-8

COMMANDS = {  # the heading of the page -> the words, and the exit code
    "list-current-files": ("list-current-files URL", 0),
    "verify": ("verify URL SOURCE", 1),
    "collection-status": ("collection-status URL", 0),
    "collection-status --show-changes-in-set": ("collection-status URL --show-changes-in-set 0", 0),
    "cleanup": ("cleanup URL", 0),
    "remove-older-than": (f"remove-older-than {START + 2 * DAY} URL", 0),
    "remove-all-but-n-full": ("remove-all-but-n-full 1 URL", 0),
    "remove-all-inc-of-but-n-full": ("remove-all-inc-of-but-n-full 1 URL", 0),
    "prune": ("prune URL --keep-daily 1", 0),
    "unlock": ("unlock URL", 0),
    "check": ("check URL", 1),
    "history": ("history URL letters/one", 0),
    "find": ("find URL one", 0),
    "diff": ("diff URL", 0),
    "backends": ("backends", 0),
    "check-backend": ("check-backend PLACE", 0),
}


def examples() -> dict[str, list[Any]]:
    """Each section's lines of JSON by the section's heading."""
    sections = (part.partition("\n") for part in _PAGE.split("\n## ")[1:])
    return {
        title.strip("`"): [json.loads(line) for line in found[1].splitlines()]
        for title, _, text in sections
        if (found := _EXAMPLE.search(text))
    }


EXAMPLES = examples()


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    """Two chains, the set of an interrupted run, a volume that is lost, a lock, and a source that has changed since."""
    days = Days(tmp_path, capfdbinary)
    days.write("letters/one")
    (days.source / os.fsdecode(_ODD)).symlink_to("letters")
    days.backup("full")
    days.write("letters/one", b"changed\n")
    days.backup()
    days.backup("full")
    days.write("letters/two")
    days.backup()
    days.write("letters/one", b"changed again\n")
    (days.target / f"duplicity-full.{days.stamp(4)}.vol1.difftar.gz").write_bytes(b"")
    next(days.target.glob(f"duplicity-full.{days.stamp(0)}.vol1.*")).unlink()
    holder = Holder(id="0" * 16, command="backup", host="nas", machine="m", pid=4711, started=START, refreshed=START)
    (days.target / f"{MARK}{holder.id}").write_bytes(holder.encode())
    return days


def said_by(days: Days, words: str, code: int = 0) -> list[Any]:
    """The lines that a command writes."""
    places = {"URL": days.url, "SOURCE": str(days.source), "PLACE": f"file://{days.folder}/place"}
    assert days.run(*(places.get(word, word) for word in shlex.split(words)), "--json") == code, days.complained
    return [json.loads(line) for line in days.said.splitlines()]


def misfits(found: Any, example: Any, where: str = "") -> Iterator[str]:
    """Where ``found`` has other fields or types than ``example``; null, an empty list and bytes of names fit anything."""
    if found is None or example is None or (isinstance(found, (int, float)) and isinstance(example, (int, float))):
        return
    if type(found) is not type(example):
        yield f"{where}: {found!r} instead of {example!r}"
    elif isinstance(found, dict):
        odd = {name for name in set(found) ^ set(example) if not name.endswith("_base64")}
        yield from (f"{where}.{name}" for name in odd)
        for name in set(found) & set(example):
            yield from misfits(found[name], example[name], f"{where}.{name}")
    elif isinstance(found, list) and example:
        for each in found:
            yield from misfits(each, example[0], f"{where}[]")


@pytest.mark.slow
@pytest.mark.parametrize("title", COMMANDS)
def test_each_command_says_what_the_page_shows(days: Days, title: str) -> None:
    words, code = COMMANDS[title]

    *items, record = said_by(days, words, code)

    *shown, last = EXAMPLES[title]
    assert list(misfits(record, last)) == []
    assert (list(record)[:2], record["command"]) == (["v", "command"], title.split()[0])
    assert all(any(not list(misfits(item, each)) for each in shown) for item in items), items
    assert bool(items) == bool(shown)


def test_every_command_that_takes_json_is_on_the_page_and_tried() -> None:
    assert set(REPORTING) <= set(COMMANDS) == set(EXAMPLES) - {"job status"}


def test_a_name_that_is_no_text_comes_with_its_bytes_and_the_line_stays_unicode() -> None:
    assert named("path", b"a\xff") == {"path": "a\ufffd", "path_base64": "Yf8="}
    assert named("path", "é".encode()) == {"path": "é"}
    line = item_line({"message": "a\udcff", "in": ["b\udcfe", {"c": ("\udc80", 1)}]})
    assert json.loads(line) == {"message": "a\ufffd", "in": ["b\ufffd", {"c": ["\ufffd", 1]}]}
    assert "\\udc" not in line and line.isascii()


def test_a_time_is_iso_8601_and_null_where_no_calendar_has_it() -> None:
    assert [iso_time(t) for t in (0, START, -1, 253402300799)] == [
        "1970-01-01T00:00:00Z",
        "2023-11-14T22:13:20Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
    ]
    assert iso_time(1 << 60) is None and iso_time(-(1 << 60)) is None


def test_the_record_begins_with_version_and_command() -> None:
    assert record_line("check", {"ok": True}) == '{"v": 1, "command": "check", "ok": true}'


@pytest.mark.slow
def test_an_error_is_words_on_standard_error_and_leaves_no_record(days: Days) -> None:
    assert days.run("history", days.url, "not/there", "--json") == 19
    assert (days.said, "not/there is in none of" in days.complained) == ("", True)
