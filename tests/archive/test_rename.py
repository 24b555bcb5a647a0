"""Entries restored under other names."""

from __future__ import annotations

import pytest

from asyncdup.archive.consume import FileSink
from asyncdup.archive.rename import Renamed
from asyncdup.errors import UsageError
from asyncdup.formats.tar import DIR, REG, Entry


def entry(path: bytes, kind: bytes = REG) -> Entry:
    return Entry(path, kind, 0o644, 0, 0, 0, 0, "", "", b"", (0, 0))


class Seen:
    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.finished = False

    def simple(self, entry: Entry) -> None:
        self.paths.append(entry.path)

    def file(self, entry: Entry) -> FileSink:
        self.paths.append(entry.path)
        return None  # type: ignore[return-value]

    def finish(self) -> None:
        self.finished = True


def moved(names: list[tuple[bytes, bytes]], *paths: bytes) -> list[bytes]:
    seen = Seen()
    sink = Renamed(seen, names)
    for path in paths:
        (sink.simple if path.endswith(b"d") else sink.file)(entry(path, DIR if path.endswith(b"d") else REG))
    sink.finish()
    assert seen.finished
    return seen.paths


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        ([(b"a", b"z")], b"a", b"z"),
        ([(b"a", b"z")], b"a/b/c", b"z/b/c"),
        ([(b"a", b"z")], b"ab", b"ab"),
        ([(b"a/b", b"z/y")], b"a/c", b"a/c"),
        ([(b"a/b", b"y"), (b"a", b"z")], b"a/b/c", b"y/c"),
        ([(b"a", b"y"), (b"a", b"z")], b"a", b"z"),
        ([(b"./a//b/", b"z/")], b"a/b/d", b"z/d"),
        ([(b"a", b"z")], b"", b""),
    ],
)
def test_the_longest_name_that_fits_is_taken(names: list[tuple[bytes, bytes]], path: bytes, expected: bytes) -> None:
    assert moved(names, path) == [expected]


@pytest.mark.parametrize("names", [(b"a", b"../z"), (b"a", b"/z"), (b"", b"z"), (b"a", b"."), (b"a", b"b/../..")])
def test_p7_a_name_outside_the_archive_is_refused(names: tuple[bytes, bytes]) -> None:
    with pytest.raises(UsageError, match="is no path inside the archive"):
        Renamed(Seen(), [names])
