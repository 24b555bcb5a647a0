"""Chains through the real commands: what was backed up comes back, whole or in part, as of any time."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import asyncdup
from asyncdup import events
from asyncdup.transfer import adaptive
from tests.commands.conftest import FILE, START, Stage, tree


def furnish(stage: Stage) -> None:
    """One of each kind, and a file of several volumes."""
    stage.write("letters/2024/may", "dear")
    stage.write("letters/2023", "old")
    stage.write("empty", b"")
    stage.write("large", os.urandom(3 * FILE))
    (stage.source / "link").symlink_to("letters/2023")
    os.mkfifo(stage.source / "pipe")
    (stage.source / "nothing").mkdir()


def edit(stage: Stage) -> None:
    """A change, a new file, a deletion."""
    stage.write("letters/2024/may", "dear all")
    stage.write("new", "new")
    (stage.source / "empty").unlink()


def plain(root: Path) -> dict[str, bytes | str]:
    """Without the FIFO, which cannot be read."""
    assert (root / "pipe").is_fifo()
    (root / "pipe").unlink()
    return tree(root)


async def test_a_full_and_an_incremental_come_back(stage: Stage) -> None:
    furnish(stage)
    full = await stage.backup()
    edit(stage)

    increment = await stage.backup()
    restored = await stage.restore()

    assert (full.set_id.is_full, increment.set_id.is_full) == (True, False)
    assert full.volumes > 1
    assert (increment.statistics.new_files, increment.statistics.deleted_files) == (1, 1)
    assert plain(restored) == plain(stage.source)
    stage.nothing_is_left()


async def test_any_time_can_be_restored(stage: Stage) -> None:
    stage.write("file", "first")
    first = await stage.backup("full")
    stage.write("file", "second")
    second = await stage.backup("incremental")

    before = await stage.restore("before", time=second.set_id.end - 1)
    exact = await stage.restore("exact", time=second.set_id.end)

    assert (before / "file").read_text() == "first"
    assert (exact / "file").read_text() == "second"
    with pytest.raises(asyncdup.ChainError, match="no backup"):
        await stage.restore("too-early", time=first.set_id.end - 1)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("letters/2023", b"old"),
        ("letters", {"2023": b"old", "2024": "folder", "2024/may": b"dear"}),
        ("letters/2024/", {"may": b"dear"}),
    ],
)
async def test_a_path_becomes_the_target(stage: Stage, path: str, found: object) -> None:
    furnish(stage)
    await stage.backup()

    restored = await stage.restore(path=path)

    assert (tree(restored) if restored.is_dir() else restored.read_bytes()) == found


@pytest.mark.parametrize("path", ["letters/2025", "letter", "letters/2023/x"])
async def test_a_path_that_is_not_there_is_exit_19(stage: Stage, path: str) -> None:
    furnish(stage)
    await stage.backup()

    with pytest.raises(asyncdup.RestoreError) as caught:
        await stage.restore(path=path)

    assert caught.value.exit_code == 19


async def test_only_the_volumes_of_a_path_are_fetched(stage: Stage) -> None:
    stage.fill(6)
    await stage.backup()

    result = await asyncdup.restore(stage.url, stage.folder / "one", stage.options(), path="file03")

    assert 1 <= len(result.volumes) <= 3  # the path is where a volume ends, and the next could be wrong about its beginning (P3)
    assert (stage.folder / "one").read_bytes() == (stage.source / "file03").read_bytes()


async def test_a_single_file_is_a_source(stage: Stage) -> None:
    path = stage.write("single", "alone")

    await stage.backup(source=path)
    restored = await stage.restore()

    assert restored.read_text() == "alone"


async def test_a_source_that_is_not_there_is_refused(stage: Stage) -> None:
    with pytest.raises(asyncdup.UsageError, match="does not exist"):
        await stage.backup(source=stage.folder / "nowhere")


async def test_a_restore_into_a_folder_with_something_in_it_is_exit_11(stage: Stage) -> None:
    stage.write("file", "archived")
    await stage.backup()
    busy = stage.folder / "busy"
    busy.mkdir()
    (busy / "other").write_text("mine")

    with pytest.raises(asyncdup.RestoreError) as caught:
        await stage.restore("busy")
    assert caught.value.exit_code == 11
    assert tree(busy) == {"other": b"mine"}

    await stage.restore("busy", force=True)
    assert tree(busy)["file"] == b"archived"


async def test_an_empty_folder_may_be_restored_into(stage: Stage) -> None:
    stage.write("file")
    await stage.backup()
    (stage.folder / "restored").mkdir()

    assert tree(await stage.restore()) == tree(stage.source)


async def test_a_dry_run_writes_nothing(stage: Stage) -> None:
    stage.write("file")

    result = await stage.backup(dry_run=True)

    assert result.dry_run
    assert result.statistics.new_files == 2
    assert not (await stage.status()).sets
    assert not any(stage.cache.rglob("*.manifest*")), "the local copies are written, too"
    await stage.backup()
    names = await asyncdup.restore(stage.url, stage.folder / "dry", stage.options(dry_run=True))
    assert len(names.volumes) == 1
    assert not (stage.folder / "dry").exists()


async def test_an_incremental_needs_a_chain(stage: Stage) -> None:
    stage.write("file")

    with pytest.raises(asyncdup.ChainError) as caught:
        await stage.backup("incremental")

    assert caught.value.exit_code == 17


async def test_a_new_full_begins_when_the_last_is_too_old(stage: Stage) -> None:
    stage.write("file")
    first = await stage.backup()

    young = await stage.backup(full_if_older_than=first.set_id.end - 1)
    old = await stage.backup(full_if_older_than=first.set_id.end + 1)

    assert (young.set_id.is_full, old.set_id.is_full) == (False, True)


async def test_another_directory_is_no_increment_of_this_one(stage: Stage) -> None:
    stage.write("a/file")
    stage.write("b/file")
    await stage.backup(source=stage.source / "a")

    with pytest.raises(asyncdup.UsageError) as caught:
        await stage.backup(source=stage.source / "b")
    assert caught.value.exit_code == 42

    result = await stage.backup(source=stage.source / "b", allow_source_mismatch=True)
    assert not result.set_id.is_full


async def test_an_emptied_target_is_refused_unless_forced(stage: Stage) -> None:
    """P19."""
    stage.write("file")
    await stage.backup()
    stage.url += "-elsewhere"

    with pytest.raises(asyncdup.ChainError, match="holds no backup"):
        await stage.backup()

    assert (await stage.backup(force=True)).set_id.is_full


async def test_a_verify_compares_content(stage: Stage) -> None:
    path = stage.write("file", "archived")
    before = path.stat()
    await stage.backup()
    lines: list[str] = []

    same = await stage.verify()
    path.write_text("rotten!!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    other = await stage.verify(on_difference=lambda found: lines.append(found.line))

    assert (same.compared, same.differences) == (2, 0)
    assert other.differences == 1
    assert any("file" in line for line in lines)


async def test_a_verify_looks_at_the_time_that_is_asked_for(stage: Stage) -> None:
    stage.write("file", "archived")
    first = await stage.backup()
    stage.write("file", "then")
    await stage.backup()

    assert (await stage.verify(time=first.set_id.end)).differences == 1
    assert (await stage.verify()).differences == 0


async def test_the_status_shows_sets_and_chains(stage: Stage) -> None:
    stage.write("file")
    for action in ("full", "incremental", "full"):
        await stage.backup(action)

    collection = await stage.status()

    assert [len(chain.sets) for chain in collection.chains] == [2, 1]
    assert collection.newest_chain is not None
    assert collection.newest_chain.last.is_complete


async def test_the_files_of_a_time_are_listed(stage: Stage) -> None:
    stage.write("folder/a", "aa")
    stage.write("b")
    first = await stage.backup()
    (stage.source / "b").unlink()
    await stage.backup()

    assert [entry.path for entry in await stage.files()] == [b"", b"folder", b"folder/a"]
    assert [entry.path for entry in await stage.files(time=first.set_id.end)] == [b"", b"b", b"folder", b"folder/a"]


async def test_a_listing_fetches_what_the_cache_lacks(stage: Stage) -> None:
    stage.write("file")
    await stage.backup()
    stage.defaults = {"archive_dir": stage.folder / "other"}

    assert [entry.path for entry in await stage.files()] == [b"", b"file"]
    assert any((stage.folder / "other" / "cache").iterdir())
    await stage.files()
    assert not [event for event in stage.of(events.AttemptStarted) if event.verb == "get"]


async def test_prefixes_keep_two_archives_apart(stage: Stage) -> None:
    ours, theirs = asyncdup.Prefixes("ours-"), asyncdup.Prefixes("theirs-", manifest="m-")
    stage.write("file", "ours")
    await stage.backup(prefixes=ours, name="ours")
    stage.write("file", "theirs")
    await stage.backup(prefixes=theirs, name="theirs")

    first, second = await stage.restore("1", prefixes=ours), await stage.restore("2", prefixes=theirs)

    assert ((first / "file").read_text(), (second / "file").read_text()) == ("ours", "theirs")
    assert not (await stage.status()).sets


async def test_rules_select_what_is_backed_up_and_restored(stage: Stage) -> None:
    stage.write("keep/a")
    stage.write("drop/b")
    rules = (asyncdup.Rule("exclude", bytes(stage.source / "drop")),)

    await stage.backup(rules=rules)
    everything = await stage.restore()
    nothing_of_a = await stage.restore("part", rules=(asyncdup.Rule("exclude", b"keep/a"),))

    assert tree(everything) == {"keep": "folder", "keep/a": b"content"}
    assert tree(nothing_of_a) == {"keep": "folder"}


@pytest.mark.parametrize("concurrency", [0, 1, 5, None])
async def test_any_concurrency_gives_the_same_archive(stage: Stage, concurrency: int | None) -> None:
    stage.fill(7)

    result = await stage.backup(concurrency=concurrency)
    restored = await stage.restore(concurrency=concurrency)

    assert result.volumes == 7
    assert tree(restored) == tree(stage.source)
    assert {event.slot for event in stage.of(events.AttemptStarted)} <= set(
        range({None: adaptive.MOST, 0: 1}.get(concurrency, concurrency))
    )
    stage.nothing_is_left()


@pytest.mark.parametrize("options", [{"compression": False}, {"compression_level": 9}])
async def test_compression_is_a_choice(stage: Stage, options: dict[str, object]) -> None:
    stage.write("file", b"x" * 100_000)

    await stage.backup(**options)

    assert tree(await stage.restore()) == tree(stage.source)


async def test_two_backups_may_run_at_once_but_not_with_one_archive_folder(stage: Stage) -> None:
    """P10, within one process."""
    stage.fill(3)
    refused: list[asyncdup.LockedError] = []

    async def back_up(name: str) -> None:
        try:
            await asyncdup.backup(stage.source, stage.url + name, stage.options(name="other" if name else "cache"))
        except asyncdup.LockedError as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for name in ("", "", "-other"):
            tasks.start_soon(back_up, name)

    assert [error.exit_code for error in refused] == [23]
    assert tree(await stage.restore()) == tree(stage.source)
    stage.url += "-other"
    assert tree(await stage.restore("other")) == tree(stage.source)


async def test_a_backup_of_the_same_second_waits_for_the_next(stage: Stage) -> None:
    """P12, with a clock that says so."""
    stage.write("file")
    first = await stage.backup()
    stage._began -= 1

    second = await stage.backup("full")

    assert second.set_id.end == first.set_id.end + 1


async def test_a_clock_that_has_gone_back_is_refused(stage: Stage) -> None:
    """P12."""
    stage.write("file")
    await stage.backup()

    with pytest.raises(asyncdup.ChainError, match="clock"):
        await asyncdup.backup(stage.source, stage.url, asyncdup.Options(archive_dir=stage.cache, name="cache", now=lambda: START - 9))


async def test_a_file_that_cannot_be_read_is_a_warning(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P13."""
    stage.write("good")
    bad = stage.write("bad").name
    real = os.open

    def refuse(path: object, *args: object, **options: object) -> int:
        if os.fsdecode(path) == bad:  # type: ignore[arg-type]
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    result = await stage.backup()

    assert result.warnings == 1
    assert result.statistics.errors == 1
    assert [event.path for event in stage.of(events.Warning)] == ["bad"]
    assert tree(await stage.restore()) == {"good": b"content"}
