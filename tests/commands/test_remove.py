"""remove-older-than and its kin, and cleanup: what goes, what a kill in between leaves, and that nothing goes unasked (P1, P10)."""

from __future__ import annotations

from pathlib import Path

import pytest

import asyncdup
from asyncdup.commands.cleanup import CleanupResult, cleanup
from asyncdup.commands.remove import remove_all_but_n_full, remove_all_inc_of_but_n_full, remove_older_than
from asyncdup.errors import LockedError, PermanentError, UsageError
from asyncdup.testing import FaultyBackend
from asyncdup.testing.faults import Raise, Step
from tests.commands.conftest import START, Stage, tree

HOUR = 3600


def refused_for_good() -> PermanentError:
    return PermanentError("no more")


async def two_chains(stage: Stage) -> list[asyncdup.SetId]:
    """A full and two increments, then a full and one."""
    made = []
    for number, action in enumerate(("full", "incremental", "incremental", "full", "incremental")):
        stage.write(f"file{number}", f"content {number}")
        made.append((await stage.backup(action)).set_id)
    return made


async def names(stage: Stage) -> set[str]:
    backend = asyncdup.open_backend(stage.url)
    async with backend.list() as infos:
        return {info.name async for info in infos}


def cached(stage: Stage) -> set[str]:
    return {path.name for path in (stage.cache / "cache").iterdir()} - {"lockfile"}


async def test_without_force_nothing_is_deleted_and_the_result_says_what_would_be(stage: Stage) -> None:
    made = await two_chains(stage)
    before, local = await names(stage), cached(stage)

    result = await stage._run(remove_older_than, stage.url, START + 10 * HOUR)

    assert [each.id for each in result.removal.sets] == [made[2], made[1], made[0]]
    assert not result.done and result.removal.active_is_old
    assert (await names(stage), cached(stage)) == (before, local)


async def test_with_force_the_old_chain_goes_and_its_local_copies_and_the_new_one_restores(stage: Stage) -> None:
    made = await two_chains(stage)

    result = await stage._run(remove_older_than, stage.url, START + 10 * HOUR, force=True)

    assert result.done and len(result.removal.names) == 9
    assert [each.id for each in (await stage.status()).sets] == made[3:]
    assert len(await names(stage)) == 6
    assert len(cached(stage)) == 4
    assert tree(await stage.restore()) == tree(stage.source)
    await stage.verify()
    stage.nothing_is_left()


async def test_of_incrementals_alone_the_full_restores_afterwards(stage: Stage) -> None:
    made = await two_chains(stage)

    await stage._run(remove_all_inc_of_but_n_full, stage.url, 1, force=True)

    assert [each.id for each in (await stage.status()).sets] == [made[0], made[3], made[4]]
    assert set(tree(await stage.restore(time=made[2].end))) == {"file0"}


