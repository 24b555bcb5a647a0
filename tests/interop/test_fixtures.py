"""Archives that stock duplicity 3.2.1 made, read by us: every tree at every time, listings, status."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.archives import BARE, DAY, KEY, PASSPHRASE, PLAIN, SIGNED, START, SYMMETRIC, Archive, Form, run
from interop.trees import IS_ROOT, can_make_devices, expected, settle, write

from asyncdup.cli.main import main
from asyncdup.codecs import Encryption
from asyncdup.commands.check import check
from asyncdup.commands.collection import collection_status
from asyncdup.commands.restore import restore
from asyncdup.errors import CodecError, RestoreError, SignatureMismatch
from asyncdup.units import parse_time

pytestmark = pytest.mark.realtime

FORMS: dict[str, Form] = {
    "plain-chain": PLAIN,
    "no-compression": BARE,
    "symmetric-gpg": SYMMETRIC,
    "pubkey-signed": SIGNED,
    "odd-names-types": PLAIN,
    "prefixes-jsonstat": PLAIN.with_prefixes(),
    "two-chains": PLAIN,
    "short-names": PLAIN,
}
FIXTURES = Path(__file__).parents[1] / "fixtures"
BACKUPS = [(name, path.stem) for name in FORMS for path in sorted((FIXTURES / name / "expected").glob("*.jsonl"))]
SHOWN = [(path.parents[1].name, path.name.split(".")[1]) for path in sorted(FIXTURES.glob("*/stock-output/list-current-files.*"))]

Make = Callable[..., Archive]


@pytest.mark.parametrize(("name", "moment"), BACKUPS)
def test_every_backup_of_stock_restores_to_its_tree(name: str, moment: str, fixture_archive: Make, fixtures: Path, tmp_path: Path) -> None:
    """Without a cache, at every time (format, section 17)."""
    if name == "odd-names-types" and not (IS_ROOT and can_make_devices(tmp_path)):
        pytest.skip("only root may make the fixture's devices")
    found = fixture_archive(name, FORMS[name])

    restored = found.read_by_us(_seconds(moment))

    assert restored == expected(fixtures / name / "expected" / f"{moment}.jsonl")
    assert not found.heard.warnings
    assert not found.cache["us"].exists()


@pytest.mark.parametrize("name", FORMS)
def test_every_archive_of_stock_is_whole_to_the_last_byte(name: str, fixture_archive: Make) -> None:
    """P5: bounds of volumes and signatures are what stock writes, in every form."""
    found = fixture_archive(name, FORMS[name])

    assert run(check(found.url, found.options(), read_data=True)).damage == []


@pytest.mark.skipif(IS_ROOT, reason="root may make the devices")
def test_devices_that_may_not_be_made_are_named_and_the_rest_restores(fixture_archive: Make, fixtures: Path) -> None:
    """P3."""
    found = fixture_archive("odd-names-types")
    tree = expected(fixtures / "odd-names-types/expected/20231115T221320Z.jsonl")

    with pytest.raises(RestoreError) as caught:
        found.read_by_us()

    devices = [path for path, entry in tree.items() if entry["type"] in ("chr", "blk")]
    assert [line.split(":")[0] for line in caught.value.problems] == sorted(devices)


def test_a_folder_and_a_file_of_a_backup_restore_alone(fixture_archive: Make, fixtures: Path) -> None:
    """Also where the file's deltas fill volumes (format, section 17)."""
    found = fixture_archive("plain-chain")
    tree = expected(fixtures / "plain-chain/expected/20231116T221320Z.jsonl")

    assert found.read_by_us(path="big.bin") == {".": tree["big.bin"]}
    assert found.read_by_us(path="docs") == {os.path.relpath(path, "docs"): tree[path] for path in tree if f"{path}/".startswith("docs/")}


