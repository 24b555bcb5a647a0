"""What stock duplicity left when it was killed: never restored, never gone on with, cleared away by the next backup of ours."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.archives import START, Archive, run
from interop.stock import Failed
from interop.trees import Listing, edit_plain, expected, listing, make_plain, settle, write

from asyncdup.commands.collection import collection_status
from asyncdup.errors import ChainError

pytestmark = pytest.mark.realtime

UNFINISHED = "20231114T221320Z"
Make = Callable[..., Archive]


@pytest.fixture(params=["with its cache", "cache lost"])
def torn(request: pytest.FixtureRequest, fixture_archive: Make, fixtures: Path) -> Archive:
    """The interrupted full, and the source that it was a backup of. The clock is a day later."""
    found = fixture_archive("interrupted-full")
    if request.param == "with its cache":
        shutil.copytree(fixtures / "interrupted-full/cache/c", found.cache["us"] / "c")
    shutil.rmtree(found.cache["stock"], ignore_errors=True)
    found.cache["stock"] = found.cache["us"]
    _make_source(found.source)
    found.time = START
    return found


def _make_source(root: Path) -> None:
    """As the fixture's README describes it."""
    write(root / "first.txt", b"first\n")
    write(root / "sub/small", b"small\n")
    write(root / "zlast", b"last\n")
    for name, word, size in (("big.bin", "asyncdup", 500_000), ("other.bin", "other", 100_000)):
        blocks = (hashlib.sha256(f"{word}-{number}".encode()).digest() for number in range(size // 32 + 1))
        write(root / name, b"".join(blocks)[:size])
    settle(root, 1_500_000_001)


def _contents(tree: Listing) -> dict[str, str]:
    return {path: entry["sha256"] for path, entry in tree.items() if "sha256" in entry}


def _parts(found: Archive) -> list[str]:
    return [path.name for path in (found.cache["us"] / "c").glob("*.part")]


def test_the_source_is_that_of_the_fixture(torn: Archive, fixtures: Path) -> None:
    assert _contents(listing(torn.source)) == _contents(expected(fixtures / f"interrupted-full/expected/{UNFINISHED}.jsonl"))


def test_restore_refuses_and_names_it(torn: Archive) -> None:
    """P1, P6: a set without a manifest at the target does not exist for readers, also if the cache has a part of one."""
    with pytest.raises(ChainError, match="no complete backup"):
        torn.read_by_us()

    assert any(UNFINISHED in notice and "never finished" in notice for notice in torn.heard.notices)
    assert not any(torn.folder.glob("restored-*"))


def test_the_status_names_it_and_its_volumes(torn: Archive) -> None:
    collection = run(collection_status(torn.url, torn.options()))

    (warning,) = collection.warnings()
    assert UNFINISHED in warning
    assert "vol4" in warning
    assert collection.status_lines()[-1] == "incomplete-sets-num 1"


def test_a_dry_run_leaves_everything_as_it_is(torn: Archive) -> None:
    before = sorted(torn.target.iterdir()), _parts(torn)

    assert torn.by_us("full", dry_run=True).volumes == 0

    assert (sorted(torn.target.iterdir()), _parts(torn)) == before


@pytest.mark.parametrize("action", ["full", "backup"])
def test_a_full_begins_afresh_over_it(torn: Archive, action: str) -> None:
    """Its volumes go, with one notice, and so do its parts in the cache (issue 3: what stock left is never resumed)."""
    result = torn.by_us(action)

    assert result.set_id.is_full
    assert result.resumed == 0
    assert not [path.name for path in torn.target.iterdir() if UNFINISHED in path.name]
    assert _parts(torn) == []
    assert len([notice for notice in torn.heard.notices if UNFINISHED in notice]) == 1
    torn.check("us")


@pytest.mark.interop
@pytest.mark.slow
def test_stock_accepts_what_was_made_over_it_and_goes_on(torn: Archive, stock: object) -> None:
    """P18."""
    torn.stock = stock  # type: ignore[assignment]
    torn.by_us("full")
    torn.check("stock")
    assert torn.verified_by_stock().endswith("0 difference(s) found.")

    write(torn.source / "new", b"new\n")
    settle(torn.source, 1_500_001_001)
    torn.by_stock("incremental")

    assert "No orphaned or incomplete backup sets found." in torn.say("collection-status", torn.url)
    torn.check()


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("one_cache", [True, False])
def test_an_increment_that_stock_left_unfinished_is_passed_over_and_replaced(archive: Make, one_cache: bool) -> None:
    """Its volumes are there, its manifest is not: the older time restores (P1), and the next increment takes its place (P18)."""
    torn = archive(one_cache=one_cache)
    make_plain(torn.source)
    torn.by_us("full")
    edit_plain(torn.source)
    torn.by_stock("incremental")
    lost = torn.time
    for path in torn.target.glob("duplicity-inc*.manifest"):
        path.unlink()
    for path in torn.target.glob("duplicity-new-signatures*"):
        path.unlink()
    del torn.kept[lost]

    assert torn.read_by_us() == torn.kept[START]
    with pytest.raises(ChainError, match="1 set"):
        torn.read_by_us(START - 1)
    result = torn.by_us("incremental")

    assert result.set_id.start == START
    assert len([notice for notice in torn.heard.notices if "files are removed" in notice]) == 1
    torn.check()


@pytest.mark.interop
@pytest.mark.slow
def test_stock_refuses_a_set_of_ours_that_is_unfinished(archive: Make) -> None:
    """P18: we leave no part that stock would take for a backup; the older time restores with ``--time``, its next run cleans up."""
    torn = archive(one_cache=True)
    make_plain(torn.source)
    torn.by_us("full", volume_size=200_000)
    edit_plain(torn.source)
    torn.by_us("incremental", volume_size=200_000)
    for path in [*torn.target.glob("duplicity-inc*.manifest"), *torn.target.glob("duplicity-new-signatures*")]:
        path.unlink()
    newest = torn.time
    del torn.kept[newest]

    with pytest.raises(Failed) as caught:
        torn.read_by_stock()
    assert caught.value.code == 30

    torn.check()
    torn.by_stock("incremental")
    torn.check()
