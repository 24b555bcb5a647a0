"""Putting a chain together: what comes out of the sets, in which order bytes are asked for, and what is reported instead of restored."""

from __future__ import annotations

import gzip
import json
import os
import random
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.archive import patch
from asyncdup.archive.consume import NO_BASE, Merger
from asyncdup.archive.tree import TreeWriter
from asyncdup.errors import FormatError
from asyncdup.formats import difftar, rdiff
from asyncdup.formats.tar import DIR, REG, SYM, Entry, key

FIXTURES = Path(__file__).parent.parent / "fixtures"
END = b"\0"  # of a delta

Volumes = Sequence[bytes]  # of one set


def entry(path: bytes, kind: bytes = REG, mtime: int = 0) -> Entry:
    return Entry(path, kind, 0o755, 0, 0, mtime, 0, b"", b"", b"x" if kind == SYM else b"", (0, 0))


def volume(*members: bytes) -> bytes:
    data = b"".join(members)
    return data + difftar.end(len(data))


def snapshot(path: bytes, data: bytes = b"", mtime: int = 0) -> bytes:
    return split("snapshot", path, data, mtime)


def split(verb: str, path: bytes, data: bytes, mtime: int = 0) -> bytes:
    """As a writer does: parts of 64 KiB if there is more than one."""
    about = entry(path, mtime=mtime)
    if len(data) < difftar.PART:
        return difftar.snapshot(about, data) if verb == "snapshot" else difftar.diff(about, data)
    return b"".join(
        difftar.multivol(verb, about, at // difftar.PART + 1, data[at : at + difftar.PART])  # type: ignore[arg-type]
        for at in range(0, len(data) + 1, difftar.PART)
    )


def folder(path: bytes, mtime: int = 0) -> bytes:
    return difftar.snapshot(entry(path, DIR, mtime))


def delta(old: bytes, new: bytes) -> bytes:
    with closing(rdiff.DeltaWriter(rdiff.sign(old, 512))) as writer:
        return writer.feed(new) + writer.finish()


def diff(path: bytes, old: bytes, new: bytes, mtime: int = 0) -> bytes:
    return split("diff", path, delta(old, new), mtime)


class Recorder:
    """A sink that remembers: path -> (entry, content), None as long as a file is open or after it was aborted."""

    def __init__(self) -> None:
        self.found: dict[bytes, tuple[Entry, bytes]] = {}
        self.open: list[bytes] = []
        self.aborted: list[bytes] = []
        self.largest_write = 0
        self.finished = False

    def simple(self, entry: Entry) -> None:
        self.found[entry.path] = (entry, b"")

    def file(self, entry: Entry) -> RecordedFile:
        assert not self.open, "two files at once"
        self.open.append(entry.path)
        return RecordedFile(self, entry)

    def finish(self) -> None:
        self.finished = True


class RecordedFile:
    def __init__(self, recorder: Recorder, entry: Entry) -> None:
        self.recorder, self.entry, self.data = recorder, entry, bytearray()

    def write(self, data: bytes) -> None:
        self.data += data
        self.recorder.largest_write = max(self.recorder.largest_write, len(data))

    def close(self) -> None:
        self.recorder.open.remove(self.entry.path)
        self.recorder.found[self.entry.path] = (self.entry, bytes(self.data))

    def abort(self) -> None:
        self.recorder.open.remove(self.entry.path)
        self.recorder.aborted.append(self.entry.path)


class Merge:
    """A merger with its sink and what it reported."""

    def __init__(self, tempdir: Path, sets: int, **options: object) -> None:
        self.sink = Recorder()
        self.problems: list[tuple[bytes, str]] = []
        self.asked: list[int] = []
        self.merger = Merger(
            self.sink,
            sets,
            tempdir=tempdir,
            on_problem=lambda path, what: self.problems.append((path, what)),
            **options,  # type: ignore[arg-type]
        )

    def run(self, sets: Sequence[Volumes], chunk: Callable[[], int] = lambda: 4096) -> Merge:
        """Feed what is asked for, ``chunk()`` bytes at a time; an empty volume is one that is lost."""
        steps = [self._steps(index, volumes, chunk) for index, volumes in enumerate(sets)]
        while (index := self.merger.needs()) is not None:
            self.asked.append(index)
            next(steps[index])
        self.merger.finish()
        assert self.sink.finished and not self.sink.open
        return self

    def _steps(self, index: int, volumes: Volumes, chunk: Callable[[], int]) -> Iterable[None]:
        for data in volumes:
            at = 0
            while at < len(data):
                size = chunk()
                yield self.merger.feed(index, data[at : at + size])
                at += size
            yield self.merger.end_volume(index) if data else self.merger.lose_volume(index)
        yield self.merger.end_set(index)

    @property
    def contents(self) -> dict[bytes, bytes]:
        return {path: data for path, (entry, data) in self.sink.found.items() if entry.kind == REG}


@pytest.fixture
def merge(tmp_path: Path) -> Callable[..., Merge]:
    """Merges sets of volumes."""

    def run(*sets: Volumes, chunk: int = 4096, **options: object) -> Merge:
        return Merge(tmp_path, len(sets), **options).run(sets, lambda: chunk)

    return run


# Archives of stock duplicity.


def stored(fixture: str, upto: int) -> list[list[bytes]]:
    """The decoded volumes of the first ``upto`` sets."""
    sets: dict[str, list[Path]] = {}
    for path in (FIXTURES / fixture / "remote").glob("*.difftar*"):
        sets.setdefault(path.name.rpartition(".vol")[0], []).append(path)
    order = sorted(sets, key=lambda name: name.rsplit(".", 1)[1])  # by the time at the end of the name
    return [[decoded(path) for path in sorted(sets[name], key=number)] for name in order[:upto]]


def decoded(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def number(path: Path) -> int:
    return int(path.name.rpartition(".vol")[2].partition(".")[0])


def listing(root: bytes) -> list[dict[str, object]]:
    """A tree in the shape of ``fixtures/*/expected``."""
    names = [b".", *(os.path.relpath(os.path.join(top, name), root) for top, folders, files in os.walk(root) for name in folders + files)]
    return [described(root, name) for name in sorted(names, key=lambda name: [] if name == b"." else name.split(b"/"))]


def described(root: bytes, name: bytes) -> dict[str, object]:
    path = os.path.join(root, name)
    status = os.lstat(path)
    kinds = {stat.S_IFREG: "reg", stat.S_IFDIR: "dir", stat.S_IFLNK: "sym", stat.S_IFIFO: "fifo", stat.S_IFCHR: "chr", stat.S_IFBLK: "blk"}
    found: dict[str, object] = {
        "path": os.fsdecode(name),
        "type": kinds[stat.S_IFMT(status.st_mode)],
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
    if found["type"] == "sym":
        return found | {"target": os.fsdecode(os.readlink(path))}
    found |= {"mode": stat.S_IMODE(status.st_mode), "mtime": int(status.st_mtime)}
    if found["type"] == "reg":
        content = Path(os.fsdecode(path)).read_bytes()
        found |= {"size": len(content), "sha256": sha256(content).hexdigest()}
    if found["type"] in ("chr", "blk"):
        found["dev"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need the superuser")
@pytest.mark.parametrize(
    ("fixture", "time", "upto"),
    [
        ("plain-chain", "20231114T221320Z", 1),
        ("plain-chain", "20231115T221320Z", 2),
        ("plain-chain", "20231116T221320Z", 3),
        ("no-compression", "20231115T221320Z", 2),
        ("odd-names-types", "20231115T221320Z", 2),
    ],
)
def test_chains_of_stock_duplicity_give_the_trees_that_it_restores(tmp_path: Path, fixture: str, time: str, upto: int) -> None:
    """P3, P8: content, types, owners, modes, times, devices, names."""
    expected = FIXTURES / fixture / "expected" / f"{time}.jsonl"
    if not expected.exists():
        expected = max(expected.parent.glob("*.jsonl"))
    problems: list[object] = []
    sets = stored(fixture, upto)
    target = os.fsencode(tmp_path / "target")
    writer = TreeWriter(target, on_problem=lambda *what: problems.append(what), on_notice=lambda *what: None)
    merge = Merge(tmp_path, len(sets))
    merge.merger = Merger(writer, len(sets), tempdir=tmp_path, on_problem=lambda *what: problems.append(what))
    merge.sink.finished = True

    merge.run(sets)

    assert problems == []
    assert listing(target) == [json.loads(line) for line in expected.read_text().splitlines()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]


# What comes out.


def test_the_newest_state_of_each_path_comes_out_once_and_in_order(merge: Callable[..., Merge]) -> None:
    """Format specification, section 17."""
    full = volume(folder(b""), folder(b"a"), snapshot(b"a/deleted", b"1"), snapshot(b"a/diffed", b"old"), snapshot(b"a/new again", b"1"))
    first = volume(folder(b"", 1), difftar.deleted(b"a/deleted"), diff(b"a/diffed", b"old", b"middle"), difftar.deleted(b"a/new again"))
    last = volume(folder(b"a", 2), diff(b"a/diffed", b"middle", b"new", 2), snapshot(b"a/new again", b"3", 2), snapshot(b"b", b"4", 2))

    found = merge([full], [first], [last]).sink.found

    assert [(path, about.mtime, data) for path, (about, data) in found.items()] == [
        (b"", 1, b""),
        (b"a", 2, b""),
        (b"a/diffed", 2, b"new"),
        (b"a/new again", 2, b"3"),
        (b"b", 2, b"4"),
    ]


def test_who_asks_for_them_gets_the_versions_that_later_sets_replace(merge: Callable[..., Merge]) -> None:
    """Each as of its set, also one that is split, and one behind which a new file begins; what is no file, or is the newest, is none of them."""
    large, larger = b"large" * 30_000, b"large" * 30_000 + b"r"
    full = volume(folder(b""), folder(b"a"), snapshot(b"a/diffed", b"1"), snapshot(b"b", large), snapshot(b"c", b"only here"))
    first = volume(folder(b"", 1), diff(b"a/diffed", b"1", b"2"), diff(b"b", large, larger))
    second = volume(difftar.deleted(b"a/diffed"), snapshot(b"b", b"new"))
    last = volume(snapshot(b"a/diffed", b"4"), diff(b"b", b"new", b"newer"))
    before: dict[int, Recorder] = {index: Recorder() for index in range(4)}

    found = merge([full], [first], [second], [last], on_superseded=lambda index, about: before[index].file(about))

    assert found.contents == {b"a/diffed": b"4", b"b": b"newer", b"c": b"only here"} and found.problems == []
    versions = [{path: data for path, (_, data) in each.found.items()} for each in before.values()]
    assert versions == [{b"a/diffed": b"1", b"b": large}, {b"a/diffed": b"2", b"b": larger}, {b"b": b"new"}, {}]


def test_a_version_that_cannot_be_made_is_said_and_the_newest_comes_out(merge: Callable[..., Merge]) -> None:
    sets = [
        volume(snapshot(b"a", b"old")),
        volume(diff(b"a", b"a longer base" * 100, b"a longer base" * 101)),
        volume(diff(b"a", b"x", b"y")),
    ]
    before = Recorder()

    found = merge(*([each] for each in sets), [volume(snapshot(b"a", b"new"))], on_superseded=lambda index, about: before.file(about))

    assert found.contents == {b"a": b"new"}
    assert [path for path, _ in found.problems] == [b"a"] and before.aborted == [b"a"] and not before.open


def test_changes_of_type_replace_what_was(merge: Callable[..., Merge]) -> None:
    """Format specification, section 4.1."""
    link = difftar.snapshot(entry(b"x", SYM))
    full = volume(folder(b""), folder(b"d"), snapshot(b"d/inner", b"1"), snapshot(b"x", b"2"))
    inc = volume(snapshot(b"d", b"now a file"), difftar.deleted(b"d/inner"), link)
    last = volume(folder(b"d"), snapshot(b"d/inner", b"again"), snapshot(b"x", b"file again"))

    assert {path: about.kind for path, (about, _) in merge([full], [inc]).sink.found.items()} == {b"": DIR, b"d": REG, b"x": SYM}
    assert merge([full], [inc], [last]).contents == {b"d/inner": b"again", b"x": b"file again"}


@pytest.mark.parametrize("memory", [0, 1000, patch.IN_MEMORY])
@pytest.mark.parametrize("chunk", [1000, 70_000, 1 << 20])
def test_large_files_are_joined_and_patched(merge: Callable[..., Merge], monkeypatch: pytest.MonkeyPatch, memory: int, chunk: int) -> None:
    """In memory or through temporary files, in volumes that end inside them."""
    monkeypatch.setattr(patch, "IN_MEMORY", memory)
    monkeypatch.setattr(patch, "PIECE", 10_000)
    first = random.Random(1).randbytes(200_000)
    second = first[:100_000] + b"inserted" + random.Random(2).randbytes(140_000) + first[100_000:]
    third = second[5000:] + b"end"
    about = entry(b"big")
    parts = [difftar.multivol("snapshot", about, n + 1, first[n * 65536 : (n + 1) * 65536]) for n in range(4)]
    full = [volume(folder(b""), parts[0]), volume(parts[1], parts[2]), volume(parts[3], snapshot(b"z", b"z"))]

    merged = merge(full, [volume(diff(b"big", first, second))], [volume(diff(b"big", second, third))], chunk=chunk)

    assert not merged.problems
    assert merged.contents == {b"big": third, b"z": b"z"}
    assert merged.sink.largest_write <= 20_000


def test_a_snapshot_member_of_any_size_is_taken(merge: Callable[..., Merge]) -> None:
    """Format specification, section 4.2: readers must not depend on 65536."""
    data = random.Random(3).randbytes(200_000)

    assert merge([volume(difftar.snapshot(entry(b"a"), data))]).contents == {b"a": data}


def test_empty_sets_and_no_sets_are_fine(merge: Callable[..., Merge]) -> None:
    assert merge([volume()], [volume()]).sink.found == {}
    assert merge().sink.found == {}
    assert merge([]).sink.found == {}


PATHS = [b"a", b"a b", b"a/b", b"a/b/c", b"a.b", b"b", b"b/" + b"n" * 120, "ü".encode()]
CONTENTS = [b"", b"x", b"some text", bytes(70_000), random.Random(4).randbytes(66_000)]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.dictionaries(st.sampled_from(PATHS), st.one_of(st.none(), st.sampled_from(CONTENTS))), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_any_chain_gives_its_last_state_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, chain: list, rng: random.Random
) -> None:
    """Whatever the pieces, volumes and order of sets asked for; compared with a model of the tree."""
    state: dict[bytes, bytes] = {}
    sets = []
    for changes in chain:
        members = []
        for path, data in sorted(changes.items(), key=lambda change: key(change[0])):
            if data is None:
                members.append(difftar.deleted(path))
                state.pop(path, None)
                continue
            members.append(diff(path, state[path], data) if path in state and rng.random() < 0.7 else snapshot(path, data))
            state[path] = data
        cut = rng.randint(0, len(members))
        sets.append([volume(*members[:cut]), volume(*members[cut:])])

    merged = Merge(tmp_path_factory.getbasetemp(), len(sets)).run(sets, lambda: rng.choice([100, 1000, 50_000, 200_000]))

    assert not merged.problems
    assert merged.contents == state
    assert list(merged.contents) == sorted(state, key=key)


def test_bytes_are_asked_of_a_set_only_when_nothing_else_can_go_on(tmp_path: Path) -> None:
    """P9: what is held is one feed of each set, however large the sets are."""
    full = volume(*(snapshot(b"f%04d" % n, bytes(1000)) for n in range(300)))
    inc = volume(*(snapshot(b"f%04d" % n, b"new") for n in range(0, 300, 50)))
    merged = Merge(tmp_path, 2)
    held = 0

    def chunk() -> int:
        nonlocal held
        held = max(held, *(sum(len(piece.data) for piece in source.queue) for source in merged.merger._sources))
        return 4096

    merged.run([[full], [inc]], chunk)

    assert held <= 4096
    assert len(merged.contents) == 300 and merged.contents[b"f0050"] == b"new"


# A part of the archive.


def test_a_prefix_becomes_the_root(merge: Callable[..., Merge]) -> None:
    """Format specification, section 25: ``--path-to-restore`` of a folder restores its content."""
    inside = [folder(b"a"), snapshot(b"a/x", b"1"), folder(b"a/y"), snapshot(b"a/y/z", b"2")]
    full = volume(folder(b""), snapshot(b"Z"), *inside, snapshot(b"a b", b"0"), snapshot(b"a.b"), snapshot(b"b"))
    inc = volume(folder(b""), diff(b"a/x", b"1", b"new"), snapshot(b"ab", b"3"))

    found = merge([full], [inc], prefix=b"a").sink.found

    assert {path: data for path, (_, data) in found.items()} == {b"": b"", b"x": b"new", b"y": b"", b"y/z": b"2"}
    assert merge([full], [inc], prefix=b"a/x").contents == {b"": b"new"}
    assert merge([full], [inc], prefix=b"a/x/none").sink.found == {}


def test_volumes_before_the_wanted_path_need_not_be_fed(merge: Callable[..., Merge]) -> None:
    """Format specification, section 17: the first volume fed may begin inside a file that is not wanted."""
    tail = difftar.multivol("snapshot", entry(b"big"), 7, b"end of it")

    merged = merge([volume(tail, snapshot(b"wanted", b"1"))], prefix=b"wanted")

    assert merged.contents == {b"": b"1"} and not merged.problems


def test_paths_can_be_selected(merge: Callable[..., Merge]) -> None:
    full = volume(folder(b""), snapshot(b"a", bytes(100_000)), snapshot(b"b", b"1"), snapshot(b"c", b"2"))

    merged = merge([full], [volume(diff(b"b", b"1", b"3"))], select=lambda entry: entry.path in (b"b", b"c"))

    assert merged.contents == {b"b": b"3", b"c": b"2"} and b"" not in merged.sink.found


# What is reported and not restored (P3, P4). Around it everything else is restored.


def around(*members: bytes) -> Volumes:
    return [volume(snapshot(b"a", b"before"), *members, snapshot(b"z", b"after"))]


AROUND = {b"a": b"before", b"z": b"after"}
COPY = bytes([0x45])  # offset and length in one byte each
MAGIC = rdiff.DELTA_MAGIC


def test_a_diff_without_its_base_is_reported(merge: Callable[..., Merge]) -> None:
    """P3."""
    for sets in (
        [around(diff(b"x", b"old", b"new"))],
        [around(), [volume(diff(b"x", b"old", b"new"))]],
        [
            around(),
            [volume(diff(b"x", b"old", bytes(70_000)))],
            [volume(split("diff", b"x", delta(b"", random.Random(1).randbytes(70_000))))],
        ],
        [around(snapshot(b"x", b"old")), [volume(difftar.deleted(b"x"))], [volume(diff(b"x", b"old", b"new"))]],
        [around(folder(b"x")), [volume(diff(b"x", b"old", b"new"))]],
    ):
        merged = merge(*sets)
        assert merged.problems == [(b"x", NO_BASE)]
        assert merged.contents == AROUND


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (b"", "cut short"),
        (MAGIC, "cut short"),
        (b"rs\x016" + END, "not a delta"),
        (MAGIC + b"\x03abc", "cut short"),
        (MAGIC + b"\x05abc", "cut short"),
        (MAGIC + b"\x03abc" + END + b"x", "after the end"),
        (MAGIC + b"\xff" + END, "unknown command"),
        (MAGIC + COPY + b"\x00\x04" + END, "copies bytes 0 to 4 of a file of 3 bytes"),
        (MAGIC + COPY + b"\xff\x01" + END, "copies bytes"),
        (MAGIC + b"\x50" + b"\x7f" * 8 + b"\x01" * 2 + END, ""),
    ],
)
@pytest.mark.parametrize("position", ["last", "middle"])
def test_a_delta_that_does_not_fit_is_reported_and_leaves_nothing(
    merge: Callable[..., Merge], broken: bytes, what: str, position: str
) -> None:
    """P4: magic, end, and every copy within the file it belongs to."""
    good = [volume(diff(b"x", b"old", b"new"))] if position == "middle" else [volume()]

    merged = merge(around(snapshot(b"x", b"old")), [volume(difftar.diff(entry(b"x"), broken))], good)

    assert [path for path, _ in merged.problems] == [b"x"] and what in merged.problems[0][1]
    assert merged.contents == AROUND
    assert merged.sink.aborted == ([b"x"] if position == "last" else [])


def test_a_broken_large_delta_is_read_over(merge: Callable[..., Merge]) -> None:
    """P3: what follows the fault in a split delta is not taken for anything else."""
    broken = MAGIC + b"\xff" + bytes(200_000)

    merged = merge(around(snapshot(b"x", b"old")), [volume(split("diff", b"x", broken), snapshot(b"y", b"y"))])

    assert [path for path, _ in merged.problems] == [b"x"]
    assert merged.contents == AROUND | {b"y": b"y"}


def test_a_copy_beyond_memory_is_refused_before_it_is_made(merge: Callable[..., Merge]) -> None:
    """P9: lengths come from outside."""
    huge = MAGIC + b"\x54" + (0).to_bytes(8, "big") + (1 << 60).to_bytes(8, "big") + END

    assert [path for path, _ in merge(around(snapshot(b"x", b"old")), [volume(difftar.diff(entry(b"x"), huge))]).problems] == [b"x"]


def test_no_room_for_temporary_files_is_a_problem_of_that_path(merge: Callable[..., Merge], monkeypatch: pytest.MonkeyPatch) -> None:
    """P3."""
    monkeypatch.setattr(patch, "IN_MEMORY", 10)

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(patch.tempfile, "TemporaryFile", full)
    old = bytes(100)

    merged = merge(around(snapshot(b"x", old)), [volume(diff(b"x", old, b"new"))])

    assert [path for path, _ in merged.problems] == [b"x"] and "No space left" in merged.problems[0][1]
    assert merged.contents == AROUND


def test_a_file_whose_beginning_is_missing_is_reported(merge: Callable[..., Merge]) -> None:
    """P3: a set read from its middle on."""
    tail = difftar.multivol("snapshot", entry(b"x"), 3, b"end of it")

    merged = merge([volume(tail, snapshot(b"z", b"after"))])

    assert merged.problems == [(b"x", "the beginning of its content is missing")]
    assert merged.contents == {b"z": b"after"}


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_lost_volume_costs_the_files_with_a_part_in_it_only(merge: Callable[..., Merge], lost: int) -> None:
    """P3: never a shorter file. ``--ignore-errors``."""
    about = entry(b"x")
    part = [difftar.multivol("snapshot", about, n, bytes(65536 if n < 5 else 9)) for n in range(1, 6)]
    full = [
        volume(snapshot(b"a", b"before"), part[0]),
        volume(part[1]),
        volume(part[2], part[3]),
        volume(part[4], snapshot(b"z", b"after")),
    ]
    full[lost] = b""

    merged = merge(full, [volume(diff(b"z", b"after", b"new"))])

    assert b"x" not in merged.contents
    assert {path for path, _ in merged.problems} == ({b"x", b"z"} if lost == 3 else {b"x"})
    assert merged.contents == {
        path: data
        for path, data in {b"a": b"before", b"z": b"new"}.items()
        if not (path == b"a" and lost == 0 or path == b"z" and lost == 3)
    }


def test_a_set_that_is_cut_ends_everything(tmp_path: Path) -> None:
    """P4: tar end marker; what cannot be read is no end."""
    data = volume(snapshot(b"a", b"1"), snapshot(b"b", b"2"))
    merged = Merge(tmp_path, 1)
    merged.merger.feed(0, data[:1100])

    with pytest.raises(FormatError):
        merged.merger.finish()
    with pytest.raises(FormatError):
        merged.merger.end_volume(0)
    with pytest.raises(FormatError):
        merged.merger.end_set(0)
    merged.merger.close()


@pytest.mark.parametrize(
    "members",
    [
        [snapshot(b"b"), snapshot(b"a")],
        [snapshot(b"b"), snapshot(b"b")],
        [snapshot(b"a.b"), snapshot(b"a/b")],
    ],
)
def test_a_set_out_of_order_is_refused(merge: Callable[..., Merge], members: list[bytes]) -> None:
    """P3, P7: out of order it would be merged wrongly (format specification, section 1)."""
    with pytest.raises(FormatError, match="out of order"):
        merge([volume(*members)])


def test_giving_up_aborts_the_open_file_and_frees_the_temporary_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3: at any point; no handle and no half of a file is left."""
    monkeypatch.setattr(patch, "IN_MEMORY", 10)
    old, new = random.Random(5).randbytes(200_000), random.Random(6).randbytes(200_000)
    sets = [[volume(snapshot(b"x", old))], [volume(diff(b"x", old, new))], [volume(diff(b"x", new, old))]]
    handles = len(os.listdir("/proc/self/fd"))
    aborted = 0
    for stop in range(0, 140, 7):
        merged = Merge(tmp_path, 3)
        left = [4096] * stop
        with pytest.raises(IndexError):
            merged.run(sets, left.pop)
        merged.merger.close()
        merged.merger.close()
        assert not merged.sink.open and b"x" not in merged.contents
        assert len(os.listdir("/proc/self/fd")) <= handles
        aborted += len(merged.sink.aborted)

    assert aborted
    assert list(tmp_path.iterdir()) == []
