"""A tree and the signatures so far become members: what is new, changed, deleted; what changes while it is read (P13); going on inside a file (P2)."""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from asyncdup.archive.produce import LARGEST_MEMBER, Batch, Cut, CutFileChanged, Producer
from asyncdup.archive.walk import Found, Walker
from asyncdup.events import Warning
from asyncdup.formats import difftar, manifest, sigtar
from asyncdup.formats.difftar import DifftarReader
from asyncdup.formats.sigtar import SigMember, SigtarReader

NOW = 1_600_000_000.5
LONG_AGO = 1_500_000_000
WHOLE = 1 << 30  # bytes: more than all of a test's members


class Meddled:
    """A walk in which something happens when a file is opened."""

    def __init__(self, walker: Walker, happens: Callable[[Path], None] = lambda path: None, root: Path = Path()) -> None:
        self._walker = walker
        self._happens = happens
        self._root = root

    @property
    def lost(self) -> deque[bytes]:
        return self._walker.lost

    def __iter__(self) -> Iterator[Found]:
        return iter(self._walker)

    def open(self, found: Found) -> int:
        self._happens(self._root / os.fsdecode(found.entry.path))
        return self._walker.open(found)


class Run:
    """A producer and what came out of it."""

    def __init__(
        self,
        root: Path,
        old: Sequence[SigMember] = (),
        *,
        happens: Callable[[Path], None] = lambda path: None,
        now: Callable[[], float] = lambda: NOW,
        cut: Cut | None = None,
    ) -> None:
        self.warnings: list[Warning] = []
        self.data = b""
        self.batches: list[Batch] = []
        self._signatures: list[bytes] = []
        self._lines: list[bytes] = []
        start = cut.path if cut else None
        walker = Walker(os.fsencode(root), on_warning=self.warnings.append, start_at=start)
        self.producer = Producer(
            Meddled(walker, happens, root),
            iter([member for member in old if start is None or member.entry.path >= start]),
            same_owner=lambda one, other: True,
            signature_out=self._signatures.append,
            files_out=self._lines.append,
            file_line=manifest.file_line,
            on_warning=self.warnings.append,
            now=now,
            cut=cut,
        )

    def run(self, limit: int = WHOLE, *, upto: int | None = None) -> Run:
        """All batches, or so many."""
        while (upto is None or len(self.batches) < upto) and (batch := self.producer.next_batch(limit)) is not None:
            assert len(batch.data) <= limit
            self.batches.append(batch)
            self.data += batch.data
        return self

    @property
    def members(self) -> dict[str, tuple[str, bytes]]:
        """Verb and content by path, in order."""
        reader = DifftarReader()
        found: dict[str, tuple[str, bytes]] = {}
        for piece in reader.feed(self.data + difftar.end(len(self.data))):
            path = os.fsdecode(piece.entry.path)
            found[path] = (piece.verb, found.get(path, ("", b""))[1] + piece.data)
        reader.end_volume()
        return found

    @property
    def signatures(self) -> list[SigMember]:
        """Members of the signature archive, the root left out."""
        reader = SigtarReader()
        data = b"".join(self._signatures)
        return [*reader.feed(data + sigtar.end(len(data))), *reader.finish()]

    @property
    def signed(self) -> dict[str, SigMember]:
        return {os.fsdecode(member.entry.path): member for member in self.signatures}

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self._lines).splitlines()


