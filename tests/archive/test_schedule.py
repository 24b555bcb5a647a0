"""Which set is written next: full or incremental, at which time, and what is refused before anything is written (P12)."""

from __future__ import annotations

from typing import Any

import pytest

from asyncdup.archive.chains import Collection, collect
from asyncdup.archive.schedule import check_same_source, plan, wait_for_clock
from asyncdup.backends.base import ObjectInfo
from asyncdup.errors import AsyncdupError, ChainError, UsageError, exit_code_of
from asyncdup.formats.manifest import Manifest, VolumeRecord
from asyncdup.formats.names import SetId, manifest_name, signatures_name, volume_name

T0, T1, NOW = 1_700_000_000, 1_700_100_000, 1_700_200_000
FULL, INC = SetId("full", None, T0), SetId("inc", T0, T1)


def files(set_id: SetId, *, signed: bool = True, complete: bool = True) -> list[ObjectInfo]:
    names = [volume_name(set_id, 1, ".gz")]
    names += [manifest_name(set_id)] if complete else []
    names += [signatures_name(set_id, ".gz")] if signed else []
    return [ObjectInfo(name, 100) for name in names]


def target(*sets: list[ObjectInfo]) -> Collection:
    return collect([info for each in sets for info in each], now=NOW)


def planned(action: Any, collection: Collection, *, now: int = NOW, older_than: int | None = None) -> tuple[SetId, int]:
    """The set, and how many sets it stands on."""
    found = plan(action, collection, now=now, full_if_older_than=older_than)
    return found.id, len(found.base.sets) if found.base else 0


def test_without_a_chain_a_backup_is_a_full() -> None:
    assert planned("backup", target()) == (SetId("full", None, NOW), 0)


def test_with_a_chain_a_backup_is_an_incremental_upon_all_of_it() -> None:
    assert planned("backup", target(files(FULL), files(INC))) == (SetId("inc", T1, NOW), 2)


def test_a_full_stands_alone() -> None:
    assert planned("full", target(files(FULL))) == (SetId("full", None, NOW), 0)


@pytest.mark.parametrize(("older_than", "kind"), [(T0, "inc"), (T0 + 1, "full")])
@pytest.mark.parametrize("action", ["backup", "incremental"])
def test_an_old_full_is_followed_by_a_new_one(action: str, older_than: int, kind: str) -> None:
    assert planned(action, target(files(FULL)), older_than=older_than)[0].type == kind


def test_an_unfinished_set_is_not_built_upon() -> None:
    assert planned("backup", target(files(FULL), files(INC, complete=False))) == (SetId("inc", T0, NOW), 1)


def test_a_set_that_lost_its_signatures_is_replaced_and_that_is_said() -> None:
    found = plan("backup", target(files(FULL), files(INC, signed=False)), now=NOW, full_if_older_than=None)

    assert found.id == SetId("inc", T0, NOW)
    assert len(found.notices) == 1


def test_a_full_that_lost_its_signatures_is_followed_by_a_full_and_that_is_said() -> None:
    found = plan("backup", target(files(FULL, signed=False)), now=NOW, full_if_older_than=None)

    assert found.id.is_full
    assert "signature" in found.notices[0]


@pytest.mark.parametrize("collection", [target(), target(files(FULL, complete=False)), target(files(FULL, signed=False))])
def test_an_incremental_needs_a_chain(collection: Collection) -> None:
    with pytest.raises(ChainError) as caught:
        planned("incremental", collection)

    assert exit_code_of(caught.value) == 17
    assert caught.value.hint


@pytest.mark.parametrize("now", [T1, T1 - 1, T0 - 1])
@pytest.mark.parametrize("action", ["full", "backup", "incremental"])
def test_no_set_is_dated_at_or_before_another(action: str, now: int) -> None:
    """P12."""
    with pytest.raises(ChainError, match="the clock says") as caught:
        planned(action, target(files(FULL), files(INC)), now=now)

    assert caught.value.hint


@pytest.mark.parametrize(("now", "seconds"), [(T1 + 0.25, 0.75), (T1 + 1.0, 0.0), (T1 - 0.5, 0.0), (T1 + 100.0, 0.0)])
def test_only_the_second_of_the_newest_set_is_waited_for(now: float, seconds: float) -> None:
    assert wait_for_clock(target(files(FULL), files(INC)), now) == seconds


def test_an_unfinished_set_takes_a_second_too() -> None:
    assert wait_for_clock(target(files(INC, complete=False)), T1 + 0.5) == 0.5


def described(hostname: bytes | None = b"here", localdir: bytes | None = b"/src") -> Manifest:
    return Manifest(hostname=hostname, localdir=localdir, volumes={1: VolumeRecord(number=1, start_path=b"", end_path=b"")})


@pytest.mark.parametrize("manifest", [described(), described(hostname=None), described(localdir=None)])
def test_what_a_manifest_does_not_say_is_no_difference(manifest: Manifest) -> None:
    check_same_source(manifest, target(files(FULL)).sets[0], hostname=b"here", localdir=b"/src")


@pytest.mark.parametrize(("manifest", "code"), [(described(hostname=b"th\xffere"), 3), (described(localdir=b"/other"), 42)])
def test_another_host_or_folder_is_refused(manifest: Manifest, code: int) -> None:
    """Format, section 12."""
    with pytest.raises(UsageError) as caught:
        check_same_source(manifest, target(files(FULL)).sets[0], hostname=b"here", localdir=b"/src")

    assert isinstance(caught.value, AsyncdupError)
    assert caught.value.exit_code == code
    assert "--allow-source-mismatch" in (caught.value.hint or "")
