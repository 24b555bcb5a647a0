"""Writing a tree: what comes back, in which order it gets its attributes, and that nothing outside the target is touched (P3, P7, P8)."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.archive import handles
from asyncdup.archive.tree import TreeWriter
from asyncdup.errors import RestoreError
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, REG, SYM, Entry

IS_ROOT = os.geteuid() == 0
ME = os.geteuid(), os.getegid()
NOBODY = 65534
MTIME = 1_500_000_000

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs the superuser")


def entry(
    path: bytes,
    kind: bytes = REG,
    mode: int = 0o644,
    owner: tuple[int, int] = ME,
    names: tuple[bytes, bytes] = (b"", b""),
    link: bytes = b"",
    dev: tuple[int, int] = (0, 0),
    mtime: int = MTIME,
) -> Entry:
    return Entry(path, kind, mode, *owner, mtime, 0, *names, link, dev)


def folder(path: bytes, mode: int = 0o755, **options: object) -> Entry:
    return entry(path, DIR, mode, **options)  # type: ignore[arg-type]


class Target:
    """A writer and what it reported. The folder ``outside`` beside the target must stay as it is."""

    def __init__(self, above: Path) -> None:
        self.path = above / "target"
        self.outside = above / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_bytes(b"untouched")
        os.chmod(self.outside / "victim", 0o640)
        os.utime(self.outside / "victim", (1, 1))
        os.utime(self.outside, (1, 1))
        self.problems: list[tuple[bytes, str]] = []
        self.notices: list[tuple[bytes, str]] = []
        self.before = self._outside()

    def writer(self, **options: object) -> TreeWriter:
        return TreeWriter(
            os.fsencode(self.path),
            on_problem=lambda path, what: self.problems.append((path, what)),
            on_notice=lambda path, what: self.notices.append((path, what)),
            **options,  # type: ignore[arg-type]
        )

    def restore(self, *entries: Entry, **options: object) -> TreeWriter:
        """Write them all; the content of a file is its path."""
        writer = self.writer(**options)
        for each in entries:
            if each.kind == REG:
                file = writer.file(each)
                file.write(each.path)
                file.close()
            else:
                writer.simple(each)
        writer.finish()
        assert self._outside() == self.before
        return writer

    @property
    def problem_paths(self) -> list[bytes]:
        return [path for path, _ in self.problems]

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))

    def as_user(self, action: Callable[[], None]) -> None:
        """Run ``action`` without the superuser's rights. The user may change what is outside, too."""
        self.path.mkdir()
        if not IS_ROOT:
            action()
            return
        self.path.parent.chmod(0o755)
        for each in (self.path, self.outside, self.outside / "victim"):
            os.chown(each, NOBODY, NOBODY)
        self.before = self._outside()
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            action()
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def _outside(self) -> object:
        victim = os.stat(self.outside / "victim")
        return (
            os.listdir(self.outside),
            os.stat(self.outside)[:9],
            (self.outside / "victim").read_bytes(),
            (victim.st_mode, victim.st_uid, victim.st_mtime_ns, victim.st_nlink),
        )


@pytest.fixture
def target() -> Iterator[Target]:
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: another user must be able to come here
        yield Target(Path(folder))


# What comes back.


def test_everything_comes_back_with_mode_and_time(target: Target) -> None:
    written = target.restore(
        folder(b"", 0o750),
        folder(b"a", 0o500, mtime=11),
        entry(b"a/file", mode=0o400, mtime=12),
        entry(b"a/link", SYM, link=b"../anywhere\xff"),
        entry(b"a/pipe", FIFO, 0o620, mtime=13),
        entry(b"b", mode=0o7),
    )

    assert not target.problems and written.entries == 6
    assert (target.path / "a/file").read_bytes() == b"a/file"
    assert os.readlink(os.fsencode(target.path / "a/link")) == b"../anywhere\xff"
    expected = {"": (0o40750, MTIME), "a": (0o40500, 11), "a/file": (0o100400, 12), "a/pipe": (0o10620, 13), "b": (0o100007, MTIME)}
    for name, (mode, mtime) in expected.items():
        status = os.lstat(target.path / name)
        assert (status.st_mode, int(status.st_mtime)) == (mode, mtime), name


