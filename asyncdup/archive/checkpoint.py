"""What a resumed run must know: the journal of an unfinished set, in the archive folder (P1, P2).

Three files beside the cached manifests, named so that stock duplicity passes over them: ``asyncdup-journal-T`` (lines, below),
``asyncdup-journal-T.sigtar`` and ``asyncdup-journal-T.files`` (signature members and file-list lines written so far, plain). The first line
says what the run is, the next ones who writes it; a volume's line is written, and the two side files are fsynced, before the volume is sent; a ``stored`` line follows
when it is durable at the target. So a volume that the journal does not know may be removed from the target, and no other. Between the two, an
``upload`` line says that it goes in parts, and a ``part`` line which of them are there (X5).

A line is JSON, a blank, and the CRC-32 of the JSON in eight hexadecimal digits. The journal ends before the first line that is torn or damaged.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from asyncdup.archive.local_disk import writing_in
from asyncdup.archive.produce import Bound, Cut
from asyncdup.backends import names
from asyncdup.backends.base import Part
from asyncdup.formats.names import MAX_VOLUME, SetId, SetType, format_time
from asyncdup.transfer.parts import Begun

PREFIX = "asyncdup-journal-"
VERSION = 2  # of the lines
OPTION = "--archive-dir"  # says where else the folder may be
BUFFER = 1 << 20  # bytes of side-file data kept before they are written
_SIGTAR, _FILES, _NEW = ".sigtar", ".files", ".new"
_BESIDE = (_SIGTAR, _FILES, _NEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHead:
    """What must be the same for a run to be gone on with.

    ``form``: suffix of the volumes, maker of the deltas, keys; ``rules``: a digest of the selection; ``prefixes``: of the names.
    """

    type: SetType
    start: int | None
    end: int
    source: str
    form: str
    rules: str
    hostname: str
    prefixes: str = ""

    @property
    def set_id(self) -> SetId:
        """The set that the run writes."""
        return SetId(self.type, self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeNote:
    """One sealed volume: its place in the archive order, and how far the side files had come with it.

    ``spool``: the file that it waits in to be sent, which is not flushed: whoever finds one after a kill compares it with ``sha1`` (X5).
    """

    number: int
    name: str
    size: int
    sha1: str
    first: Bound
    last: Bound
    cut: Cut | None
    sigtar: int
    files: int
    lines: int
    spool: str = ""


@dataclass(slots=True)
class State:
    """What a journal says. ``writers``: processes that have worked on the set, by whose temporary names at the target they are known.

    ``uploads``: of volumes that were being sent in parts, by name.
    """

    head: RunHead
    volumes: dict[int, VolumeNote] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    writers: set[str] = field(default_factory=set)
    uploads: dict[str, Begun] = field(default_factory=dict)  # by the name of the volume


class SideFile:
    """A file that grows at its end, in writes of about a MiB. Used from the producer's thread; ``sync`` when no batch is being made."""

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self._folder = path.parent
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        with writing_in(self._folder, OPTION):
            self._file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
            try:
                self._file.truncate(size)
                self._file.seek(size)
            except BaseException:
                self._file.close()
                raise

    def append(self, data: bytes) -> None:
        """Take bytes; they count in ``size`` at once."""
        if data:
            self._pending.append(data)
            self._pending_bytes += len(data)
            self.size += len(data)
            if self._pending_bytes >= BUFFER:
                self._write()

    def sync(self) -> None:
        """All that was appended is on the disk when this returns."""
        self._write()
        with writing_in(self._folder, OPTION):
            os.fdatasync(self._file.fileno())

    def read(self) -> Iterator[bytes]:
        """The whole content, in pieces of a MiB."""
        self._write()
        at = 0
        while data := os.pread(self._file.fileno(), BUFFER, at):
            at += len(data)
            yield data

    def close(self) -> None:
        """Idempotent."""
        self._file.close()

    def _write(self) -> None:
        data = memoryview(b"".join(self._pending))
        self._pending.clear()
        self._pending_bytes = 0
        with writing_in(self._folder, OPTION):
            while data:
                data = data[self._file.write(data) :]


