"""A local disk that fills up at any byte: one line that names the folder and the next step, and the same command goes on (P1)."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from interop.archives import Archive
from interop.trees import edit_plain, listing, make_plain

from asyncdup.cli.main import main
from asyncdup.errors import AsyncdupError, exit_code_of

SMALL = 160_000

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unflushed")]


@contextmanager
def room_for(size: int, module: str) -> Iterator[None]:
    """Files that ``module`` opens take ``size`` bytes altogether."""
    left = size

    class Small(FileIO):
        def write(self, data: Any, /) -> int:
            nonlocal left
            view = memoryview(data)[:left]
            if len(data) and not view:
                raise OSError(errno.ENOSPC, "No space left on device")
            left -= len(view)
            return super().write(view)

    with mock.patch(f"asyncdup.{module}.FileIO", Small):
        yield


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    found = Archive(tmp_path, None)
    make_plain(found.source)
    return found


def goes_on(archive: Archive) -> None:
    names = [
        path.name for folder in (archive.folder, archive.target, archive.cache["us"] / "c") if folder.exists() for path in folder.iterdir()
    ]
    assert not [name for name in names if name.startswith((".asyncdup-", "asyncdup-run-"))]
    archive.by_us("full", volume_size=SMALL)
    assert archive.read_by_us() == listing(archive.source)
    assert archive.by_us("incremental").statistics.delta_entries == 0


# The journal and its side files: 247 bytes of head, then some KiB a volume. The spool and the local signatures: the volumes.
@pytest.mark.parametrize(
    ("module", "size", "folder"),
    [("archive.checkpoint", size, "c") for size in (0, 100, 300, 4400, 5000, 9000, 25_000)]
    + [("codecs.base", size, None) for size in (0, 1000, 150_000, 511_000, 513_000)],
)
def test_a_disk_that_is_full_is_told_and_nothing_is_lost(archive: Archive, module: str, size: int, folder: str | None) -> None:
    with room_for(size, module), pytest.raises(AsyncdupError, match="cannot write in .*No space left") as caught:
        archive.by_us("full", volume_size=SMALL)

    assert exit_code_of(caught.value) == 53
    assert "goes on from here" in (caught.value.hint or "")
    assert folder is None or f"/{folder}:" in str(caught.value)
    del archive.kept[archive.time]
    goes_on(archive)


def test_an_incremental_that_finds_the_disk_full_leaves_the_chain_as_it_is(archive: Archive) -> None:
    archive.by_us("full", volume_size=SMALL)
    edit_plain(archive.source)
    with room_for(3000, "archive.checkpoint"), pytest.raises(AsyncdupError, match="cannot write in"):
        archive.by_us("incremental", volume_size=SMALL)
    del archive.kept[archive.time]
    archive.check("us")

    archive.by_us("incremental", volume_size=SMALL)

    archive.check("us")


def test_a_person_reads_two_lines_and_the_exit_code_says_it_too(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["full", str(archive.source), archive.url, "--no-encryption", "--archive-dir", str(archive.cache["us"]), "--name", "c"]

    with room_for(1000, "codecs.base"):
        code = main([*words, "--tempdir", str(archive.folder)])

    assert code == 53
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"asyncdup: cannot write in {archive.folder}/asyncdup-run-")
    assert "--tempdir" in second


@pytest.mark.parametrize("threads", [0, 1])
def test_a_run_that_gets_no_more_threads_loses_nothing(threads: int, archive: Archive) -> None:
    """A limit of memory (``ulimit -v``) or of threads. One for the files and one for the volumes is the least that a backup needs."""
    start, left = threading.Thread.start, threads

    def limited(thread: threading.Thread) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    with mock.patch("threading.Thread.start", limited), pytest.raises(RuntimeError, match="can't start new thread"):
        archive.by_us("full", volume_size=SMALL)

    del archive.kept[archive.time]
    goes_on(archive)


def test_a_restore_names_the_disk_without_room_and_what_is_missing_and_goes_on(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    """P3: what finds room is restored, nothing is left of the rest, and the same command adds it."""
    archive.by_us("full")
    to = archive.folder / "restored"
    words = ["restore", archive.url, str(to), "--no-encryption", "--archive-dir", str(archive.cache["us"]), "--name", "c"]

    with mock.patch("os.write", full_after(200_000)):
        assert main(words) == 53

    first, second = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert "not restored as archived, all others were: no room left on /" in first and first.endswith(f"where {to} is")
    assert "--overwrite=never" in second
    there = [path for path in to.rglob("*") if path.is_file() and not path.is_symlink()]
    assert there and all(path.read_bytes() == (archive.source / path.relative_to(to)).read_bytes() for path in there)
    assert main([*words, "--overwrite=never"]) == 0
    assert [found["type"] for found in listing(to).values()] == [found["type"] for found in listing(archive.source).values()]
    assert main([*words, "--overwrite=always"]) == 0
    assert listing(to) == listing(archive.source)


def test_a_temporary_folder_without_room_between_two_deltas_is_named(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    big = archive.source / "big.bin"
    big.write_bytes(bytes(3 << 20))
    archive.by_us("full")
    big.write_bytes(bytes(3 << 20) + b"more")
    archive.by_us("incremental")
    words = ["--no-encryption", "--archive-dir", str(archive.cache["us"]), "--name", "c", "--tempdir", str(archive.folder)]
    commands = [
        ["restore", archive.url, str(archive.folder / "to")],
        ["cat", archive.url, "big.bin"],
        ["verify", archive.url, str(archive.source)],
    ]

    for command in commands:
        with mock.patch("asyncdup.archive.patch.Base.write", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            assert main([*command, *words]) == 53, command
        said = capsys.readouterr().err
        assert "no room left on /" in said and f"where {archive.folder}/asyncdup-run-" in said


def full_after(size: int) -> Callable[[int, Any], int]:
    """``os.write`` for a disk that takes ``size`` bytes more, the last of them as part of a longer write."""
    write, left = os.write, size

    def limited(handle: int, data: Any) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        view = memoryview(data)[:left]
        left -= len(view)
        return write(handle, view)

    return limited


def test_an_archive_folder_that_cannot_be_made_is_named(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    (archive.folder / "file").write_bytes(b"")

    code = main(["full", str(archive.source), archive.url, "--no-encryption", "--archive-dir", str(archive.folder / "file")])

    assert code == 50
    (line,) = capsys.readouterr().err.splitlines()
    assert str(archive.folder / "file") in line
    assert not archive.target.exists()