def test_folders_get_their_attributes_after_their_content(target: Target) -> None:
    """Format specification, section 17: a folder without the right to write is filled all the same, and keeps its time."""
    entries = [folder(b""), folder(b"a", 0o555), folder(b"a/b", 0o111), entry(b"a/b/x"), entry(b"a/c"), entry(b"d")]

    def restore() -> None:
        target.restore(*entries, ownership=False)
        assert not target.problems
        for name, mode in (("a", 0o555), ("a/b", 0o111)):
            status = os.stat(target.path / name)
            assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (mode, MTIME)

    target.as_user(restore)


def test_while_it_is_made_nobody_else_can_look_into_it(target: Target) -> None:
    """P8: a file is created 0600 and a folder 0700, whatever the umask."""
    before = os.umask(0)
    try:
        writer = target.writer()
        writer.simple(folder(b"", 0o777))
        writer.simple(folder(b"a", 0o777))
        file = writer.file(entry(b"a/file", mode=0o666))
        file.write(b"secret")

        modes = [stat.S_IMODE(os.stat(target.path / name).st_mode) for name in ("", "a", "a/file")]
        file.close()
        writer.finish()
    finally:
        os.umask(before)

    assert modes == [0o700, 0o700, 0o600]
    assert stat.S_IMODE(os.stat(target.path / "a/file").st_mode) == 0o666


def test_parents_that_the_archive_does_not_have_are_made_as_usual(target: Target) -> None:
    before = os.umask(0o027)
    try:
        target.restore(entry(b"a/b/file"), entry(b"a/c"))
    finally:
        os.umask(before)

    assert not target.problems
    assert target.names() == ["a", "a/b", "a/b/file", "a/c"]
    assert [stat.S_IMODE(os.stat(target.path / name).st_mode) for name in ("", "a", "a/b")] == [0o750] * 3