@pytest.mark.parametrize("count", [0, -1])
async def test_at_least_one_full_is_kept(count: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        await remove_all_but_n_full(f"memory://{tmp_path}", count)


@pytest.mark.parametrize("after", range(9))
async def test_stopped_after_any_delete_what_is_left_restores_or_is_garbage_by_its_looks(
    after: int, far: tuple[Stage, FaultyBackend]
) -> None:
    """P1: every set with a manifest restores; the rest is named unfinished or orphaned, and cleanup takes it away."""
    stage, backend = far
    made = await two_chains(stage)
    backend.script("delete", *[Step()] * after, *[Raise(refused_for_good)] * 20, name="duplicity-*")

    with pytest.raises(PermanentError):
        await stage._run(remove_older_than, stage.url, START + 10 * HOUR, force=True, concurrency=1)

    backend.heal()
    left = await stage.status()
    assert not left.orphaned
    for number, each in enumerate(backup_set for backup_set in left.sets if backup_set.is_complete):
        assert tree(await stage.restore(f"restored{number}", time=each.end))
    await stage._run(cleanup, stage.url, force=True)
    await stage._run(remove_older_than, stage.url, START + 10 * HOUR, force=True)
    assert [each.id for each in (await stage.status()).sets] == made[3:]
    assert len(await names_of(backend)) == 6


async def names_of(backend: FaultyBackend) -> set[str]:
    async with backend.list() as infos:
        return {info.name async for info in infos}


async def test_deletes_run_at_once(far: tuple[Stage, FaultyBackend]) -> None:
    stage, backend = far
    stage.fill(8)
    await stage.backup("full")
    await stage.backup("full")
    backend.calls.clear()

    await stage._run(remove_all_but_n_full, stage.url, 1, force=True, concurrency=8)

    gone = [call for call in backend.calls if call.verb == "delete" and ".difftar" in call.name]
    assert len(gone) > 4
    assert max(call.ended or 0 for call in gone) - min(call.began for call in gone) == pytest.approx(1.0)


# cleanup


async def left_over(stage: Stage) -> None:
    """A chain, an unfinished set, an orphan, a signature archive without a set; nothing of them known in the cache."""
    backend = asyncdup.open_backend(stage.url)
    made = await stage.backup("full")
    assert made.volumes
    for name in (
        "duplicity-full.20231201T000000Z.vol1.difftar.gz",
        "duplicity-inc.20231101T000000Z.to.20231102T000000Z.manifest",
        "duplicity-inc.20231101T000000Z.to.20231102T000000Z.vol1.difftar.gz",
        "duplicity-full-signatures.20231005T000000Z.sigtar.gz",
        "somebody-elses.txt",
    ):
        await backend.put(name, asyncdup.BytesBody(b"x"))


async def test_cleanup_lists_and_with_force_removes_what_no_restore_can_use(stage: Stage) -> None:
    await left_over(stage)
    before = await names(stage)

    listed: CleanupResult = await stage._run(cleanup, stage.url)
    assert await names(stage) == before
    done: CleanupResult = await stage._run(cleanup, stage.url, force=True)

    assert set(listed.names) == set(done.names) == before - await names(stage)
    assert len(done.names) == 4
    assert "somebody-elses.txt" in await names(stage)
    assert (await stage._run(cleanup, stage.url)).names == []
    assert tree(await stage.restore()) == tree(stage.source)


async def test_an_unfinished_set_that_can_be_resumed_stays_and_is_said_to(far: tuple[Stage, FaultyBackend]) -> None:
    stage, backend = far
    stage.fill(4)
    backend.script("put", *[Raise(refused_for_good)] * 3, name="*.vol3.*")
    with pytest.raises(PermanentError):
        await stage.backup("full", concurrency=1)
    backend.heal()

    found: CleanupResult = await stage._run(cleanup, stage.url, force=True)
    assert [len(each.volumes) >= 1 for each in found.resumable] == [True]
    assert not found.names
    elsewhere: CleanupResult = await stage._run(cleanup, stage.url, archive_dir=stage.folder / "other")
    assert [each.id for each in elsewhere.unfinished] == [each.id for each in found.resumable]

    assert (await stage.backup("full")).resumed >= 1
    assert tree(await stage.restore()) == tree(stage.source)


@pytest.mark.parametrize("command", ["remove", "cleanup"])
async def test_what_a_running_backup_has_not_finished_is_left_alone(command: str, stage: Stage) -> None:
    """P10: another machine's lock is at the target."""
    await left_over(stage)
    before = await names(stage)
    backend = asyncdup.open_backend(stage.url)
    holder = b'{"host": "far-away", "pid": 7, "command": "full", "started": 1700000000.0, "refreshed": 1700000000.0}'
    await backend.put("asyncdup-lock-00", asyncdup.BytesBody(holder))

    with pytest.raises(LockedError, match="full on far-away") as caught:
        if command == "cleanup":
            await stage._run(cleanup, stage.url, force=True)
        else:
            await stage._run(remove_older_than, stage.url, START + HOUR, force=True)

    assert "unlock" in (caught.value.hint or "")
    assert await names(stage) == before | {"asyncdup-lock-00"}
    stage.nothing_is_left()


async def test_cleanup_takes_the_temporary_folder_of_a_killed_run_too(stage: Stage) -> None:
    await stage.backup("full")
    dead = stage.tempdir / "asyncdup-run-dead"
    dead.mkdir(mode=0o700)
    (dead / "archive-folder").write_text(str(stage.cache / "cache"))
    (dead / "volume").write_bytes(b"x" * 1000)

    listed: CleanupResult = await stage._run(cleanup, stage.url)
    done: CleanupResult = await stage._run(cleanup, stage.url, force=True)

    assert not dead.exists()
    assert {Path(each.name).name for each in (*listed.others, *done.others)} <= {"asyncdup-run-dead"}
