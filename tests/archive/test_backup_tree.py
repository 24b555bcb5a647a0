"""The tree of a backup from signature archives: whose word counts, and what happens to trees that are no trees."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from asyncdup.archive.backup_tree import BackupTree
from asyncdup.archive.chains import Chain
from asyncdup.errors import RestoreError
from asyncdup.formats import rdiff, sigtar
from asyncdup.formats.tar import DIR, REG, Entry


def entry(path: bytes, kind: bytes = REG) -> Entry:
    return Entry(path, kind, 0o644, 0, 0, 1_700_000_000, 0, b"", b"", b"", (0, 0))


def file(path: bytes, content: bytes = b"content") -> bytes:
    return sigtar.signature(entry(path), rdiff.sign(content, 512))


def folder(path: bytes) -> bytes:
    return sigtar.snapshot(entry(path, DIR))


def tree(place: Path, *sets: list[bytes]) -> BackupTree:
    files = []
    for number, members in enumerate(sets):
        data = b"".join(members)
        files.append(place / str(number))
        files[-1].write_bytes(gzip.compress(data + sigtar.end(len(data))))
    return BackupTree(Chain(()), files)


def test_the_newest_set_that_names_a_path_counts_and_all_that_name_a_file_are_known(tmp_path: Path) -> None:
    found = tree(
        tmp_path,
        [folder(b""), file(b"changed"), file(b"gone"), file(b"same"), file(b"turned")],
        [file(b"changed", b""), sigtar.deleted(b"gone"), folder(b"turned"), file(b"turned/new")],
        [file(b"changed"), file(b"gone")],
    )

    assert found.children == {b"": [b"changed", b"same", b"turned", b"gone"], b"turned": [b"new"]}
    assert {path: node.sets for path, node in found.nodes.items() if node.entry.kind == REG} == {
        b"changed": (0, 1, 2),
        b"same": (0,),
        b"turned/new": (1,),
        b"gone": (2,),
    }


def test_a_file_of_no_bytes_is_known_by_its_signature(tmp_path: Path) -> None:
    found = tree(tmp_path, [folder(b""), file(b"empty", b""), file(b"full", b"x")])
    assert (found.nodes[b"empty"].empty, found.nodes[b"full"].empty) == (True, False)


def test_folders_that_the_archive_does_not_name_are_there_all_the_same(tmp_path: Path) -> None:
    found = tree(tmp_path, [file(b"a/b/c"), file(b"a/b/d")])
    assert found.children == {b"": [b"a"], b"a": [b"b"], b"a/b": [b"c", b"d"]}
    assert found.nodes[b"a/b"].entry.kind == DIR


def test_the_backup_of_a_single_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match="single file"):
        tree(tmp_path, [file(b"")])