def test_a_tree_deeper_than_the_handles_is_written(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9."""
    monkeypatch.setattr(handles, "MAX_OPEN", 4)
    before = len(os.listdir("/proc/self/fd"))
    deep = [b"/".join([b"d"] * n) for n in range(1, 31)]

    target.restore(
        folder(b""),
        *(folder(path, 0o711, mtime=n) for n, path in enumerate(deep)),
        entry(deep[-1] + b"/file"),
        entry(deep[2] + b"/x"),
        entry(b"z"),
    )

    assert not target.problems
    assert [int(os.stat(target.path / os.fsdecode(path)).st_mtime) for path in deep] == list(range(30))
    assert (target.path / "d/d/d/x").exists() and (target.path / "z").exists()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_single_file_becomes_the_target_itself(target: Target) -> None:
    target.restore(entry(b"", mode=0o640))

    assert target.path.read_bytes() == b""
    assert stat.S_IMODE(os.stat(target.path).st_mode) == 0o640


def test_a_single_file_takes_the_place_of_an_empty_folder(target: Target) -> None:
    target.path.mkdir()

    target.restore(entry(b""))

    assert target.path.is_file() and not target.problems


def test_a_part_of_an_archive_may_be_a_symlink(target: Target) -> None:
    """``--path-to-restore`` of anything that is neither folder nor file."""
    target.restore(entry(b"", SYM, link=b"somewhere"), part=True)

    assert os.readlink(target.path) == "somewhere"


def test_the_folders_above_the_target_are_made(target: Target) -> None:
    target.path = target.path / "new/deeper"

    target.restore(folder(b""), entry(b"x"))

    assert (target.path / "x").exists()


# What is in the way.


def test_a_target_that_is_not_empty_is_refused_with_code_11(target: Target) -> None:
    """Format specification, section 21."""
    target.path.mkdir()
    target.restore(folder(b""))
    (target.path / "x").touch()

    with pytest.raises(RestoreError) as refused:
        target.writer()
    assert refused.value.exit_code == 11
    target.writer(force=True)


def test_a_target_that_is_a_file_is_refused(target: Target) -> None:
    target.path.write_bytes(b"mine")

    with pytest.raises(RestoreError) as refused:
        target.writer()

    assert refused.value.exit_code == 11
    assert target.path.read_bytes() == b"mine"


def test_a_target_that_is_a_symlink_of_the_user_is_followed(target: Target) -> None:
    (target.path.parent / "real").mkdir()
    target.path.symlink_to("real")

    target.restore(folder(b""), entry(b"x"))

    assert (target.path.parent / "real/x").exists()


def test_force_replaces_what_is_no_folder_and_keeps_what_is_not_archived(target: Target) -> None:
    target.path.mkdir()
    (target.path / "file").write_bytes(b"old")
    other_name = target.path / "hard"
    os.link(target.path / "file", other_name)
    (target.path / "link").symlink_to(target.outside / "victim")
    (target.path / "dirlink").symlink_to(target.outside)
    (target.path / "pipe").write_bytes(b"was a file")
    (target.path / "sub").mkdir()
    (target.path / "sub/kept").touch()

    target.restore(
        folder(b""),
        folder(b"dirlink"),
        entry(b"dirlink/victim"),
        entry(b"file"),
        entry(b"link"),
        entry(b"pipe", FIFO),
        folder(b"sub"),
        entry(b"sub/new", SYM, link=b"x"),
        force=True,
    )

    assert not target.problems
    assert (target.path / "file").read_bytes() == b"file"
    assert other_name.read_bytes() == b"old"  # replaced by rename, not written through
    assert (target.path / "link").read_bytes() == b"link" and not (target.path / "link").is_symlink()
    assert stat.S_ISFIFO(os.lstat(target.path / "pipe").st_mode)
    assert target.names() == ["dirlink", "dirlink/victim", "file", "hard", "link", "pipe", "sub", "sub/kept", "sub/new"]


def test_force_does_not_replace_a_folder_by_something_else(target: Target) -> None:
    (target.path / "file/in").mkdir(parents=True)
    (target.path / "link").mkdir()

    target.restore(folder(b""), entry(b"file"), entry(b"link", SYM, link=b"x"), entry(b"z"), force=True)

    assert target.problem_paths == [b"file", b"link"]
    assert target.names() == ["file", "file/in", "link", "z"]


def test_a_target_that_cannot_be_made_ends_everything(target: Target) -> None:
    """Not a problem of each entry, but one error that names the target."""
    (target.path.parent / "file").touch()
    target.path = target.path.parent / "file/below"

    with pytest.raises(RestoreError):
        target.restore(folder(b""))


def test_a_target_that_appears_meanwhile_as_something_else_ends_everything(target: Target) -> None:
    writer = target.writer()
    target.path.symlink_to(target.outside)

    with pytest.raises(RestoreError, match="cannot be made"):
        writer.simple(folder(b""))
    writer.close()


def test_a_folder_moved_away_meanwhile_is_not_followed(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: on the way up, the folder above must be the one that was left."""
    monkeypatch.setattr(handles, "MAX_OPEN", 2)
    writer = target.writer()
    for path in (b"", b"a", b"a/b", b"a/b/c", b"a/b/c/d"):
        writer.simple(folder(path))
    (target.path / "a/b/c").rename(target.outside / "c")
    file = writer.file(entry(b"a/b/x"))
    file.write(b"content")
    file.close()
    writer.finish()

    assert target.problems and all(path in (b"", b"a", b"a/b", b"a/b/x") for path in target.problem_paths)
    assert sorted(os.listdir(target.outside)) == ["c", "victim"] and os.listdir(target.outside / "c") == ["d"]


# What goes wrong with one entry (P3).


def test_a_problem_with_one_entry_leaves_nothing_of_it_and_the_rest_goes_on(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3."""
    writer = target.writer()
    writer.simple(folder(b""))
    file = writer.file(entry(b"a"))
    file.write(b"half")
    real = os.write
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    file.write(b"more")
    monkeypatch.setattr(os, "write", real)
    file.write(b"still more")
    file.close()
    file = writer.file(entry(b"b"))
    file.write(b"content")
    file.close()
    writer.finish()

    assert target.problems == [(b"a", "not restored: No space left on device")]
    assert target.names() == ["b"] and writer.entries == 2


def test_short_writes_are_gone_on_with(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:3]))

    target.restore(folder(b""), entry(b"a-long-name"))

    assert (target.path / "a-long-name").read_bytes() == b"a-long-name"


def test_an_aborted_file_is_removed(target: Target) -> None:
    """P3: no half of a file stays under its name."""
    writer = target.writer()
    file = writer.file(entry(b"a"))
    file.write(b"half")
    file.abort()
    writer.finish()

    assert target.names() == []


def test_an_aborted_file_leaves_what_it_would_have_replaced(target: Target) -> None:
    target.path.mkdir()
    (target.path / "a").write_bytes(b"old")
    writer = target.writer(force=True)
    file = writer.file(entry(b"a"))
    file.write(b"half")
    file.abort()
    writer.finish()

    assert target.names() == ["a"] and (target.path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (entry(b"x", mtime=2**80), "modification time"),
        (entry(b"x", owner=(2**40, 0)), "owner"),
        (entry(b"x", owner=(-1, 0)), "owner"),
        (entry(b"x", owner=(2**32 - 1, 0)), "owner"),
    ],
)
def test_attributes_that_cannot_be_are_reported_and_the_others_set(target: Target, bad: Entry, what: str) -> None:
    """P3; -1 would tell the kernel to leave the owner alone."""
    target.restore(folder(b""), bad)

    assert target.problem_paths == [b"x"] and what in target.problems[0][1]
    assert (target.path / "x").read_bytes() == b"x"
    assert stat.S_IMODE(os.stat(target.path / "x").st_mode) == 0o644


# Owners, dangerous modes and devices (P8).


@needs_root
def test_owners_come_back_by_name_where_known_else_by_number(target: Target) -> None:
    known = pwd.getpwuid(1)

    target.restore(
        folder(b"", owner=(77, 78)),
        entry(b"link", SYM, link=b"x", owner=(5, 6)),
        entry(b"named", owner=(77, 78), names=(known.pw_name.encode(), b"no such group here")),
        entry(b"pipe", FIFO, owner=(7, 8)),
    )

    owners = {name: os.lstat(target.path / name)[4:6] for name in ("", "link", "named", "pipe")}
    assert owners == {"": (77, 78), "link": (5, 6), "named": (1, 78), "pipe": (7, 8)}
    assert not target.problems


@needs_root
def test_numeric_owner_believes_numbers_only(target: Target) -> None:
    target.restore(folder(b""), entry(b"a", owner=(77, 78), names=(b"daemon", b"daemon")), numeric_owner=True)

    assert os.stat(target.path / "a")[4:6] == (77, 78)


@needs_root
def test_setuid_comes_back_with_its_owner(target: Target) -> None:
    """P8: the mode is set after the owner, which would clear the bits."""
    target.restore(folder(b"", 0o2755), entry(b"su", mode=0o4755, owner=(5, 6)))

    assert stat.S_IMODE(os.stat(target.path / "su").st_mode) == 0o4755
    assert stat.S_IMODE(os.stat(target.path).st_mode) == 0o2755
    assert not target.notices


@pytest.mark.parametrize("how", ["unprivileged", "unwanted"])
def test_setuid_never_comes_back_without_its_owner(target: Target, how: str) -> None:
    """P8."""

    def restore() -> None:
        target.restore(
            folder(b"", owner=ids()),
            entry(b"mine", mode=0o4755, owner=ids()),
            entry(b"su", mode=0o6755, owner=(0 if how == "unprivileged" else 5, 0)),
            ownership=None if how == "unprivileged" else False,
        )
        assert stat.S_IMODE(os.stat(target.path / "su").st_mode) == 0o755
        assert stat.S_IMODE(os.stat(target.path / "mine").st_mode) == 0o4755
        assert [path for path, _ in target.notices] == [b"su"] and not target.problems

    target.as_user(restore) if how == "unprivileged" else restore()


def ids() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def test_without_privilege_owners_are_counted_not_tried(target: Target) -> None:
    """P3: no problem unless owners were asked for."""

    def restore() -> None:
        entries = [folder(b"", owner=ids()), entry(b"a", owner=(1, 1)), entry(b"b", SYM, link=b"x", owner=(1, 1)), entry(b"c", owner=ids())]
        writer = target.restore(*entries)
        assert writer.owners_left == 2 and not target.problems
        assert int(os.stat(target.path / "a").st_mtime) == MTIME

    target.as_user(restore)


def test_without_privilege_an_owner_that_was_asked_for_is_a_problem(target: Target) -> None:
    """P3; mode and time are set all the same."""

    def restore() -> None:
        target.restore(folder(b"", owner=ids()), entry(b"a", mode=0o4640, owner=(0, 0)), ownership=True)
        assert target.problem_paths == [b"a"]
        status = os.stat(target.path / "a")
        assert (stat.S_IMODE(status.st_mode), int(status.st_mtime)) == (0o640, MTIME)

    target.as_user(restore)


def test_without_privilege_a_pipe_comes_back(target: Target) -> None:
    def restore() -> None:
        target.restore(folder(b"", owner=ids()), entry(b"pipe", FIFO, 0o600, owner=ids()))
        assert not target.problems
        assert int(os.stat(target.path / "pipe").st_mtime) == MTIME

    target.as_user(restore)


@needs_root
def test_devices_come_back_with_numbers_owner_and_mode(target: Target) -> None:
    target.restore(folder(b""), entry(b"disk", BLK, 0o660, owner=(0, 6), dev=(7, 99)), entry(b"null", CHR, 0o666, dev=(1, 3)))

    disk, null = os.stat(target.path / "disk"), os.stat(target.path / "null")
    assert stat.S_ISBLK(disk.st_mode) and stat.S_IMODE(disk.st_mode) == 0o660 and disk.st_rdev == os.makedev(7, 99) and disk.st_gid == 6
    assert stat.S_ISCHR(null.st_mode) and stat.S_IMODE(null.st_mode) == 0o666 and null.st_rdev == os.makedev(1, 3)
    assert int(null.st_mtime) == MTIME


@needs_root
def test_a_device_is_not_made_without_its_owner(target: Target) -> None:
    """P8 and P3: it is missing, so it is a problem."""
    target.restore(folder(b""), entry(b"a", CHR, owner=(5, 5), dev=(1, 3)), entry(b"b", CHR, owner=ids(), dev=(1, 3)), ownership=False)

    assert target.problem_paths == [b"a"] and target.names() == ["b"]


def test_without_privilege_a_device_is_a_problem(target: Target) -> None:
    def restore() -> None:
        target.restore(folder(b"", owner=ids()), entry(b"null", CHR, dev=(1, 3)))
        assert target.problem_paths == [b"null"] and target.names() == []

    target.as_user(restore)


def test_of_an_untrusted_archive_no_device_and_no_setuid_is_made(target: Target) -> None:
    """P8."""
    target.restore(folder(b""), entry(b"null", CHR, dev=(1, 3)), entry(b"su", mode=0o6755), untrusted=True)

    assert target.names() == ["su"] and stat.S_IMODE(os.stat(target.path / "su").st_mode) == 0o755
    assert [path for path, _ in target.notices] == [b"null", b"su"] and not target.problems


# Hostile archives (P7): whatever they hold, nothing outside is touched (``restore`` checks it) and it is reported.

LINK_OUT = entry(b"d", SYM, link=b"../outside")

HOSTILE = {
    "file below a symlink": [LINK_OUT, entry(b"d/victim")],
    "new file below a symlink": [LINK_OUT, entry(b"d/new")],
    "folder below a symlink": [LINK_OUT, folder(b"d/new")],
    "folder in the place of a symlink": [LINK_OUT, folder(b"d"), entry(b"d/victim")],
    "file deep below a symlink": [LINK_OUT, entry(b"d/e/f/new")],
    "symlink below a symlink": [LINK_OUT, entry(b"d/new", SYM, link=b"/")],
    "fifo below a symlink": [LINK_OUT, entry(b"d/new", FIFO)],
    "file in the place of a symlink to a file": [entry(b"d", SYM, link=b"../outside/victim"), entry(b"d")],
    "symlink chain": [entry(b"a", SYM, link=b".."), entry(b"a/outside", SYM, link=b"x"), entry(b"a/outside/victim")],
    "absolute path": [entry(b"/tmp/asyncdup-never")],
    "dot dot": [entry(b"../outside/new")],
    "dot dot inside": [folder(b"a"), entry(b"a/../../outside/new")],
    "dot dot as the name": [folder(b"a/..")],
    "dot dot as a file": [entry(b"a/..")],
    "dot as the name": [entry(b"a/.")],
    "double slash": [entry(b"a//b")],
    "trailing slash": [entry(b"a/")],
    "NUL in the name": [entry(b"a\0b")],
    "NUL in a parent": [entry(b"a\0b/c")],
    "NUL in a link target": [entry(b"a", SYM, link=b"x\0y")],
    "name too long": [entry(b"n" * 256)],
    "parent too long": [entry(b"n" * 256 + b"/x")],
    "link target too long": [entry(b"a", SYM, link=b"x/" * 3000)],
    "empty link target": [entry(b"a", SYM)],
    "same file twice": [entry(b"a"), entry(b"a")],
    "file, then a child of it": [entry(b"a"), entry(b"a/b")],
    "file, then the folder": [entry(b"a"), folder(b"a"), entry(b"a/b")],
    "fifo, then a child of it": [entry(b"a", FIFO), entry(b"a/b")],
    "folder twice": [folder(b"a"), folder(b"a")],
    "folder, then a file": [folder(b"a"), entry(b"a")],
    "folder, then a symlink": [folder(b"a"), LINK_OUT._replace(path=b"a"), entry(b"b"), entry(b"a/victim")],
    "device with impossible numbers": [entry(b"a", CHR, dev=(2**40, -1))],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("force", [False, True], ids=["new", "forced"])
def test_hostile_entries_stay_inside_and_are_reported(target: Target, entries: list[Entry], force: bool) -> None:
    """P7."""
    target.restore(folder(b""), *entries, entry(b"z-good"), force=force)

    harmless_if_forced = {"same file twice", "folder in the place of a symlink", "file in the place of a symlink to a file", "folder twice"}
    harmless_if_forced |= {"file, then the folder"}
    name = next(name for name, value in HOSTILE.items() if value is entries)
    assert target.problems or (force and name in harmless_if_forced)
    assert (target.path / "z-good").read_bytes() == b"z-good"
    assert not os.path.lexists("/tmp/asyncdup-never")


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("overwrite", ["never", "older"])
def test_hostile_entries_stay_inside_of_a_tree_that_is_there(target: Target, entries: list[Entry], overwrite: str) -> None:
    """P7: what is there leads out of it, too, and gives way or not by the rule."""
    target.path.mkdir()
    (target.path / "a").symlink_to(target.outside)
    (target.path / "b").symlink_to(target.outside / "victim")
    writer = target.restore(folder(b""), *entries, entry(b"z-good"), overwrite=overwrite)

    assert target.problems or writer.overwriting.kept or writer.overwriting.replaced or writer.entries > 2
    assert (target.path / "z-good").read_bytes() == b"z-good"
    assert not [name for name in target.names() if name.startswith(".asyncdup-")]


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_hostile_entries_stay_inside_without_privilege(target: Target, entries: list[Entry]) -> None:
    """P7, as a user."""

    def restore() -> None:
        target.restore(folder(b"", owner=ids()), *entries, entry(b"z-good"))
        assert target.problems and (target.path / "z-good").exists()

    target.as_user(restore)


COMPONENTS = st.sampled_from([b"a", b"b", b"d", b"..", b".", b"", b"victim", b"outside", b"\0", b"n" * 256])
ENTRIES = st.builds(
    entry,
    st.lists(COMPONENTS, min_size=1, max_size=4).map(b"/".join),
    st.sampled_from([REG, DIR, SYM, FIFO]),
    st.sampled_from([0, 0o644, 0o777, 0o6777]),
    link=st.sampled_from([b"..", b"../outside", b"../outside/victim", b"/", b"a", b"d/..", b""]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(ENTRIES, max_size=12), st.sampled_from([None, "never", "older", "always"]), st.booleans())
def test_whatever_comes_in_whatever_order_stays_inside(entries: list[Entry], overwrite: str | None, begun: bool) -> None:
    """P7: the writer does not count on its readers' checks, nor on the order of entries."""
    with tempfile.TemporaryDirectory() as above:
        target = Target(Path(above))
        target.restore(*([folder(b"")] if begun else []), *entries, overwrite=overwrite)
        assert sorted(os.listdir(above)) in (["outside"], ["outside", "target"])
        assert target.path.is_dir() or not entries or not entries[0].path or target.problems


@pytest.mark.parametrize("kind", [SYM, FIFO, CHR, BLK])
def test_a_root_that_is_neither_folder_nor_file_is_refused(target: Target, kind: bytes) -> None:
    """P7."""
    target.restore(entry(b"", kind, link=b"outside"), entry(b"victim"))

    assert target.problem_paths == [b""]
    assert target.names() == ["victim"]


def test_nothing_comes_below_a_single_file(target: Target) -> None:
    """P7."""
    target.restore(entry(b""), entry(b"a"), folder(b"b"), folder(b""), entry(b""))

    assert target.problem_paths == [b"a", b"b", b"", b""]
    assert target.path.is_file()


@pytest.mark.parametrize("force", [False, True])
def test_symlinks_planted_while_it_runs_are_not_followed(target: Target, force: bool) -> None:
    """P7: by someone who may write into the target meanwhile."""
    writer = target.writer(force=force)
    writer.simple(folder(b""))
    writer.simple(folder(b"a"))
    (target.path / "b").symlink_to(target.outside)
    (target.path / "a/victim").symlink_to(target.outside / "victim")
    for each in (entry(b"a/victim"), entry(b"b/victim")):
        file = writer.file(each)
        file.write(b"overwritten")
        file.close()
    writer.finish()

    assert target.problem_paths == ([b"b/victim"] if force else [b"a/victim", b"b/victim"])
    assert target._outside() == target.before


def test_a_folder_swapped_for_a_symlink_gets_no_attributes_of_the_link(target: Target) -> None:
    """P7: attributes go through the handle."""
    writer = target.writer()
    writer.simple(folder(b""))
    writer.simple(folder(b"a", 0o777))
    (target.path / "a").rename(target.path / "moved")
    (target.path / "a").symlink_to(target.outside)
    writer.finish()

    assert target._outside() == target.before
    assert stat.S_IMODE(os.stat(target.path / "moved").st_mode) == 0o777