class Journal:
    """The journal of the run under way. Blocking calls: run them in a thread."""

    def __init__(self, folder: Path, head: RunHead, *, sigtar: int = 0, files: int = 0, lines: int = 0) -> None:
        self.head = head
        self.lines = lines
        self.uploads: dict[str, Begun] = {}  # that an earlier run has begun, by name of the volume
        base = _base(folder, head.end)
        self._paths = [base, *_side_files(base)]
        with ExitStack() as opened:
            self.sigtar = opened.enter_context(closing(SideFile(self._paths[1], sigtar)))
            self.files = opened.enter_context(closing(SideFile(self._paths[2], files)))
            with writing_in(folder, OPTION):
                self._log = FileIO(os.open(base, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a")
            opened.pop_all()

    @classmethod
    def begin(cls, folder: Path, head: RunHead) -> Journal:
        """Start a new journal for the set of ``head``."""
        discard(folder, head.end)
        journal = cls(folder, head)
        try:
            journal._append({"v": VERSION, **asdict(head)}, {"writer": names.writer()})
            _sync_folder(folder)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def resume(cls, folder: Path, state: State, upto: int, spooled: Collection[int] = ()) -> Journal:
        """Go on after volume ``upto``: what the side files hold beyond it is cut off, and later volumes are forgotten."""
        rewind(folder, state, upto, spooled)
        note = state.volumes.get(upto)
        if note is None:
            return cls(folder, state.head)
        journal = cls(folder, state.head, sigtar=note.sigtar, files=note.files, lines=note.lines)
        journal.uploads.update(state.uploads)
        return journal

    def volume(self, note: VolumeNote) -> None:
        """Before a volume is sent."""
        self.sigtar.sync()
        self.files.sync()
        self._append(_volume_line(note))

    def stored(self, number: int) -> None:
        """When a volume is durable at the target. After ``close``, by a transfer that outlived its run, it is not noted: a resumed run looks."""
        if not self._log.closed:
            self._append({"stored": number})

    def upload(self, name: str, upload: str, part_size: int) -> None:
        """Before the first part of volume ``name`` is sent. After ``close`` as ``stored``."""
        if not self._log.closed:
            self._append(_upload_line(name, upload, part_size))

    def part(self, name: str, upload: str, part: Part) -> None:
        """When a part is durable at the target. After ``close`` as ``stored``."""
        if not self._log.closed:
            self._append(_part_line(name, upload, part))

    def add_lines(self, data: bytes) -> None:
        """File-list lines, counted for the manifest."""
        self.lines += data.count(b"\n")
        self.files.append(data)

    def close(self) -> None:
        """Keep it for a resumed run. Idempotent."""
        for file in (self.sigtar, self.files, self._log):
            file.close()

    def remove(self) -> None:
        """The set is complete at the target: the journal has done its work."""
        self.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _append(self, *lines: dict[str, Any]) -> None:
        data = memoryview(b"".join(map(_encode, lines)))
        with writing_in(self._paths[0].parent, OPTION):
            while data:  # a disk that fills up takes a part; the rest then fails as it must
                data = data[self._log.write(data) :]
            os.fdatasync(self._log.fileno())


def find(folder: Path) -> list[State]:
    """The journals in ``folder``, oldest set first. One without a head is passed over: nothing was sent under it.

    Raises:
        OSError: one cannot be read. Nothing that it may speak of may be touched then.
    """
    paths = [path for path in folder.glob(PREFIX + "*") if not path.name.endswith(_BESIDE)]
    states = [state for path in paths if (state := _read(path)) is not None]
    return sorted(states, key=lambda state: state.head.end)


def rewind(folder: Path, state: State, upto: int, spooled: Collection[int] = ()) -> None:
    """Let the journal say that the volumes up to ``upto`` are stored, but for those ``spooled``, which are yet to be sent; and no others.

    Before these are removed from the target.
    """
    base = _base(folder, state.head.end)
    temporary = base.with_name(base.name + _NEW)
    lines = [{"v": VERSION, **asdict(state.head)}, *({"writer": writer} for writer in sorted(state.writers | {names.writer()}))]
    for number in range(1, upto + 1):
        note = state.volumes[number]
        lines += [_volume_line(note), *(_begun_lines(note.name, state.uploads) if number in spooled else [{"stored": number}])]
    _write_durably(temporary, b"".join(_encode(line) for line in lines))
    os.rename(temporary, base)
    _sync_folder(folder)


def discard(folder: Path, end: int) -> None:
    """Remove the journal of the set that ends at ``end``, if there is one."""
    base = _base(folder, end)
    for suffix in ("", *_BESIDE):
        base.with_name(base.name + suffix).unlink(missing_ok=True)


def sweep(folder: Path, *, keep: Collection[int]) -> None:
    """Remove all journals, and what is left of some, but for those of the sets that end at ``keep``."""
    bases = [_base(folder, end) for end in keep]
    kept = {path for base in bases for path in (base, *_side_files(base))}
    for path in folder.glob(PREFIX + "*"):
        if path not in kept:
            path.unlink(missing_ok=True)


def _base(folder: Path, end: int) -> Path:
    return folder / (PREFIX + format_time(end))


def _side_files(base: Path) -> tuple[Path, Path]:
    return base.with_name(base.name + _SIGTAR), base.with_name(base.name + _FILES)


def _read(path: Path) -> State | None:
    state: State | None = None
    sigtar, files = (_size(side) for side in _side_files(path))
    for raw in path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline was cut off by a kill
        try:
            line = _decode(raw)
            if state is None:
                state = State(_head(line))
            elif "writer" in line:
                state.writers.add(str(line["writer"]))
            elif "stored" in line:
                state.stored.add(int(line["stored"]))
            elif "upload" in line:
                state.uploads[str(line["upload"])] = Begun(str(line["id"]), int(line["part_size"]))
            elif "part" in line:
                _add_part(state.uploads, line)
            else:
                note = _note(line)
                if note.sigtar > sigtar or note.files > files:
                    break  # somebody has cut the side files: what they held of this volume cannot be made again
                state.volumes[note.number] = note
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
            break  # torn or damaged: what comes after it is not relied on, and is made again
    return state


def _add_part(uploads: dict[str, Begun], line: dict[str, Any]) -> None:
    """A part of another upload than the newest of that volume is of no use any more."""
    name, (number, size, etag) = str(line["of"]), line["part"]
    begun = uploads.get(name)
    if begun is not None and begun.id == line["id"]:
        uploads[name] = begun._replace(parts=(*begun.parts, Part(int(number), int(size), str(etag))))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _head(line: dict[str, Any]) -> RunHead:
    """Raises ValueError: another version's, or not what was written."""
    if line.pop("v") != VERSION:
        raise ValueError("an unknown version")
    head = RunHead(**line)
    if head.type not in ("full", "inc") or not isinstance(head.end, int) or isinstance(head.start, int) == (head.type == "full"):
        raise ValueError("no backup set")
    _check_types(str, head.source, head.form, head.rules, head.hostname, head.prefixes)
    str(head.set_id)  # its times are such that names can say
    return head


def _note(line: dict[str, Any]) -> VolumeNote:
    """Raises ValueError: not what was written."""
    first, last, cut = line.pop("first"), line.pop("last"), line.pop("cut")
    note = VolumeNote(first=_bound(*first), last=_bound(*last), cut=Cut(os.fsencode(cut[0]), *cut[1:]) if cut else None, **line)
    counts = (note.number, note.size, note.sigtar, note.files, note.lines)
    _check_types(int, *counts, *(cut[1:] if cut else ()))
    _check_types(str, note.name, note.sha1, note.spool)
    if not 1 <= note.number <= MAX_VOLUME or min(counts) < 0 or max(counts) >= 1 << 63:
        raise ValueError("a number that no volume has")
    return note


def _bound(path: str, block: int | None) -> Bound:
    _check_types(int, *([] if block is None else [block]))
    return Bound(os.fsencode(path), block)


def _check_types(kind: type, *values: object) -> None:
    """Raises ValueError."""
    if not all(type(value) is kind for value in values):
        raise ValueError(f"a value that is no {kind.__name__}")


def _volume_line(note: VolumeNote) -> dict[str, Any]:
    line = {name: getattr(note, name) for name in ("number", "name", "size", "sha1", "sigtar", "files", "lines", "spool")}
    for name in ("first", "last", "cut"):
        value = getattr(note, name)
        line[name] = [os.fsdecode(value[0]), *value[1:]] if value else None
    return line


def _upload_line(name: str, upload: str, part_size: int) -> dict[str, Any]:
    return {"upload": name, "id": upload, "part_size": part_size}


def _part_line(name: str, upload: str, part: Part) -> dict[str, Any]:
    return {"part": list(part), "of": name, "id": upload}


def _begun_lines(name: str, uploads: Mapping[str, Begun]) -> list[dict[str, Any]]:
    begun = uploads.get(name)
    if begun is None:
        return []
    return [_upload_line(name, begun.id, begun.part_size), *(_part_line(name, begun.id, part) for part in begun.parts)]


def _encode(line: dict[str, Any]) -> bytes:
    text = json.dumps(line).encode("ascii")
    return b"%b %08x\n" % (text, zlib.crc32(text))


def _decode(raw: bytes) -> Any:
    """What a line says. Raises ValueError: torn or damaged; without the sum a changed digit would be believed (P2)."""
    text, _, checksum = raw.rpartition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("a line that is not as it was written")
    return json.loads(text)


def _write_durably(path: Path, data: bytes) -> None:
    with (
        writing_in(path.parent, OPTION),
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file,
    ):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
