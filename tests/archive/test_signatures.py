"""The signature archives of a chain: what is live as of its last set."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from asyncdup.archive.signatures import live_members, read_members
from asyncdup.errors import FormatError
from asyncdup.formats import rdiff, sigtar
from asyncdup.formats.tar import DIR, REG, Entry


def entry(path: bytes, kind: bytes = REG, mtime: int = 1) -> Entry:
    return Entry(path, kind, 0o644, 0, 0, mtime, 0, b"", b"", b"", (0, 0))


def signed(path: bytes, mtime: int = 1) -> bytes:
    return sigtar.signature(entry(path, mtime=mtime), rdiff.sign(path, 512))


def store(folder: Path, name: str, *members: bytes) -> Path:
    data = b"".join(members)
    path = folder / name
    path.write_bytes(gzip.compress(data + sigtar.end(len(data))))
    return path


def folder(path: bytes, mtime: int = 1) -> bytes:
    return sigtar.snapshot(entry(path, DIR, mtime))


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    full = store(tmp_path, "full", folder(b""), signed(b"a"), folder(b"b"), signed(b"b/x"), signed(b"b/y"), signed(b"b.z"))
    first = store(tmp_path, "first", folder(b"", 2), signed(b"a", 2), sigtar.deleted(b"b/x"), signed(b"new", 2))
    second = store(tmp_path, "second", signed(b"b/x", 3), sigtar.deleted(b"new"))
    return [full, first, second]


def live(paths: list[Path], start: bytes = b"") -> list[tuple[bytes, int]]:
    return [(member.entry.path, member.entry.mtime) for member in live_members(paths, start=start)]


def test_a_full_alone_is_live_as_it_stands(chain: list[Path]) -> None:
    assert live(chain[:1]) == [(b"", 1), (b"a", 1), (b"b", 1), (b"b/x", 1), (b"b/y", 1), (b"b.z", 1)]


def test_the_newest_wins_and_what_was_deleted_is_gone(chain: list[Path]) -> None:
    assert live(chain[:2]) == [(b"", 2), (b"a", 2), (b"b", 1), (b"b/y", 1), (b"b.z", 1), (b"new", 2)]


def test_what_was_deleted_may_come_back(chain: list[Path]) -> None:
    assert live(chain) == [(b"", 2), (b"a", 2), (b"b", 1), (b"b/x", 3), (b"b/y", 1), (b"b.z", 1)]


@pytest.mark.parametrize(("start", "first"), [(b"b\0x", b"b/x"), (b"b\0", b"b/x"), (b"b", b"b"), (b"b\0x\0", b"b/y"), (b"c", None)])
def test_a_resumed_run_needs_what_follows_a_key(chain: list[Path], start: bytes, first: bytes | None) -> None:
    found = live(chain, start)

    assert (found[0][0] if found else None) == first


def test_a_root_that_was_put_twice_counts_once(tmp_path: Path) -> None:
    """Format, section 7: a restarted or older writer may have done it."""
    path = store(tmp_path, "full", folder(b"", 5), folder(b"", 6), signed(b"a"))

    assert live([path]) == [(b"", 5), (b"a", 1)]


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    """P4."""
    whole = store(tmp_path, "cut.sigtar.gz", signed(b"a"), signed(b"b"))
    plain = gzip.decompress(whole.read_bytes())
    whole.write_bytes(gzip.compress(plain[:1000]))

    with pytest.raises(FormatError, match=r"cut\.sigtar\.gz"):
        list(read_members(whole))
