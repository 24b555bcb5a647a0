"""What the run after an interrupted one takes for its own, what it begins anew, and what it refuses (P2, P12, P19)."""

from __future__ import annotations

import asyncio
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from interop.archives import DAY, START, SYMMETRIC, Archive, run
from interop.trees import edit_plain, listing, make_plain, settle, write

from asyncdup.archive import checkpoint
from asyncdup.archive.selection import Rule
from asyncdup.backends.names import writer
from asyncdup.codecs import Encryption
from asyncdup.commands.backup import BackupResult, backup
from asyncdup.commands.options import Control
from asyncdup.errors import AsyncdupError, ChainError, CodecError, Drained, exit_code_of
from asyncdup.events import Event, VolumeStored
from asyncdup.formats.names import Prefixes

SMALL = 160_000

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unflushed")]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """A tree of about six volumes."""
    found = Archive(tmp_path, None)
    make_plain(found.source)
    return found


def interrupt(archive: Archive, action: Any = "full", *, volumes: int = 2, **options: Any) -> None:
    """A backup that is told to stop when some volumes are stored."""
    control = Control()

    def stop(event: Event) -> None:
        if isinstance(event, VolumeStored) and event.number >= volumes:
            control.drain()

    archive.time += DAY
    archive.heard.hub.on_event(stop)
    chosen = archive.options(volume_size=SMALL, concurrency=1, **options)
    with pytest.raises(Drained):
        run(backup(archive.source, archive.url, chosen, action=action, events=archive.heard.hub, control=control))
    archive.heard.notices.clear()


def go_on(archive: Archive, action: str = "full", **options: Any) -> BackupResult:
    return archive.by_us(action, volume_size=SMALL, **options)


def journals(archive: Archive) -> list[Path]:
    return sorted((archive.cache["us"] / "c").glob("asyncdup-journal-*"))


def names(archive: Archive) -> list[str]:
    return sorted(path.name for path in archive.target.iterdir())


def was_begun_anew(archive: Archive, result: BackupResult) -> bool:
    """Nothing of the interrupted set is left, here and there."""
    return result.resumed == 0 and result.set_id.end == archive.time and not journals(archive) and names_of_one_set(archive)


def names_of_one_set(archive: Archive) -> bool:
    return len({name.split(".")[1] for name in names(archive)}) == 1


def test_a_drained_run_keeps_what_was_stored(archive: Archive) -> None:
    interrupt(archive, volumes=2)

    assert 2 <= len(names(archive)) < 6
    assert len(journals(archive)) == 3
    stored = len(names(archive))

    result = go_on(archive)

    assert result.resumed == stored
    assert archive.heard.notices[0].endswith(f"{stored} of its volumes are at the target")
    assert archive.read_by_us() == listing(archive.source)


def test_a_run_that_is_drained_when_all_is_stored_has_only_its_end_to_write(archive: Archive) -> None:
    """P6: without its manifest the set does not exist; its volumes are not made again."""
    volumes = go_on(archive).volumes
    archive.target.rename(archive.folder / "aside")
    shutil.rmtree(archive.cache["us"])
    interrupt(archive, volumes=volumes)
    before = {path.name: path.stat().st_ino for path in archive.target.iterdir()}
    assert len(before) == volumes

    result = go_on(archive)

    assert (result.resumed, result.volumes) == (volumes, volumes)
    assert before.items() <= {path.name: path.stat().st_ino for path in archive.target.iterdir()}.items()
    assert archive.read_by_us() == listing(archive.source)


@pytest.mark.parametrize("action", ["full", "backup", "incremental"])
def test_an_unfinished_full_is_gone_on_with_by_any_command(archive: Archive, action: str) -> None:
    """Format, section 14: the unfinished set decides the type."""
    interrupt(archive)

    assert go_on(archive, action).resumed > 0


def test_an_unfinished_incremental_is_gone_on_with_but_not_by_a_full(archive: Archive) -> None:
    archive.by_us("full")
    edit_plain(archive.source)
    interrupt(archive, "incremental", volumes=1)

    result = go_on(archive, "full")

    assert result.set_id.is_full
    assert result.resumed == 0
    assert not journals(archive)
    assert not [name for name in names(archive) if "-inc." in name]
    archive.check("us")


@pytest.mark.parametrize(
    "options",
    [
        {"rules": (Rule("exclude", b"**/text"),)},
        {"compression": False},
        {"encryption": SYMMETRIC.options["encryption"]},
    ],
    ids=["rules", "compression", "encryption"],
)
def test_another_run_begins_anew(archive: Archive, options: dict[str, Any]) -> None:
    interrupt(archive)

    result = go_on(archive, **options)

    assert was_begun_anew(archive, result)
    assert len([notice for notice in archive.heard.notices if "another kind" in notice]) == 1
    assert len([notice for notice in archive.heard.notices if "files are removed" in notice]) == 1


def test_another_source_begins_anew(archive: Archive) -> None:
    interrupt(archive)
    write(archive.folder / "other/file", b"content")
    archive.source = archive.folder / "other"

    assert was_begun_anew(archive, go_on(archive))


def test_another_host_begins_anew(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(archive)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")

    assert was_begun_anew(archive, go_on(archive))


def test_a_lost_cache_begins_anew(archive: Archive) -> None:
    interrupt(archive)
    shutil.rmtree(archive.cache["us"])

    assert was_begun_anew(archive, go_on(archive))


def test_backups_with_other_prefixes_go_on_with_their_own(archive: Archive) -> None:
    """Two backups in one target: neither takes the other's journal for its own, nor away."""
    one, two = Prefixes("one-"), Prefixes("two-")
    interrupt(archive, prefixes=one)
    interrupt(archive, prefixes=two)

    assert go_on(archive, prefixes=two).resumed > 0
    assert len(journals(archive)) == 3
    assert go_on(archive, prefixes=one).resumed > 0
    assert not journals(archive)
    assert archive.read_by_us(prefixes=one) == archive.read_by_us(prefixes=two) == listing(archive.source)


