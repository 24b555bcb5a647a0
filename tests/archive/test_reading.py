"""Manifests from the target, and the volumes that a restore needs of each set."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncdup.archive.chains import Chain, collect
from asyncdup.archive.reading import needed_volumes, parse_manifest, read_manifests
from asyncdup.backends.base import ObjectInfo
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.memory import MemoryBackend
from asyncdup.codecs import make_codec
from asyncdup.errors import ChainError, FormatError
from asyncdup.formats import manifest
from asyncdup.formats.manifest import Manifest, VolumeRecord
from asyncdup.formats.names import SetId, manifest_name, volume_name
from asyncdup.transfer import open_engine

FULL, INC = SetId("full", None, 1_700_000_000), SetId("inc", 1_700_000_000, 1_700_100_000)
ENDS = {FULL: [b"d", b"m", b"z"], INC: [b"f", b"z"]}


def records(set_id: SetId) -> list[VolumeRecord]:
    starts = [b"", *ENDS[set_id]]
    return [
        VolumeRecord(number=number, start_path=starts[number - 1], end_path=end, hashes={"SHA1": "ab" * 20})
        for number, end in enumerate(ENDS[set_id], 1)
    ]


def text(set_id: SetId, *, upto: int | None = None, file_list: bool = True) -> bytes:
    parts = [manifest.write_head(b"here", b"/src"), *(manifest.write_volume(record) for record in records(set_id)[:upto])]
    return b"".join([*parts, *(manifest.write_file_list(0) if file_list else ())])


def chain(*missing: str) -> Chain:
    infos = [ObjectInfo(manifest_name(set_id), len(text(set_id))) for set_id in ENDS]
    infos += [ObjectInfo(volume_name(set_id, number, ".gz"), 100) for set_id in ENDS for number in range(1, len(ENDS[set_id]) + 1)]
    return collect([info for info in infos if info.name not in missing], now=1_800_000_000).chain_for()


def parsed() -> list[Manifest]:
    return [manifest.parse(text(set_id)) for set_id in ENDS]


def test_a_whole_restore_needs_all_volumes_in_the_order_of_the_merge() -> None:
    found = needed_volumes(chain(), parsed())

    assert [(volume.index, volume.number) for volume in found] == [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)]
    assert {volume.size for volume in found} == {100}
    assert all(volume.hashes == {"SHA1": "ab" * 20} for volume in found)


@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"a", [(0, 1), (1, 1)]), (b"e", [(0, 2), (1, 1)]), (b"zz", [(0, 3), (1, 2)]), (b"d", [(0, 1), (1, 1), (0, 2)])],
)
def test_one_path_needs_only_the_volumes_that_may_hold_it(path: bytes, expected: list[tuple[int, int]]) -> None:
    assert [(volume.index, volume.number) for volume in needed_volumes(chain(), parsed(), path)] == expected


def test_a_volume_that_is_not_there_is_named_before_anything_is_read() -> None:
    lost = volume_name(FULL, 3, ".gz")

    with pytest.raises(ChainError, match=lost):
        needed_volumes(chain(lost), parsed())


def test_a_volume_that_is_not_there_does_not_hinder_what_lies_elsewhere() -> None:
    lost = volume_name(FULL, 3, ".gz")

    assert needed_volumes(chain(lost), parsed(), b"a")


async def read(tmp_path: Path, found: Chain, **texts: bytes) -> list[Manifest]:
    backend = MemoryBackend()
    for set_id in ENDS:
        await backend.put(manifest_name(set_id), BytesBody(texts.get(set_id.type, text(set_id))))
    async with open_engine(spool_dir=tmp_path) as engine:
        codec = make_codec(encryption=None, tempdir=tmp_path)
        return await read_manifests(engine, engine.lane(backend), found.sets, lambda name: codec)


async def test_every_manifest_is_read_from_the_target(tmp_path: Path) -> None:
    """P5."""
    found = await read(tmp_path, chain())

    assert [len(each.volumes) for each in found] == [3, 2]


async def test_a_manifest_that_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    """P4."""
    damaged = text(FULL).replace(b"Volume 2", b"Volume 5")

    with pytest.raises(FormatError, match=manifest_name(FULL)):
        await read(tmp_path, chain(), full=damaged)


def test_a_manifest_that_was_cut_between_two_volumes_is_damage() -> None:
    backup_set = chain().full

    with pytest.raises(FormatError, match="cut off"):
        parse_manifest(text(FULL, upto=2, file_list=False), backup_set)

    assert len(parse_manifest(text(FULL, file_list=False), backup_set).volumes) == 3  # as old ones are