def put(root: Path, name: str, data: bytes = b"", mtime: float = LONG_AGO) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))
    for folder in [path.parent, *path.parent.parents]:
        if folder.is_relative_to(root):
            os.utime(folder, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


BIG = random.Random(1).randbytes(300_000)


# What is in.


def test_a_new_tree_is_stored_whole_and_in_order(root: Path) -> None:
    put(root, "empty")
    put(root, "folder/file", b"content")
    put(root, "folder.x", BIG)
    (root / "link").symlink_to("folder")
    os.utime(root, (LONG_AGO, LONG_AGO))

    run = Run(root).run()

    assert list(run.members) == ["", "empty", "folder", "folder/file", "folder.x", "link"]
    assert run.members["folder.x"] == ("snapshot", BIG)
    assert [member.verb for member in run.signatures] == ["snapshot", "signature", "snapshot", "signature", "signature", "snapshot"]
    assert len(run.lines) == 3
    assert run.warnings == []


def test_an_unchanged_tree_gives_nothing(root: Path) -> None:
    put(root, "file", b"content")
    (root / "link").symlink_to("file")
    os.utime(root, (LONG_AGO, LONG_AGO))
    first = Run(root).run()

    again = Run(root, first.signatures).run()

    assert again.batches == []
    assert again.producer.counts.source_files == 3
    assert again.producer.counts.delta_entries == 0


def test_changes_are_differences_and_what_is_gone_is_deleted(root: Path) -> None:
    put(root, "becomes-folder", b"a file")
    put(root, "big", BIG)
    put(root, "gone/inner", b"content")
    put(root, "kept", b"kept")
    first = Run(root).run()
    put(root, "big", BIG + b"more", mtime=LONG_AGO + 1)
    (root / "becomes-folder").unlink()
    put(root, "becomes-folder/file", b"inside")
    (root / "gone/inner").unlink()
    (root / "gone").rmdir()
    os.utime(root, (LONG_AGO, LONG_AGO))

    run = Run(root, first.signatures).run()

    assert {path: verb for path, (verb, _) in run.members.items()} == {
        "becomes-folder": "snapshot",
        "becomes-folder/file": "snapshot",
        "big": "diff",
        "gone": "deleted",
        "gone/inner": "deleted",
    }
    assert len(run.members["big"][1]) < 3000
    assert run.signed["gone"].verb == "deleted"
    counts = run.producer.counts
    assert (counts.new_files, counts.changed_files, counts.deleted_files) == (1, 2, 2)  # one type for another is a change


def test_a_mtime_that_was_kept_hides_a_change_as_with_stock(root: Path) -> None:
    """Format, section 11."""
    put(root, "file", b"one")
    first = Run(root).run()
    put(root, "file", b"another")

    assert Run(root, first.signatures).run().batches == []


@pytest.mark.parametrize("limit", [LARGEST_MEMBER, 100_000, 200_001, WHOLE])
def test_the_bytes_do_not_depend_on_how_they_are_asked_for(root: Path, limit: int) -> None:
    put(root, "big", BIG)
    for number in range(40):
        put(root, f"small{number:02}", bytes(number))

    run = Run(root).run(limit)

    assert run.data == Run(root).run().data
    assert run.signatures == Run(root).run().signatures
    assert all(before.last <= after.first for before, after in zip(run.batches, run.batches[1:], strict=False) if before.cut is None)


# P13: what changes while it is read.


def warned_once(run: Run, path: str) -> bool:
    return [warning.path for warning in run.warnings] == [path]


@pytest.mark.parametrize("size", [1000, 300_000])
@pytest.mark.parametrize("change", ["grown", "shrunk", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_reported_once_and_looked_at_again(root: Path, size: int, change: str) -> None:
    """Its entry in the signatures is a second older; the difftar keeps the real time."""
    data = random.Random(2).randbytes(size)
    put(root, "file", data)
    new = {"grown": data + b"x", "shrunk": data[:-500], "rewritten": bytes(size)}[change]

    run = Run(root, happens=lambda path: path.write_bytes(new)).run()

    assert warned_once(run, "file")
    assert run.members["file"] == ("snapshot", new[:size])
    assert run.signed["file"].entry.mtime == LONG_AGO - 1
    assert b"%o" % LONG_AGO in run.data
    again = Run(root, run.signatures).run()
    assert "file" in again.members


def test_a_file_that_vanishes_is_reported_and_left_out(root: Path) -> None:
    put(root, "file", b"content")
    put(root, "other", b"content")

    run = Run(root, happens=lambda path: path.name == "file" and path.unlink()).run()

    assert warned_once(run, "file")
    assert list(run.members) == ["", "other"]
    assert "file" not in run.signed


def test_a_file_that_cannot_be_read_is_reported_and_the_chain_keeps_it(root: Path) -> None:
    put(root, "file", b"content")
    first = Run(root).run()
    put(root, "file", b"changed", mtime=LONG_AGO + 1)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    run = Run(root, first.signatures, happens=refuse).run()

    assert warned_once(run, "file")
    assert run.batches == []


def test_a_small_file_that_is_broken_is_reported_and_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "file", b"content")
    put(root, "other", b"other")
    real = os.read

    def broken(descriptor: int, size: int) -> bytes:
        if size == len(b"content"):
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", broken)

    run = Run(root).run()

    assert warned_once(run, "file")
    assert list(run.members) == ["", "other"]


@pytest.mark.parametrize("at", [0, 1 << 20])
def test_what_could_be_read_of_a_broken_file_is_kept_and_reported_once(root: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    data = random.Random(3).randbytes((1 << 20) + 200_000)
    put(root, "file", data)
    read, real = 0, os.read

    def broken(descriptor: int, size: int) -> bytes:
        nonlocal read
        if read >= at:
            raise OSError(errno.EIO, "Input/output error")
        read += size
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", broken)

    run = Run(root).run()

    assert warned_once(run, "file")
    assert run.members["file"] == ("snapshot", data[:at])
    assert run.signed["file"].entry.mtime == LONG_AGO - 1


@pytest.mark.parametrize("data", [b"", b"content", BIG], ids=["empty", "small", "split"])
def test_a_file_of_the_same_second_is_looked_at_again(root: Path, data: bytes) -> None:
    """It may change once more in that second, after it was read."""
    put(root, "file", data, mtime=int(NOW))
    put(root, "older", data, mtime=int(NOW) - 1)

    run = Run(root).run()

    assert run.warnings == []
    assert run.signed["file"].entry.mtime == int(NOW) - 1
    assert run.signed["older"].entry.mtime == int(NOW) - 1


def test_what_counts_is_the_time_before_the_file_was_looked_at(root: Path) -> None:
    """Else a file that is written once more in its second, while the next one begins, would be missed for ever."""
    second = int(NOW)
    put(root, "file", mtime=second)
    times = iter([second + 0.9, second + 0.9])  # when the walk begins, and when the root is done

    run = Run(root, now=lambda: next(times, second + 1.5)).run()

    assert run.signed["file"].entry.mtime == second - 1


def test_the_times_of_files_may_lag_behind_the_clock(root: Path) -> None:
    put(root, "file", mtime=int(NOW))

    run = Run(root, now=lambda: int(NOW) + 1.001).run()

    assert run.signed["file"].entry.mtime == int(NOW) - 1


def test_what_is_in_a_folder_that_cannot_be_read_is_not_taken_for_deleted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "before", b"gone")
    put(root, "folder/deep/file", b"content")
    put(root, "folder/file", b"content")
    put(root, "folder.x", b"gone, too")
    first = Run(root).run()
    for name in ("before", "folder.x"):
        (root / name).unlink()
    os.utime(root, (LONG_AGO, LONG_AGO))
    real = os.listdir

    def refuse(folder: int) -> list[str]:
        if os.readlink(f"/proc/self/fd/{folder}").endswith("/folder"):
            raise OSError(errno.EIO, "Input/output error")
        return real(folder)

    monkeypatch.setattr(os, "listdir", refuse)

    run = Run(root, first.signatures).run()

    assert warned_once(run, "folder")
    assert {path: verb for path, (verb, _) in run.members.items()} == {"before": "deleted", "folder.x": "deleted"}


# P2: going on inside a file.


def changed_big(root: Path, first: Run) -> None:
    """Edits so far apart that the difference is several parts."""
    data = bytearray(BIG)
    for at in range(0, len(data), 1000):
        data[at] ^= 1
    put(root, "big", bytes(data), mtime=LONG_AGO + 1)


@pytest.mark.parametrize("incremental", [False, True])
def test_a_run_goes_on_inside_a_file_from_every_part(root: Path, incremental: bool) -> None:
    """What was stored and what follows are together what an uninterrupted run makes, byte for byte."""
    put(root, "a", b"before")
    put(root, "big", BIG)
    put(root, "z", b"after")
    old: list[SigMember] = []
    if incremental:
        first = Run(root).run()
        changed_big(root, first)
        old = first.signatures
    whole = Run(root, old).run(LARGEST_MEMBER)
    cuts = [number for number, batch in enumerate(whole.batches, 1) if batch.cut]
    assert len(cuts) >= 3

    for number in cuts:
        stored = Run(root, old).run(LARGEST_MEMBER, upto=number)
        rest = Run(root, old, cut=stored.batches[-1].cut).run(LARGEST_MEMBER)

        assert stored.data + rest.data == whole.data
        assert stored.signatures + rest.signatures == whole.signatures
        stored.producer.close()


def cut_inside_big(root: Path) -> Cut:
    put(root, "a", b"before")
    put(root, "big", BIG)
    put(root, "z", b"after")
    stored = Run(root).run(LARGEST_MEMBER, upto=3)
    stored.producer.close()
    cut = stored.batches[-1].cut
    assert cut is not None and cut.path == b"big"
    return cut


def rewrite(path: Path) -> None:
    path.write_bytes(bytes(300_000))
    os.utime(path, (LONG_AGO, LONG_AGO))


def replace(path: Path) -> None:
    path.rename(path.with_name("was-big"))
    rewrite(path)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("z")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "change",
    [rewrite, replace, link, make_folder, Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"short")],
    ids=["rewritten", "replaced", "link", "folder", "gone", "empty", "short"],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_cut_file_that_is_not_as_it_was_is_never_gone_on_with(root: Path, change: Callable[[Path], None], last: bool) -> None:
    """Also with its size and time put back, and where nothing follows it."""
    cut = cut_inside_big(root)
    change(root / "big")
    if last:
        (root / "z").unlink()

    with pytest.raises(CutFileChanged):
        Run(root, cut=cut).run()


def test_a_cut_file_that_is_as_in_the_chain_again_is_not_gone_on_with(root: Path) -> None:
    """In an incremental it is then not in the set at all."""
    put(root, "big", BIG)
    first = Run(root).run()
    changed_big(root, first)
    stored = Run(root, first.signatures).run(LARGEST_MEMBER, upto=2)
    stored.producer.close()
    put(root, "big", BIG)

    with pytest.raises(CutFileChanged):
        Run(root, first.signatures, cut=stored.batches[-1].cut).run()


def test_a_cut_file_that_cannot_be_read_is_not_gone_on_with(root: Path) -> None:
    cut = cut_inside_big(root)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(CutFileChanged):
        Run(root, cut=cut, happens=refuse).run()
