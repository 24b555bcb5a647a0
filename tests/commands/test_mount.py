"""``asyncdup mount``: what FUSE is answered, by plain calls; and one real mount, looked at by programs that know nothing of us (P4, P9)."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

import asyncdup
from asyncdup.archive.contents import Contents
from asyncdup.archive.patch import Base
from asyncdup.commands.mount import open_files
from asyncdup.commands.mount_archive import _Kept
from asyncdup.commands.mount_files import Files
from asyncdup.events import EventHub, Warning
from asyncdup.threads import in_thread
from tests.commands.days import Days

T = TypeVar("T")

BINARY = random.Random(1).randbytes(2_500_000)  # of more than two volumes


@pytest.fixture
def days(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Days:
    days = Days(tmp_path, capfdbinary)
    for size in (0, 1, 511, 512, 513, 70_000):
        days.write(f"sizes/{size}", BINARY[:size], mode=0o640)
    days.write("big", BINARY)
    days.write("letters/one", b"one\n")
    days.write("gone/with all", b"x")
    (days.source / "link").symlink_to("letters/one")
    os.mkfifo(days.source / "pipe")
    days.write(os.fsdecode(b"n\xff"), b"a name that is no text")
    days.backup("full", "--volsize=1")
    days.write("letters/one", b"two\n")
    days.write("big", BINARY[:1_000_000] + b"in the middle" + BINARY[1_000_000:], mode=0o4755)
    days.write("sizes/512", b"")
    days.remove("gone/with all")
    days.backup("backup", "--volsize=1")
    return days


def ask(days: Days, question: Callable[[Files], T], *, heard: list[asyncdup.Event] | None = None, **changes: Any) -> T:
    """``question``, asked as FUSE's thread does."""

    async def answered() -> T:
        options = asyncdup.Options(archive_dir=days.folder / "cache", tempdir=days.folder, now=lambda: days.time(days.day), **changes)
        hub = EventHub(wall=options.now, clock=anyio.current_time)
        hub.on_event((heard if heard is not None else []).append)
        async with open_files(days.url, options, hub=hub, control=asyncdup.Control()) as files:
            return await in_thread(question, files)

    return anyio.run(answered)


def content(files: Files, path: str) -> bytes:
    """All of it, in the crumbs in which a kernel asks."""
    handle = files.open(os.fsencode(path))
    crumbs, at = [], 0
    while crumb := files.read(handle, 100_000, at):
        crumbs.append(crumb)
        at += len(crumb)
    files.release(handle)
    return b"".join(crumbs)


def looked_at(path: str, about: dict[str, int], link: Callable[[], bytes], read: Callable[[], bytes]) -> tuple[object, ...]:
    mode = about["st_mode"]
    size = about["st_size"] if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else 0
    shown = link() if stat.S_ISLNK(mode) else read() if stat.S_ISREG(mode) else b""
    assert not stat.S_ISREG(mode) or len(shown) == size, path
    mtime = 0 if stat.S_ISLNK(mode) else about["st_mtime"] // 10**9
    return mode, size, mtime, about["st_uid"], about["st_gid"], shown


def as_mounted(files: Files, top: str) -> dict[str, tuple[object, ...]]:
    """Everything below the folder ``top``."""
    found = {}
    for name, kind in files.names(os.fsencode(top)):
        path = f"{top}/{os.fsdecode(name)}"
        about = files.attributes(os.fsencode(path))
        assert stat.S_IFMT(about["st_mode"]) == kind
        found[path.split("/", 2)[2]] = looked_at(
            path, about, lambda path=path: files.link(os.fsencode(path)), lambda path=path: content(files, path)
        )  # type: ignore[misc]
        if stat.S_ISDIR(kind):
            found |= as_mounted(files, path)
    return found