def test_a_set_is_not_gone_on_with_after_a_newer_one(archive: Archive) -> None:
    """P12: another machine has made a backup meanwhile; that of the interrupted run would be dated before it."""
    interrupt(archive)
    journal = {path: path.read_bytes() for path in journals(archive)}
    shutil.rmtree(archive.cache["us"])
    go_on(archive)
    for path, data in journal.items():
        path.write_bytes(data)

    result = go_on(archive)

    assert result.resumed == 0
    assert result.set_id.end == archive.time
    archive.check("us")


def test_only_temporary_names_of_our_own_dead_runs_are_removed(archive: Archive) -> None:
    """Another machine may be writing to the target, with another prefix; its temporary names, and locks, look much the same."""
    interrupt(archive)
    foreign = {".asyncdup-1a.0123456789ab-0", ".asyncdup-lock"}
    for name in (*foreign, f".asyncdup-{writer()}-77"):
        (archive.target / name).write_bytes(b"")

    go_on(archive)

    assert {name for name in names(archive) if name.startswith(".asyncdup-")} == foreign


# Passphrases.


@pytest.fixture
def encrypted(tmp_path: Path) -> Archive:
    found = Archive(tmp_path, None, SYMMETRIC)
    write(found.source / "big", bytes(range(256)) * 10)
    for number in range(2):
        write(found.source / f"file{number}", random.Random(number).randbytes(60_000))
    settle(found.source, 1_500_000_001)
    return found


def other_passphrase() -> Encryption:
    return replace(SYMMETRIC.options["encryption"], passphrase="another")


def test_one_set_has_one_passphrase(encrypted: Archive) -> None:
    """A full that is gone on with by another passphrase could never be restored: it is refused before anything is changed."""
    interrupt(encrypted, volumes=1)
    before = names(encrypted)

    with pytest.raises(CodecError, match="cannot be gone on with") as caught:
        go_on(encrypted, encryption=other_passphrase())

    assert "--force" in (caught.value.hint or "")
    assert names(encrypted) == before
    assert go_on(encrypted).resumed > 0
    assert encrypted.read_by_us() == listing(encrypted.source)


