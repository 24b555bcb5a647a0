"""check: every object that is damaged or gone is found, by its structure or by its data, and nothing is changed (P4, P5)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import asyncdup
from asyncdup.cli.upkeep import check_lines
from asyncdup.cli.upkeep_json import check_json
from asyncdup.commands.check import CheckResult, check
from asyncdup.errors import ChainError
from asyncdup.formats import rdiff
from tests.commands.conftest import START, Stage, tree

pytestmark = pytest.mark.realtime


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    """A full and two increments of several volumes, with deltas, a deleted file, a folder and a link."""
    stage = Stage(tmp_path, f"file://{tmp_path / 'target'}")
    stage.fill(4)
    stage.write("folder/small", "small")
    (stage.source / "link").symlink_to("file00")
    return stage


async def backups(stage: Stage) -> Path:
    await stage.backup("full")
    stage.write("file01", (stage.source / "file01").read_bytes()[:30_000] + b"changed")
    (stage.source / "file03").unlink()
    await stage.backup("incremental")
    stage.write("file01", (stage.source / "file01").read_bytes() + b"again")
    stage.write("new", b"new" * 50_000)
    await stage.backup("incremental")
    return stage.folder / "target"


async def checked(stage: Stage, **how: Any) -> CheckResult:
    own = {name: how.pop(name) for name in ("read_data", "sample", "repair") if name in how}
    return await check(stage.url, stage.options(**how), **own)


async def test_what_is_whole_has_no_findings_and_every_volume_is_read(made: Stage) -> None:
    target = await backups(made)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    structure, data = await checked(made), await checked(made, read_data=True)

    assert structure.findings == data.findings == ()
    assert (structure.exit_code, data.exit_code, structure.read) == (0, 0, 0)
    assert data.read == data.volumes == len(list(target.glob("*.difftar.*")))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(b"Hash SHA1 ") + 12 if path.name.endswith(".manifest") else len(data) // 2
    data[place] = ord("0" if data[place] == ord("1") else "1") if path.name.endswith(".manifest") else data[place] ^ 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [remove, empty, cut, flip])
async def test_every_object_damaged_or_gone_in_turn_is_found(damage: Callable[[Path], None], made: Stage) -> None:
    target = await backups(made)
    newest = max(target.glob("duplicity-inc*.manifest"))
    for path in sorted(target.iterdir()):
        good = path.read_bytes()
        damage(path)

        found = await checked(made, read_data=True)

        said = " ".join(f"{finding.name} {finding.message}" for finding in found.findings)
        if damage in (empty, cut):  # of what is gone the name can only be guessed; a wrong hash in a manifest speaks of the volume
            assert path.name in said
        if damage is remove and path == newest:  # it looks like a run that was interrupted a moment before its end
            assert [finding.kind for finding in found.findings] == ["unfinished"]
        else:
            assert found.exit_code == (1 if damage is remove else 21), path.name
        if damage in (remove, empty):
            assert (await checked(made)).findings, path.name
        path.write_bytes(good)
    assert (await checked(made, read_data=True)).findings == ()


async def test_all_that_is_damaged_is_found_in_one_look(made: Stage) -> None:
    target = await backups(made)
    bad = [*sorted(target.glob("duplicity-full*.difftar.*"))[:2], *sorted(target.glob("duplicity-inc*.vol1.*"))]
    for path in bad:
        flip(path)

    found = await checked(made, read_data=True)

    assert {finding.name for finding in found.damage} == {path.name for path in bad}


async def test_signatures_that_are_whole_but_of_other_data_are_found(made: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: the next incremental would be made against them."""
    sign = rdiff.sign
    with monkeypatch.context() as patch:
        patch.setattr(rdiff, "sign", lambda data, length: sign(data[::-1], length))
        await backups(made)

    assert (await checked(made)).findings == ()
    found = await checked(made, read_data=True)
    assert found.exit_code == 21
    assert any("is not what its signature says" in finding.message for finding in found.damage)


SAID = {"StartingPath": "begins", "EndingPath": "ends"}


def bounds_of(manifest_file: Path) -> list[tuple[int, str, bytes]]:
    """Volume, key, and the line of each bound."""
    found, volume = [], 0
    for line in manifest_file.read_bytes().splitlines(keepends=True):
        if line.startswith(b"Volume "):
            volume = int(line.split()[1].rstrip(b":"))
        elif b"Path  " in line:
            found.append((volume, line.split()[0].decode(), line))
    return found


async def test_every_wrong_bound_of_a_plain_manifest_is_named_with_what_is_there(made: Stage) -> None:
    """Nothing in the format guards them, and duplicity leaves volumes out by them (P3, P4)."""
    target = await backups(made)
    for path in sorted(target.glob("*.manifest")):
        good = path.read_bytes()
        seen = 0
        for volume, key, line in bounds_of(path):
            other = b"    %b   %b \n" % (key.encode(), b"." if key == "StartingPath" else b"zzz 3")
            if other.split() == line.split():
                continue
            seen += 1
            head, mark, rest = good.partition(b"Volume %d:" % volume)
            path.write_bytes(head + mark + rest.replace(line, other, 1))

            found = await checked(made, read_data=True)

            (finding,) = found.damage
            says = "." if key == "StartingPath" else "part 3 of zzz"
            assert (finding.name, found.exit_code) == (path.name, 21)
            assert finding.message.startswith(f"volume {volume} {SAID[key]} with ") and finding.message.endswith(f"{key} says {says}")
            assert (await checked(made, sample=100.0)).findings == found.findings
        assert seen
        path.write_bytes(good)