def as_it_is(folder: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        about = {name: getattr(status, name) for name in ("st_mode", "st_size", "st_uid", "st_gid")} | {"st_mtime": status.st_mtime_ns}
        link = os.fsencode(path.readlink()) if path.is_symlink() else b""
        found[str(path.relative_to(folder))] = looked_at(str(path), about, lambda link=link: link, path.read_bytes)  # type: ignore[misc]
    return found


def test_the_top_has_a_folder_for_each_backup_and_a_link_to_the_latest(days: Days) -> None:
    first, second = days.stamp(0).encode(), days.stamp(1).encode()
    assert dict(ask(days, lambda files: list(files.names(b"/")))) == {
        b"latest": stat.S_IFLNK,
        first: stat.S_IFDIR,
        second: stat.S_IFDIR,
    }
    assert ask(days, lambda files: files.link(b"/latest")) == second
    assert ask(days, lambda files: files.attributes(b"/" + first))["st_mtime"] == days.time(0) * 10**9


def test_all_that_was_backed_up_is_there_as_it_was(days: Days) -> None:
    """Sizes are those of the contents to the byte, of files in a volume, in several, and of deltas."""
    assert ask(days, lambda files: as_mounted(files, f"/{days.stamp(1)}")) == as_it_is(days.source)


def test_an_older_backup_is_there_as_it_was(days: Days) -> None:
    assert days.run("restore", days.url, str(days.folder / "before"), f"--time={days.time(0)}") == 0
    assert ask(days, lambda files: as_mounted(files, f"/{days.stamp(0)}")) == as_it_is(days.folder / "before")


def test_with_next_to_no_room_for_what_was_fetched_all_is_right_too(days: Days) -> None:
    found = ask(days, lambda files: [content(files, f"/{days.stamp(day)}/big") for day in (0, 1, 0)], spool=2_000_000)
    assert [len(each) for each in found] == [len(BINARY), len(BINARY) + 13, len(BINARY)]


def test_names_cost_no_volume_and_a_size_the_one_that_has_the_file(days: Days) -> None:
    def fetched(question: Callable[[Files], object]) -> set[str]:
        heard: list[asyncdup.Event] = []
        ask(days, question, heard=heard)
        return {each.name for each in heard if isinstance(each, asyncdup.events.OpQueued) and "difftar" in each.name}

    def names(files: Files) -> None:
        for folder in ("", "/sizes", "/letters"):
            list(files.names(f"/{days.stamp(0)}{folder}".encode()))
        files.attributes(f"/{days.stamp(0)}/letters".encode())
        files.attributes(f"/{days.stamp(0)}/sizes/0".encode())

    assert fetched(names) == set()
    (last,) = fetched(lambda files: files.attributes(f"/{days.stamp(0)}/sizes/511".encode()))
    assert last == max(path.name for path in days.target.glob("*full*difftar*"))


@pytest.mark.parametrize("path", ["/no", f"/{Days.__name__}/x", "/latest/x", "/{}/no", "/{}/letters/one/x"])
def test_what_is_not_there_is_not_there(days: Days, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        ask(days, lambda files: files.attributes(path.format(days.stamp(1)).encode()))


def test_a_damaged_volume_is_an_error_of_input_and_a_line_that_names_the_file(days: Days) -> None:
    """P4: nothing of it is given out; the rest of the backup is."""
    for volume in days.target.glob("*full*vol1.difftar*"):
        volume.write_bytes(volume.read_bytes()[:-5] + b"other")
    heard: list[asyncdup.Event] = []

    def question(files: Files) -> tuple[int | None, bytes]:
        with pytest.raises(OSError) as failed:
            content(files, f"/{days.stamp(0)}/big")
        return failed.value.errno, content(files, f"/{days.stamp(1)}/letters/one")

    retry = asyncdup.RetryPolicy.fixed(1, 0.0)
    assert ask(days, question, heard=heard, retry=retry) == (errno.EIO, b"two\n")
    (warning,) = [each.message for each in heard if isinstance(each, Warning)]
    assert warning.startswith(f"{days.stamp(0)}/big: ") and "vol1.difftar" in warning


def test_nothing_is_fetched_once_the_end_is_near(days: Days) -> None:
    heard: list[asyncdup.Event] = []

    def question(files: Files) -> int | None:
        files.end()
        with pytest.raises(OSError) as failed:
            files.attributes(f"/{days.stamp(1)}/big".encode())
        return failed.value.errno

    assert ask(days, question, heard=heard) == errno.EIO
    assert not [each for each in heard if isinstance(each, Warning)]


def test_what_was_fetched_is_kept_within_a_bound_the_oldest_goes_first_and_what_is_open_stays(tmp_path: Path) -> None:
    """P9."""
    kept = _Kept(250)
    items = {}
    for name in "abc":
        items[name] = Contents(Base(tmp_path))
        items[name].data.write(bytes(100))
    items["a"].users = 1
    for name, item in items.items():
        kept.put(name, item)
    assert [name for name in "abc" if kept.get(name)] == ["a", "c"]
    kept.close()


@pytest.mark.parametrize("folder", ["none", "full"])
def test_a_folder_that_is_missing_or_in_use_is_refused(days: Days, folder: str) -> None:
    (days.folder / "full").mkdir()
    (days.folder / "full" / "file").touch()
    assert days.run("mount", days.url, str(days.folder / folder)) == 23
    assert f"cannot mount on {days.folder / folder}" in days.complained


@pytest.fixture
def place(days: Days) -> Path:
    folder = days.folder / "mounted"
    folder.mkdir()
    return folder


def test_without_the_package_or_the_library_it_says_what_to_install(days: Days, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)  # /dev/fuse
    monkeypatch.delitem(sys.modules, "asyncdup.commands.fuse", raising=False)
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    assert days.run("mount", days.url, str(place)) == 23
    assert "pip install 'asyncdup[mount]'" in days.complained
    monkeypatch.delitem(sys.modules, "mfusepy")
    monkeypatch.setenv("FUSE_LIBRARY_PATH", str(days.folder / "no library"))
    assert days.run("mount", days.url, str(place)) == 23
    assert "apt install fuse3" in days.complained


@pytest.fixture(scope="session")
def need_fuse() -> None:
    """Where there is the device, there must be the rest: that is what scripts/test installs."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"this machine lets nobody mount: /dev/fuse: {error.strerror}")


@pytest.fixture
def mounted(need_fuse: None, days: Days, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = ["mount", days.url, str(place), "--no-encryption", f"--archive-dir={days.folder / 'cache'}", f"--tempdir={days.folder}"]
    process = subprocess.Popen([sys.executable, "-c", "import sys; from asyncdup.cli.main import main; sys.exit(main())", *words])
    try:
        while not os.path.ismount(place):
            assert process.poll() is None
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        subprocess.run(["fusermount3", "-uqz", place], check=False)


@pytest.mark.slow
@pytest.mark.realtime
@pytest.mark.parametrize("end", ["fusermount3", signal.SIGINT, signal.SIGTERM])
def test_programs_see_what_was_backed_up_and_no_way_of_ending_leaves_anything(
    mounted: subprocess.Popen[bytes], days: Days, place: Path, end: str | signal.Signals
) -> None:
    diff = ["diff", "-r", "--exclude=pipe", "--no-dereference", str(days.source), f"{place}/latest/"]  # no two pipes are the same to it
    compared = subprocess.run(diff, check=False, capture_output=True)
    assert (compared.returncode, compared.stdout, compared.stderr) == (0, b"", b"")
    copied = days.folder / "copied"
    subprocess.run(["cp", "-a", place / days.stamp(0), copied], check=True)
    assert (copied / "letters/one").read_bytes() == b"one\n" and stat.S_ISFIFO((copied / "pipe").lstat().st_mode)
    with pytest.raises(OSError) as refused:
        (place / "latest/new").touch()
    assert refused.value.errno == errno.EROFS
    if isinstance(end, str):
        subprocess.run([end, "-u", place], check=True)
    else:
        mounted.send_signal(end)
    expected = {"fusermount3": 0, signal.SIGINT: 130, signal.SIGTERM: 143}
    assert mounted.wait() == expected[end]
    assert not os.path.ismount(place) and not list(days.folder.glob("asyncdup-run-*"))