def test_force_begins_anew_with_another_passphrase(encrypted: Archive) -> None:
    interrupt(encrypted, volumes=1)

    result = go_on(encrypted, encryption=other_passphrase(), force=True)

    assert was_begun_anew(encrypted, result)
    assert encrypted.read_by_us(encryption=other_passphrase()) == listing(encrypted.source)


def test_a_cut_file_that_changed_is_made_again_in_encrypted_volumes(encrypted: Archive) -> None:
    """P2, with gpg in the way of the producer's exception."""
    write(encrypted.source / "file1", random.Random(9).randbytes(400_000))
    interrupt(encrypted, volumes=2)
    (state,) = checkpoint.find(encrypted.cache["us"] / "c")
    assert state.volumes[2].cut is not None
    write(encrypted.source / "file1", b"shorter", mtime=1_500_002_000)

    result = go_on(encrypted)

    assert result.resumed < 2
    assert encrypted.read_by_us() == listing(encrypted.source)


def test_a_wrong_passphrase_for_an_incremental_is_refused_before_anything_is_written(encrypted: Archive) -> None:
    """P19."""
    go_on(encrypted)
    before = names(encrypted)

    with pytest.raises(CodecError) as caught:
        go_on(encrypted, "incremental", encryption=other_passphrase())

    assert exit_code_of(caught.value) == 31
    assert names(encrypted) == before
    assert journals(encrypted) == []


def test_an_incremental_of_an_encrypted_chain_is_encrypted(encrypted: Archive) -> None:
    """P17: in both directions."""
    go_on(encrypted)

    with pytest.raises(AsyncdupError, match="is encrypted"):
        go_on(encrypted, "incremental", encryption=None)


# The journal is damaged.


@pytest.mark.parametrize("side", [".sigtar", ".files"])
def test_a_side_file_that_was_cut_is_not_filled_with_zeros(archive: Archive, side: str) -> None:
    """The volumes whose signatures are lost are made again; else the next incremental would be nonsense."""
    interrupt(archive, volumes=3)
    (path,) = (path for path in journals(archive) if path.suffix == side)
    (state,) = checkpoint.find(path.parent)
    needed = state.volumes[1].sigtar if side == ".sigtar" else state.volumes[1].files
    path.write_bytes(path.read_bytes()[: needed - 1])

    result = go_on(archive)

    assert result.resumed == 0
    assert archive.by_us("incremental").statistics.delta_entries == 0


def test_a_volume_that_was_changed_at_the_target_is_made_again(archive: Archive) -> None:
    interrupt(archive, volumes=3)
    volume = next(archive.target.glob("*.vol2.*"))
    volume.write_bytes(volume.read_bytes()[:-1])

    assert go_on(archive).resumed == 1
    archive.check("us")


def test_a_volume_whose_answer_was_lost_is_read_back(archive: Archive) -> None:
    """It may be there or not, and be what the journal says or not: it is compared before it counts (P2)."""
    interrupt(archive, volumes=3)
    (path, *_) = journals(archive)
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if b"stored" not in line]
    path.write_bytes(b"".join(lines))
    volume = next(archive.target.glob("*.vol2.*"))
    data = bytearray(volume.read_bytes())
    data[1000] ^= 1
    volume.write_bytes(data)

    assert go_on(archive).resumed == 1
    archive.check("us")


