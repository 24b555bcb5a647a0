"""check --repair: a signature archive that is lost or damaged is made anew from the volumes, whole or not at all (P1, P3, P4)."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from asyncdup.cli.upkeep import check_lines
from asyncdup.codecs import Encryption
from asyncdup.commands.check import CheckResult, check
from asyncdup.errors import AsyncdupError
from tests.commands.conftest import START, Stage, tree

pytestmark = pytest.mark.realtime

ENCRYPTED = {"encryption": Encryption(passphrase="test", gpg_options=("--s2k-count", "1024")), "volume_size": 10 << 20}  # few calls of gpg
FORMS: dict[str, dict[str, Any]] = {"gzip": {}, "plain": {"compression": False}, "encrypted": ENCRYPTED}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Several volumes, deltas, folders, a link, deleted paths; a file that is larger than what is signed in memory."""
    stage = Stage(tmp_path, f"file://{tmp_path / 'target'}")
    stage.fill(4)
    stage.write("folder/small", "small")
    stage.write("large", bytes(range(256)) * 8000)
    stage.write("empty", b"")
    (stage.source / "link").symlink_to("file00")
    return stage


async def three_sets(stage: Stage, **form: Any) -> None:
    await stage.backup("full", **form)
    stage.write("file01", (stage.source / "file01").read_bytes()[:30_000] + b"changed")
    stage.write("large", (stage.source / "large").read_bytes() + b"more")
    (stage.source / "file03").unlink()
    await stage.backup("incremental", **form)
    stage.write("file01", (stage.source / "file01").read_bytes() + b"again")
    (stage.source / "empty").unlink()
    (stage.source / "empty").mkdir()
    await stage.backup("incremental", **form)


def sigtars(stage: Stage) -> list[Path]:
    return sorted(stage.folder.glob("target/*sigtar*"))


async def repaired(stage: Stage, *, read_data: bool = False, force: bool = True, **form: Any) -> CheckResult:
    return await check(stage.url, stage.options(force=force, **form), repair=True, read_data=read_data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


def lose(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("spoil", [lose, cut, flip])
async def test_it_is_made_as_it_was(stage: Stage, spoil: Any, which: int) -> None:
    await three_sets(stage)
    before = {path.name: gzip.decompress(path.read_bytes()) for path in sigtars(stage)}
    others = {path: path.read_bytes() for path in (stage.folder / "target").iterdir() if "sigtar" not in path.name}
    spoil(sigtars(stage)[which])

    found = await repaired(stage)

    assert found.exit_code == 0 and not found.repairable
    assert len([each for each in found.repaired if each.endswith("from its volumes")]) == 1
    assert {path.name: gzip.decompress(path.read_bytes()) for path in sigtars(stage)} == before
    assert {path: path.read_bytes() for path in others} == others
    assert {path.name: gzip.decompress(path.read_bytes()) for path in (stage.cache / "cache").glob("*sigtar*")} == before


@pytest.mark.parametrize("form", FORMS)
async def test_all_of_them_in_any_form_and_the_chain_goes_on(stage: Stage, form: str) -> None:
    await three_sets(stage, **FORMS[form])
    names = [path.name for path in sigtars(stage)]
    for path in sigtars(stage):
        path.unlink()

    assert (await repaired(stage, **FORMS[form])).exit_code == 0

    assert [path.name for path in sigtars(stage)] == names
    whole = await check(stage.url, stage.options(**FORMS[form]), read_data=True)
    assert whole.findings == ()
    stage.write("file02", b"new content")
    result = await stage.backup("incremental", **FORMS[form])
    assert result.statistics.changed_files == 1
    assert tree(await stage.restore(**FORMS[form])) == tree(stage.source)


async def test_without_force_it_says_what_it_would_do(stage: Stage) -> None:
    await three_sets(stage)
    cut(damaged := sigtars(stage)[0])
    before = damaged.read_bytes()

    found = await repaired(stage, force=False)

    said = list(check_lines(found))
    assert [
        line for line in said if line.startswith("Would be rebuilt: the signature archive of the set")
    ] and damaged.read_bytes() == before
    assert "The same command with --force rebuilds them." in said
    assert found.exit_code == 21


async def test_one_that_does_not_fit_the_data_is_found_with_read_data(stage: Stage) -> None:
    """It can be read, but is another backup's: all of its chain's are made anew."""
    await three_sets(stage)
    before = {path.name: gzip.decompress(path.read_bytes()) for path in sigtars(stage)}
    first, last = sigtars(stage)[1:]
    last.write_bytes(first.read_bytes())
    assert (await repaired(stage)).repaired == ()

    found = await repaired(stage, read_data=True)

    assert found.exit_code == 0
    assert {path.name: gzip.decompress(path.read_bytes()) for path in sigtars(stage)} == before


async def test_what_could_be_had_in_part_only_is_left_as_it_was(stage: Stage) -> None:
    await three_sets(stage)
    sigtars(stage)[2].unlink()
    flip(min((stage.folder / "target").glob("*full*vol2*")))
    before = {path.name: path.read_bytes() for path in (stage.folder / "target").iterdir()}

    with pytest.raises(AsyncdupError, match="only be rebuilt in part, and is left as it was"):
        await repaired(stage)

    assert {path.name: path.read_bytes() for path in (stage.folder / "target").iterdir()} == before


async def test_what_was_written_to_during_the_run_is_looked_at_again(stage: Stage) -> None:
    """P13: its signature says that it is a second older than it is."""
    path = stage.write("file01", b"x" * 5000)
    os.utime(path, (2 * START, 2 * START))
    await stage.backup("full")
    sigtars(stage)[0].unlink()

    assert (await repaired(stage)).exit_code == 0

    path.write_bytes(b"y" * 5000)
    os.utime(path, (2 * START, 2 * START))
    assert (await stage.backup("incremental")).statistics.changed_files == 1
    assert tree(await stage.restore()) == tree(stage.source)
