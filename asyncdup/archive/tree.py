"""Entries of an archive -> the local tree: the sink of a restore.

Everything is made relative to the handle of its folder and never through a symlink (P7); a file gets owner, then mode, then time through
its own handle (P8); a folder gets them when all that is in it is there. What goes wrong with one entry is reported and the rest goes on (P3).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final, NamedTuple

from asyncdup.archive.attributes import FAILURES, Attributes, Report, reason
from asyncdup.archive.handles import Descent, open_folder
from asyncdup.archive.overwrite import Overwrite, Overwriting
from asyncdup.errors import NO_SPACE, RestoreError, exit_code_of
from asyncdup.formats.tar import BLK, CHR, DIR, FIFO, SYM, Entry

TARGET_IN_THE_WAY: Final = 11  # duplicity's exit code (format specification, section 21)

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIPE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICE: Final = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC  # some devices do things when opened
_TYPES: Final = {FIFO: stat.S_IFIFO, CHR: stat.S_IFCHR, BLK: stat.S_IFBLK}
_NO_NAMES: Final = frozenset((b"", b".", b".."))


class TreeWriter:
    """Writes entries, which must come in archive order, into ``target``. Synchronous; holds ``handles.MAX_OPEN`` handles and two at most.

    Args:
        target: becomes the folder (or the single file) that was backed up. Must not exist or be an empty folder, unless ``overwrite``.
        overwrite: write into a folder that is not empty, see ``Overwriting``. A folder is never replaced by something else, what the
            archive does not have is never touched.
        force: the same as ``overwrite="always"``, where that is None.
        part: the archive is restored from some path in it on, so the root may be of any type, not only a folder or a file.
        ownership, numeric_owner, untrusted: see ``Attributes``; ``untrusted`` leaves out device nodes, too (P8).
        on_problem: told of each entry that is not as archived now.
        on_notice: told of what was left out on purpose.

    Raises:
        RestoreError: with exit code 11 if something is in the way; later, if the target cannot be made at all.
    """

    def __init__(
        self,
        target: bytes,
        *,
        overwrite: Overwrite | None = None,
        force: bool = False,
        part: bool = False,
        ownership: bool | None = None,
        numeric_owner: bool = False,
        untrusted: bool = False,
        on_problem: Report,
        on_notice: Report,
    ) -> None:
        self.entries = 0  # written, if not always with all attributes
        self.size = 0  # bytes of the files among them
        self.without_room = 0  # entries that the disk had no room for
        self._target = os.path.realpath(target)
        self.overwriting = Overwriting(overwrite or ("always" if force else None))
        self._part = part
        self._untrusted = untrusted
        self._problem = on_problem
        self._notice = on_notice
        self._attributes = Attributes(
            ownership=ownership, numeric_owner=numeric_owner, untrusted=untrusted, on_problem=on_problem, on_notice=on_notice
        )
        self._descent = Descent()
        self._here = -1  # handle of the present folder
        self._folders: list[_Folder] = []  # from the root to the present one
        self._path: bytes | None = None  # of the present folder
        self._has_root = False
        if not self.overwriting.allowed:
            _refuse_what_is_in_the_way(self._target)

    @property
    def owners_left(self) -> int:
        """Entries whose owner is not the archived one because setting it was not attempted."""
        return self._attributes.owners_left

    def simple(self, entry: Entry) -> None:
        """Make what has no content: a folder, symlink, fifo or device."""
        path = entry.path
        if self._untrusted and entry.kind in (CHR, BLK):
            self._notice(path, "left out: a device node of an archive that is not trusted")
            return
        try:
            self.entries += self._make(path, entry)
        except FAILURES as error:
            self.not_restored(path, error)

    def file(self, entry: Entry) -> WrittenFile:
        """Begin a regular file. It must be closed or aborted before the next entry comes."""
        try:
            name = self._place(entry[0]) if entry[0] else self._root_name()
            try:
                return WrittenFile(self, entry, os.open(name, _NEW, 0o600, dir_fd=self._here), name, name)
            except FileExistsError:
                if not self.overwriting.gives_way(name, self._here, entry):
                    self.overwriting.kept += 1
                    return WrittenFile(self, entry, -1, b"", b"")
            spare = _spare_name()
            return WrittenFile(self, entry, os.open(spare, _NEW, 0o600, dir_fd=self._here), spare, name)
        except FAILURES as error:
            self.not_restored(entry.path, error)
            return WrittenFile(self, entry, -1, b"", b"")

    def not_restored(self, path: bytes, error: Exception) -> None:
        """Report ``error``, one of FAILURES, which left nothing of an entry."""
        self.without_room += exit_code_of(error) == NO_SPACE
        self._problem(path, f"not restored: {reason(error)}")

    def finish(self) -> None:
        """Set the attributes of the folders that are still open, and close everything."""
        while self._folders:
            self._leave()
        self.close()

    def close(self) -> None:
        """Close all handles without setting anything: for a restore that is given up. Idempotent."""
        self._folders.clear()
        self._descent.close()

    # The root, and the way to the folder of an entry.

    def _make(self, path: bytes, entry: Entry) -> bool:
        """Whether it was made, or, for a folder, is there; False if something else is kept in its place."""
        if entry.kind != DIR:
            if not path and not self._part:
                raise ValueError("the root of an archive can only be a folder or a regular file")
            return self._make_node(self._place(path) if path else self._root_name(), entry)
        if path:
            self._enter(self._place(path), path, entry)
        else:
            self._begin(entry)
        return True

    def _begin(self, entry: Entry | None) -> None:
        name = self._root_name(is_folder=True)
        try:
            self._enter(name, b"", entry)
        except OSError as error:
            raise RestoreError(f"{os.fsdecode(self._target)} cannot be made: {error.strerror}", exit_code=exit_code_of(error)) from error

    def _root_name(self, *, is_folder: bool = False) -> bytes:
        """The name of the target in the folder above it, which becomes the present one."""
        if self._has_root:
            raise ValueError("what it is in is no folder in this archive, or it is a second root")
        self._has_root = True
        above, name = os.path.split(self._target)
        try:
            os.makedirs(above, exist_ok=True)
            self._here = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            shown = os.fsdecode(above)
            raise RestoreError(f"{shown} cannot be made or opened: {error.strerror}", exit_code=exit_code_of(error)) from error
        self._descent.down(self._here)
        if not is_folder:
            with suppress(OSError):  # an empty folder may be in the way, nothing else goes
                os.rmdir(name, dir_fd=self._here)
        return name or b"."

    def _place(self, path: bytes) -> bytes:
        """Go to the folder of ``path``; the name in it."""
        folder, _, name = path.rpartition(b"/")
        if folder != self._path:
            self._go_to(folder)
        if name in _NO_NAMES:
            raise ValueError("its path is not one inside the target")
        return name

    def _go_to(self, folder: bytes) -> None:
        if not self._folders:
            self._begin(None)
        while (here := self._path) and folder != here and not folder.startswith(here + b"/"):
            self._leave()
        path = self._path or b""
        rest = folder[len(path) + 1 :] if path else folder
        for name in rest.split(b"/") if rest or folder != path else ():
            if name in _NO_NAMES:
                raise ValueError("its path is not one inside the target")
            path = path + b"/" + name if path else name
            self._enter(name, path, None)

    def _enter(self, name: bytes, path: bytes, entry: Entry | None) -> None:
        """Make or take the folder ``name`` and go into it. ``entry`` None: the archive does not have it (or it failed), only what is inside."""
        implied = entry is None
        new = self._make_folder(name, None if implied or not path else entry, mode=0o777 if implied else 0o700)
        handle = open_folder(name, self._here)
        self._descent.down(handle)
        self._here = handle
        self._path = path
        mode = os.fstat(handle).st_mode & 0o7777 if implied and new else None
        self._folders.append(_Folder(path, None if not new and self.overwriting.spares_folders else entry, mode))
        if mode is not None:
            os.fchmod(handle, 0o700)
        elif self._folders[-1].entry is not None and self.overwriting.allowed and not new:
            with suppress(OSError):  # it may be read-only; what it gets at the end is known
                os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) | 0o700)

    def _make_folder(self, name: bytes, entry: Entry | None, *, mode: int) -> bool:
        """Whether the folder was made; False if it was there. ``entry``: what may take the place of something else; None: nothing may."""
        try:
            os.mkdir(name, mode, dir_fd=self._here)
        except FileExistsError:
            if entry is None:
                return False
            if not self.overwriting.allowed:
                raise
            if stat.S_ISDIR(os.stat(name, dir_fd=self._here, follow_symlinks=False).st_mode):
                return False
            if not self.overwriting.gives_way(name, self._here, entry):
                return False  # opening it as a folder will fail, and say so
            os.unlink(name, dir_fd=self._here)
            os.mkdir(name, mode, dir_fd=self._here)
            self.overwriting.replaced += 1
        return True

    def _leave(self) -> None:
        """The present folder is complete: give it its attributes and go up."""
        folder = self._folders.pop()
        if folder.entry is not None:
            self._attributes.apply(self._here, folder.entry)
        elif folder.mode is not None:
            self._attributes.open_up(self._here, folder.path, folder.mode)
        self._path = self._folders[-1].path if self._folders else None
        try:
            self._here = self._descent.up()
        except OSError as error:
            self._here = -1  # opens nothing: what would come next in there is reported, entry by entry
            self._problem(self._path or b"", reason(error))

    # What is neither folder nor file.

    def _make_node(self, name: bytes, entry: Entry) -> bool:
        """Whether it was made; False if something else is kept in its place."""
        make = self._make_symlink if entry.kind == SYM else self._make_special
        try:
            make(name, entry)
        except FileExistsError:
            if not self.overwriting.gives_way(name, self._here, entry):
                self.overwriting.kept += 1
                return False
            spare = _spare_name()
            make(spare, entry)
            put_in_place(spare, name, self._here)
            self.overwriting.replaced += 1
        return True

    def _make_symlink(self, name: bytes, entry: Entry) -> None:
        os.symlink(entry.link, name, dir_fd=self._here)
        self._attributes.apply_to_symlink(name, self._here, entry)

    def _make_special(self, name: bytes, entry: Entry) -> None:
        is_device = entry.kind != FIFO
        os.mknod(name, 0o600 | _TYPES[entry.kind], os.makedev(*entry.dev) if is_device else 0, dir_fd=self._here)
        if not self._dress(name, entry) and is_device:
            os.unlink(name, dir_fd=self._here)
            raise ValueError("a device node must have its archived owner, which could not be set")

    def _dress(self, name: bytes, entry: Entry) -> bool:
        is_pipe = entry.kind == FIFO
        handle = os.open(name, _PIPE if is_pipe else _DEVICE, dir_fd=self._here)
        try:
            return self._attributes.apply(handle if is_pipe else b"/proc/self/fd/%d" % handle, entry)
        finally:
            os.close(handle)


class _Folder(NamedTuple):
    path: bytes
    entry: Entry | None
    mode: int | None  # what the folder was made with, if the archive does not say


class WrittenFile:
    """A regular file while its content comes. What fails is reported once; after that nothing more is written, and no file is left behind."""

    __slots__ = ("_entry", "_folder", "_handle", "_made", "_name", "_tree")

    def __init__(self, tree: TreeWriter, entry: Entry, handle: int, made: bytes, name: bytes) -> None:
        """``made``: the name it has now; ``name``: the one it gets at the end. ``handle`` -1: it could not be made."""
        self._tree = tree
        self._entry = entry
        self._handle = handle
        self._folder = tree._here
        self._made = made
        self._name = name

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        if self._handle < 0:
            return
        try:
            written = os.write(self._handle, data)
            while written < len(data):
                written += os.write(self._handle, memoryview(data)[written:])
        except OSError as error:
            self._tree.not_restored(self._entry.path, error)
            self.abort()

    def close(self) -> None:
        """The content is complete: set the attributes and give the file its name."""
        handle, self._handle = self._handle, -1
        if handle < 0:
            return
        tree = self._tree
        tree._attributes.apply(handle, self._entry)
        try:
            size = os.fstat(handle).st_size
            os.close(handle)
            if self._made is not self._name:
                put_in_place(self._made, self._name, self._folder)
                tree.overwriting.replaced += 1
        except OSError as error:
            self._remove()
            tree.not_restored(self._entry.path, error)
            return
        tree.entries += 1
        tree.size += size

    def abort(self) -> None:
        """The content is not what was archived: leave nothing behind."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with suppress(OSError):
                os.close(handle)
            self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            os.unlink(self._made, dir_fd=self._folder)


def put_in_place(spare: bytes, name: bytes, folder: int) -> None:
    """Rename ``spare`` to ``name`` in one step, whatever (but a folder) is there. ``spare`` is gone in any case."""
    try:
        os.rename(spare, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(spare, dir_fd=folder)
        raise


def _spare_name() -> bytes:
    return b".asyncdup-" + os.urandom(8).hex().encode()


def _refuse_what_is_in_the_way(target: bytes) -> None:
    shown = os.fsdecode(target)
    try:
        in_the_way = bool(os.listdir(target))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        in_the_way = True
    except OSError as error:
        raise RestoreError(f"{shown} cannot be looked at: {error.strerror}", exit_code=TARGET_IN_THE_WAY) from error
    if in_the_way:
        hint = "restore into a new or empty folder, or say what is to happen to what is there: --overwrite=never, older or always"
        raise RestoreError(f"{shown} exists already and is not an empty folder", exit_code=TARGET_IN_THE_WAY, hint=hint)