def test_a_chain_with_short_names_is_continued(fixture_archive: Make, fixtures: Path) -> None:
    """Its signatures keep the short form of their names in the cache (format, sections 2.1 and 12)."""
    found = fixture_archive("short-names")
    run(restore(found.url, found.source, found.options()))
    found.time = START + DAY
    write(found.source / "new", b"new\n")
    settle(found.source, 1_700_000_001)

    result = found.by_us("incremental", allow_source_mismatch=True)

    assert (result.statistics.new_files, result.statistics.deleted_files) == (1, 0)
    found.check("us")
    assert found.read_by_us(START) == expected(fixtures / "short-names/expected/20231114T221320Z.jsonl")


def test_a_signed_backup_opens_for_the_right_signer_only(fixture_archive: Make) -> None:
    """P17, exit 22; without a key to check, signatures are not looked at (format, section 10.3)."""
    found = fixture_archive("pubkey-signed", SIGNED)

    assert found.read_by_us(encryption=Encryption(passphrase=PASSPHRASE)) == found.read_by_us()
    with pytest.raises(SignatureMismatch) as caught:
        found.read_by_us(encryption=Encryption(passphrase=PASSPHRASE, sign_key="0123456789ABCDEF0123456789ABCDEF01234567"))
    assert caught.value.exit_code == 22


def test_an_unsigned_backup_is_refused_where_a_signature_is_asked_for(fixture_archive: Make) -> None:
    """P17."""
    found = fixture_archive("symmetric-gpg", SYMMETRIC)

    with pytest.raises(SignatureMismatch):
        found.read_by_us(encryption=Encryption(passphrase=PASSPHRASE, sign_key=KEY))


def test_a_wrong_passphrase_is_said_and_nothing_is_restored(fixture_archive: Make) -> None:
    """Exit 31, as stock's (format, section 10.3)."""
    found = fixture_archive("symmetric-gpg", SYMMETRIC)

    with pytest.raises(CodecError) as caught:
        found.read_by_us(encryption=Encryption(passphrase="something else"))

    assert caught.value.exit_code == 31
    assert not any(found.folder.glob("restored-*"))


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(("name", "moment"), SHOWN)
def test_listings_are_those_of_stock(
    name: str, moment: str, fixture_archive: Make, fixtures: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Byte for byte, from the signature archives alone (format, section 19)."""
    found = fixture_archive(name)
    for volume in found.target.glob("*.difftar*"):
        os.truncate(volume, 0)

    words = ["list-current-files", found.url, "--time", moment, "--no-encryption", "--archive-dir", str(found.cache["us"]), "-v0"]

    assert main(words) == 0
    assert capfdbinary.readouterr().out == (fixtures / name / f"stock-output/list-current-files.{moment}.txt").read_bytes()


@pytest.mark.parametrize("name", ["two-chains", "odd-names-types"])
def test_the_status_has_the_chains_that_stock_sees(name: str, fixture_archive: Make, fixtures: Path) -> None:
    """The lines that front ends read (format, section 19)."""
    found = fixture_archive(name)

    collection = run(collection_status(found.url, found.options()))

    machine = (fixtures / name / "stock-output/collection-status.log-fd.txt").read_text().partition("\n. ")[0].splitlines()
    assert collection.status_lines() == machine[3:]
    assert collection.warnings() == []


@pytest.mark.skipif(not IS_ROOT, reason="only root may give files the fixture's owners")
def test_verify_of_a_fixture_finds_each_difference(fixture_archive: Make) -> None:
    """With data, also of signed and encrypted volumes (format, section 18)."""
    found = fixture_archive("pubkey-signed", SIGNED)
    run(restore(found.url, found.source, found.options()))
    assert found.differences_by_us() == []

    victim = next(path for path in sorted(found.source.rglob("*")) if path.is_file() and path.stat().st_size)
    before = victim.stat()
    with open(victim, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert found.differences_by_us() == [f"Difference found: Data for file {victim.relative_to(found.source)} is different"]


def _seconds(moment: str) -> int:
    return parse_time(moment, START)