async def test_the_wrong_number_of_a_part_is_named(made: Stage) -> None:
    made.write("large", random.Random(7).randbytes(400_000))
    await made.backup("full", compression=False)
    (path,) = (made.folder / "target").glob("*.manifest")
    good = path.read_bytes()
    split = [(volume, key, line) for volume, key, line in bounds_of(path) if b" large " in line and line.split()[2:]]
    assert len(split) > 3

    for volume, key, line in split:
        number = line.split()[2]
        for wrong in (b"large 9", b"large  "):
            head, mark, rest = good.partition(b"Volume %d:" % volume)
            path.write_bytes(head + mark + rest.replace(line, line.replace(b"large " + number, wrong), 1))
            (finding,) = (await checked(made, read_data=True)).damage
            assert f"part {int(number)} of large" in finding.message and f"volume {volume} {SAID[key]}" in finding.message
    path.write_bytes(good)
    assert (await checked(made, read_data=True)).findings == ()


async def test_signatures_that_a_newer_set_replaces_are_looked_at_where_nothing_else_guards_them(made: Stage) -> None:
    """A bare archive has no checksum of its content: list, history and diff of older times read it."""
    made.defaults["compression"] = False
    target = await backups(made)
    sigtars = sorted(target.glob("*signatures*"))
    good = sigtars[0].read_bytes()
    at = good.index(b"signature/file01\0") + 512 + 30  # of the file that both increments have changed
    assert (await checked(made, read_data=True)).findings == ()
    sigtars[0].write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])

    found = await checked(made, read_data=True)

    assert [(each.name, each.message) for each in found.damage] == [(sigtars[0].name, "file01 is not what its signature says")]
    assert found.exit_code == 21
    repaired = (await checked(made, read_data=True, repair=True, force=True)).repaired
    assert [line for line in repaired if "from its volumes" in line] == [repaired[0]]
    assert (sigtars[0].read_bytes(), (await checked(made, read_data=True)).findings) == (good, ())


async def test_strangers_and_leftovers_are_remarks_and_no_damage(made: Stage) -> None:
    target = await backups(made)
    strange = {
        "readme.txt": "foreign",
        "asyncdup-lock-00": "lock",
        ".asyncdup-1.x-2": "stray",
        "duplicity-full.20331201T000000Z.vol1.difftar.gz": "unfinished",
        "duplicity-full-signatures.20331005T000000Z.sigtar.gz": "orphaned",
    }
    for name in strange:
        (target / name).write_bytes(b"x")

    found = await checked(made)

    assert sorted(finding.kind for finding in found.findings) == sorted(strange.values())
    assert (found.damage, found.exit_code) == ([], 0)


async def test_a_sample_is_another_part_every_day_until_all_had_their_turn(made: Stage) -> None:
    target = await backups(made)
    volumes = sorted(path.name for path in target.glob("*.difftar.*"))
    flip(target / volumes[-1])
    found = []
    for day in range(len(volumes)):
        shifted = replace(made.options(), now=partial(float, START + day * 86_400))
        result = await check(made.url, shifted, sample=0.1)
        assert result.read == 1 and f"of {len(volumes)}" in result.sampled
        found += [finding.name for finding in result.damage]

    assert found == [volumes[-1]]
    assert (await checked(made, sample=100.0)).read == len(volumes)


async def test_repair_brings_the_local_copies_back_and_says_which(made: Stage) -> None:
    await backups(made)
    elsewhere = {"archive_dir": made.folder / "lost"}

    found = await checked(made, repair=True, **elsewhere)

    assert len(found.repaired) == 6
    names = {path.name: path.read_bytes() for path in (made.folder / "lost/cache").iterdir() if path.name.endswith("manifest")}
    assert names == {path.name: path.read_bytes() for path in (made.cache / "cache").iterdir() if path.name.endswith("manifest")}
    assert (await checked(made, repair=True, **elsewhere)).repaired == ()
    made.write("last", "one")
    await made.backup("incremental", **elsewhere)
    assert tree(await made.restore()) == tree(made.source)


async def test_a_place_without_a_backup_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="no complete backup"):
        await check(f"file://{tmp_path}/none", asyncdup.Options(archive_dir=tmp_path, tempdir=tmp_path))


async def test_people_and_programs_read_the_same(made: Stage) -> None:
    target = await backups(made)
    (gone := min(target.glob("*vol1*"))).unlink()

    found = await checked(made)

    said = list(check_lines(found))
    told = json.loads(check_json(found))
    assert said[0] == f"DAMAGE: {gone.name}: is not there, but the manifest names it" and said[-1].endswith("Damage found: 1.")
    assert (told["ok"], [each["name"] for each in told["findings"]]) == (False, [gone.name])