def test_a_journal_that_cannot_be_read_stops_the_run_and_nothing_is_lost(archive: Archive) -> None:
    interrupt(archive)
    (path, *_) = journals(archive)
    data, before = path.read_bytes(), names(archive)
    path.unlink()
    path.mkdir()

    with pytest.raises(OSError, match=path.name):
        go_on(archive)

    assert names(archive) == before
    path.rmdir()
    path.write_bytes(data)
    assert go_on(archive).resumed > 0


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]\n", b"5\n", b'{"v": 2}\n', b'{"v": 1}\n', b"\xff\xfe\n"])
def test_a_journal_that_says_nothing_is_swept_away(archive: Archive, garbage: bytes) -> None:
    interrupt(archive)
    (path, *_) = journals(archive)
    path.write_bytes(garbage)

    assert was_begun_anew(archive, go_on(archive))


# The clock (P12).


def test_a_clock_that_has_gone_back_is_refused(archive: Archive) -> None:
    archive.by_us("full")
    before = names(archive)
    archive.time -= 2 * DAY

    with pytest.raises(ChainError, match="the clock says") as caught:
        archive.by_us("incremental")

    assert caught.value.hint
    assert names(archive) == before


async def test_a_backup_in_the_same_second_waits_for_the_next(tmp_path: Path, unflushed: None) -> None:
    archive = Archive(tmp_path, None)
    write(archive.source / "file", b"content")
    clock = asyncio.get_running_loop().time
    options = archive.options(now=lambda: START + 0.25 + clock())

    first = await backup(archive.source, archive.url, options, action="full")
    second = await backup(archive.source, archive.url, options, action="full")

    assert (first.set_id.end, second.set_id.end) == (START, START + 1)
    assert 0.75 <= clock() < 2


async def test_a_clock_that_stands_still_is_refused_after_a_while(tmp_path: Path, unflushed: None) -> None:
    """``--current-time``: the second is taken and no other comes."""
    archive = Archive(tmp_path, None)
    write(archive.source / "file", b"content")
    await backup(archive.source, archive.url, archive.options(), action="full")

    with pytest.raises(ChainError, match="the clock says"):
        await backup(archive.source, archive.url, archive.options(), action="full")

    assert asyncio.get_running_loop().time() < 10


# A target that is not there (P19).


def test_an_emptied_target_is_refused_and_the_cache_is_kept(archive: Archive) -> None:
    archive.by_us("full")
    shutil.rmtree(archive.target)
    cache = sorted(path.name for path in (archive.cache["us"] / "c").iterdir())

    with pytest.raises(ChainError, match="holds no backup") as caught:
        archive.by_us("incremental")

    assert "--force" in (caught.value.hint or "")
    assert not archive.target.exists()
    assert sorted(path.name for path in (archive.cache["us"] / "c").iterdir()) == cache
    assert archive.by_us("backup", force=True).set_id.is_full
    assert archive.read_by_us() == listing(archive.source)


def test_a_target_that_lost_the_volumes_of_an_unfinished_set_is_refused(archive: Archive) -> None:
    interrupt(archive)
    shutil.rmtree(archive.target)

    with pytest.raises(ChainError, match="were stored there"):
        go_on(archive)

    assert len(journals(archive)) == 3
    result = go_on(archive, force=True)
    assert result.resumed == 0
    assert archive.read_by_us() == listing(archive.source)


# What an incremental is built upon.


def test_an_incremental_without_a_chain_is_refused(archive: Archive) -> None:
    with pytest.raises(ChainError) as caught:
        archive.by_us("incremental")

    assert exit_code_of(caught.value) == 17
    assert not archive.target.exists()


def test_an_incremental_from_another_host_or_folder_is_refused(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.by_us("full")
    before = names(archive)
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "elsewhere")
        with pytest.raises(AsyncdupError, match="was made on host") as caught:
            archive.by_us("incremental")
        assert exit_code_of(caught.value) == 3
    write(archive.folder / "other/file", b"content")
    archive.source = archive.folder / "other"
    with pytest.raises(AsyncdupError, match="not of this directory") as caught:
        archive.by_us("incremental")
    assert exit_code_of(caught.value) == 42
    assert names(archive) == before

    archive.by_us("incremental", allow_source_mismatch=True)

    assert archive.read_by_us() == listing(archive.source)
