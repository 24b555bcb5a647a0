"""The journal says no less than the target, survives a kill at any byte, and forgets what a resumed run makes again (P1, P2)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from asyncdup.archive import checkpoint
from asyncdup.archive.checkpoint import Journal, RunHead, State, VolumeNote
from asyncdup.archive.produce import Bound, Cut
from asyncdup.archive.resume import before_cut_file
from asyncdup.backends.base import Part
from asyncdup.transfer.parts import Begun

HEAD = RunHead(type="inc", start=1_700_000_000, end=1_700_000_100, source="/src/ü", form=".gz", rules="", hostname="here")


def note(number: int, *, cut: Cut | None = None) -> VolumeNote:
    return VolumeNote(
        number=number,
        name=f"vol{number}",
        size=100 + number,
        sha1="ab" * 20,
        first=Bound(b"a\xff", None),
        last=Bound(b"b/\n", 3),
        cut=cut,
        sigtar=10 * number,
        files=5 * number,
        lines=number,
    )


def with_sum(text: bytes) -> bytes:
    return b"%b %08x\n" % (text, zlib.crc32(text))


def journal_of_three(folder: Path) -> State:
    journal = Journal.begin(folder, HEAD)
    for number in (1, 2, 3):
        journal.sigtar.append(b"s" * 10)
        journal.add_lines(b"line\n")
        journal.volume(note(number, cut=Cut(b"b/\n", 3, 9, 8, 7, 6)))
    journal.stored(2)
    journal.close()
    (state,) = checkpoint.find(folder)
    return state


def test_what_was_noted_is_found_again(tmp_path: Path) -> None:
    state = journal_of_three(tmp_path)

    assert state.head == HEAD
    assert state.head.set_id.start == 1_700_000_000
    assert state.volumes == {number: note(number, cut=Cut(b"b/\n", 3, 9, 8, 7, 6)) for number in (1, 2, 3)}
    assert state.stored == {2}


def test_parts_are_noted_and_kept_while_their_volume_is_yet_to_be_sent(tmp_path: Path) -> None:
    """X5: by the newest upload of the volume, until it is stored; a later resume still knows them."""
    journal_of_three(tmp_path)
    (state,) = checkpoint.find(tmp_path)
    journal = Journal.resume(tmp_path, state, 3, {1, 3})
    journal.upload("vol3", "older", 1000)
    journal.upload("vol3", "newer", 40)
    for upload, part in (("older", Part(1, 40, "x")), ("newer", Part(2, 40, '"e2"')), ("newer", Part(1, 40, '"e1"'))):
        journal.part("vol3", upload, part)
    journal.upload("vol1", "u1", 50)
    journal.close()
    journal.part("vol1", "u1", Part(1, 50, "late"))
    expected = {"vol3": Begun("newer", 40, (Part(2, 40, '"e2"'), Part(1, 40, '"e1"'))), "vol1": Begun("u1", 50)}

    (state,) = checkpoint.find(tmp_path)
    assert state.uploads == expected
    assert set(state.volumes) == {1, 2, 3}

    journal = Journal.resume(tmp_path, state, 3, {3})
    assert journal.uploads["vol3"] == expected["vol3"]
    journal.close()
    (state,) = checkpoint.find(tmp_path)
    assert state.uploads == {"vol3": expected["vol3"]}


def test_side_files_are_on_disk_before_the_volume_is_noted(tmp_path: Path) -> None:
    journal_of_three(tmp_path)

    sigtar = next(tmp_path.glob("*.sigtar"))
    assert sigtar.read_bytes() == b"s" * 30


def test_resume_cuts_side_files_to_the_volume_and_forgets_later_ones(tmp_path: Path) -> None:
    state = journal_of_three(tmp_path)

    journal = Journal.resume(tmp_path, state, 1)
    journal.sigtar.append(b"n" * 10)
    journal.add_lines(b"line\n")
    journal.volume(note(2))
    content = b"".join(journal.sigtar.read())
    journal.close()

    (again,) = checkpoint.find(tmp_path)
    assert content == b"s" * 10 + b"n" * 10
    assert journal.lines == 2
    assert set(again.volumes) == {1, 2}
    assert again.stored == {1}


def test_resume_from_nothing_begins_with_empty_side_files(tmp_path: Path) -> None:
    state = journal_of_three(tmp_path)

    journal = Journal.resume(tmp_path, state, 0)
    size = journal.sigtar.size
    journal.close()

    assert size == 0
    assert checkpoint.find(tmp_path)[0].volumes == {}


@pytest.mark.parametrize("kept", range(0, 1200, 37))
def test_a_journal_cut_at_any_byte_is_read_up_to_the_last_whole_line(tmp_path: Path, kept: int) -> None:
    whole = journal_of_three(tmp_path)
    path = tmp_path / "asyncdup-journal-20231114T221500Z"
    data = path.read_bytes()
    path.write_bytes(data[:kept])

    found = checkpoint.find(tmp_path)

    complete = data[:kept].count(b"\n")
    if complete == 0:
        assert found == []
    else:
        (state,) = found
        assert list(state.volumes) == list(whole.volumes)[: max(0, min(3, complete - 2))]  # two lines of head


def test_a_journal_with_any_bit_flipped_says_a_part_of_what_was_noted_or_nothing(tmp_path: Path) -> None:
    """P2: never another number, name or hash."""
    whole = journal_of_three(tmp_path)
    path = tmp_path / "asyncdup-journal-20231114T221500Z"
    data = path.read_bytes()

    for bit in range(0, 8 * len(data), 7):  # every seventh: each bit of each field in turn
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        before = data[: bit // 8].count(b"\n")  # whole lines: two of head, three volumes, one that is stored

        for state in checkpoint.find(tmp_path):
            assert state.head == whole.head
            assert state.volumes == {number: whole.volumes[number] for number in range(1, before - 1)}
            assert state.stored == set()
        assert bool(before) == bool(checkpoint.find(tmp_path))


def test_a_note_whose_side_files_are_shorter_does_not_count(tmp_path: Path) -> None:
    """Its signatures are lost; a file made longer again with zeros would be nonsense to the next incremental (P2)."""
    journal_of_three(tmp_path)
    sigtar = next(tmp_path.glob("*.sigtar"))
    sigtar.write_bytes(sigtar.read_bytes()[:25])

    (state,) = checkpoint.find(tmp_path)

    assert set(state.volumes) == {1, 2}
    sigtar.unlink()
    assert checkpoint.find(tmp_path)[0].volumes == {}


def test_a_rewound_journal_forgets_volumes_before_they_are_removed(tmp_path: Path) -> None:
    """A kill in between must not make it miss what it has removed itself (P19)."""
    state = journal_of_three(tmp_path)

    checkpoint.rewind(tmp_path, state, 1)

    (again,) = checkpoint.find(tmp_path)
    assert (set(again.volumes), again.stored) == ({1}, {1})


def test_what_is_stored_after_the_end_of_a_run_is_not_noted(tmp_path: Path) -> None:
    """A transfer in a thread may outlive its run; the resumed one reads the volume back."""
    journal = Journal.begin(tmp_path, HEAD)
    journal.close()

    journal.stored(1)

    assert checkpoint.find(tmp_path)[0].stored == set()


def test_sweeping_removes_whatever_is_not_kept(tmp_path: Path) -> None:
    journal_of_three(tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    for name in ("20200101T000000Z", "20200101T000000Z.sigtar", "20231114T221500Z.new", "nonsense"):
        (tmp_path / f"asyncdup-journal-{name}").write_bytes(b"")
    (tmp_path / "lockfile").write_bytes(b"")

    checkpoint.sweep(tmp_path, keep={HEAD.end})

    assert {path.name for path in tmp_path.iterdir()} == kept | {"lockfile"}
    checkpoint.sweep(tmp_path, keep=())
    assert [path.name for path in tmp_path.iterdir()] == ["lockfile"]


@pytest.mark.parametrize("line", [b"5", b"[]", b"{}", b'{"v": 1}', b'{"v": 2, "end": 3}', b"\xff", b'"text"'])
def test_a_head_that_is_none_is_no_journal(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "asyncdup-journal-20231114T221500Z").write_bytes(with_sum(line))

    assert checkpoint.find(tmp_path) == []


@pytest.mark.parametrize("change", [{"type": "other"}, {"end": "soon"}, {"start": None}, {"unknown": 1}])
def test_a_head_of_no_backup_set_is_no_journal(tmp_path: Path, change: dict[str, object]) -> None:
    journal_of_three(tmp_path)
    path = tmp_path / "asyncdup-journal-20231114T221500Z"
    head = json.loads(path.read_bytes().splitlines()[0].rpartition(b" ")[0])
    path.write_bytes(with_sum(json.dumps({**head, **change}).encode()))

    assert checkpoint.find(tmp_path) == []


def test_a_complete_set_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, HEAD)
    journal.remove()

    assert list(tmp_path.iterdir()) == []


def test_files_of_the_journal_are_the_owners_only(tmp_path: Path) -> None:
    """P15."""
    journal_of_three(tmp_path)

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_changed_cut_file_takes_back_every_volume_with_a_part_of_it() -> None:
    """P2: the volume in which the file begins goes, too, since it ends with the old content."""
    other, big = Cut(b"x", 9, 0, 0, 0, 0), Cut(b"big", 2, 0, 0, 0, 0)
    state = State(HEAD, {1: note(1), 2: note(2, cut=other), 3: note(3, cut=big), 4: note(4, cut=big)}, {1, 2, 3, 4})

    assert before_cut_file(state, 4) == 2
    assert before_cut_file(state, 2) == 1
