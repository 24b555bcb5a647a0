"""Encrypted files: written for gpg, read from gpg and stock duplicity, refused when they are not what they must be."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest

from asyncdup.codecs import Codec, Encryption, Sealed, codec_for, make_codec
from asyncdup.codecs import gpg as gpg_room
from asyncdup.codecs.gpg import judge
from asyncdup.codecs.gpg_process import Outcome, failure
from asyncdup.errors import CodecError, SignatureMismatch, UsageError

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")

PASSPHRASE = "asyncdup-test"
FINGERPRINT = "4FA0181B1CD60AE37CEC85C6FD9DF1B3EA30AE07"  # of the fixture's test key
SUBKEY = "DE9ADDB4132C24DC2CCC574DDF6A5D402CCC4F63"
FAST = ("--s2k-count", "1024")  # stretching the passphrase is most of a short run
SYMMETRIC = Encryption(passphrase=PASSPHRASE, gpg_options=FAST)
TO_KEY = Encryption(passphrase=PASSPHRASE, recipients=(FINGERPRINT,))
HIDDEN = Encryption(passphrase=PASSPHRASE, hidden_recipients=(FINGERPRINT,))
SIGNED = Encryption(passphrase=PASSPHRASE, recipients=(FINGERPRINT,), sign_key=FINGERPRINT)
SIGNED_SYMMETRIC = Encryption(passphrase=PASSPHRASE, sign_key=FINGERPRINT, gpg_options=FAST)

TEXT = b"".join(b"a line of text, number %d\n" % number for number in range(20_000))
PIECES = [TEXT[:100], random.Random(1).randbytes(70_000), TEXT]
PLAIN = b"".join(PIECES)


def fixture_folder(name: str) -> Path:
    here = Path(__file__).resolve()
    places = (here.parents[1] / "fixtures" / name, here.parents[3] / "shared" / "fixtures" / name)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip(f"the fixture {name} is not here")
    return found


@pytest.fixture(scope="module")
def keyring() -> Iterator[Path]:
    """A home for gpg with the fixtures' test key. Its path is short, as that of the agent's socket must be."""
    home = Path(tempfile.mkdtemp(prefix="adk"))
    try:
        (home / "gpg-agent.conf").write_text("s2k-count 65536\n")  # a key that opens at once; the default takes 0.1 s each time
        key = next(fixture_folder("pubkey-signed").glob("*.asc"))
        command = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", PASSPHRASE, "--import", key]
        subprocess.run(command, check=True, capture_output=True)
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _home(keyring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNUPGHOME", str(keyring))


def codec(encryption: Encryption, tmp_path: Path, *, compression: bool = True) -> Codec:
    tempdir = tmp_path / "temp"
    tempdir.mkdir(exist_ok=True)
    return make_codec(encryption=encryption, compression=compression, tempdir=tempdir)


async def sealed(codec: Codec, path: Path, pieces: Sequence[bytes] = PIECES) -> Sealed:
    async with codec.seal(path) as sealer:
        for piece in pieces:
            await sealer.feed(piece)
        return await sealer.finish()


async def opened(codec: Codec, path: Path, chunk: int = 1 << 20) -> bytes:
    async with codec.open(path, chunk=chunk) as chunks:
        return b"".join([data async for data in chunks])


def by_gpg(path: Path) -> bytes:
    command = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", PASSPHRASE, "--decrypt", path]
    return subprocess.run(command, check=True, capture_output=True).stdout


# Writing.


@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize(
    "encryption", [SYMMETRIC, TO_KEY, HIDDEN, SIGNED, SIGNED_SYMMETRIC], ids=["sym", "key", "hidden", "signed", "signed-sym"]
)
async def test_gpg_and_we_read_what_we_wrote(encryption: Encryption, compression: bool, tmp_path: Path) -> None:
    ours = codec(encryption, tmp_path, compression=compression)
    path = tmp_path / "vol1.difftar.gpg"

    result = await sealed(ours, path)

    stored = path.read_bytes()
    assert result == Sealed(len(stored), hashlib.sha1(stored).hexdigest())
    assert (len(stored) < len(PLAIN) // 2) == compression
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert by_gpg(path) == PLAIN
    assert await opened(ours, path) == PLAIN
    assert not list((tmp_path / "temp").iterdir())


async def test_an_empty_file_is_a_message_too(tmp_path: Path) -> None:
    for encryption in (SYMMETRIC, SIGNED):
        path = tmp_path / f"{encryption.symmetric}.gpg"
        await sealed(codec(encryption, tmp_path), path, [])
        assert by_gpg(path) == await opened(codec(encryption, tmp_path), path) == b""


async def test_the_next_gpg_starts_while_the_last_one_works(tmp_path: Path) -> None:
    """Sealers of one task may be entered early and left in any order."""
    ours = codec(SIGNED, tmp_path)
    first, second, unused = (ours.seal(tmp_path / name) for name in ("first", "second", "unused"))
    one = await first.__aenter__()
    two = await second.__aenter__()
    await unused.__aenter__()
    await one.feed(PLAIN)
    await two.feed(TEXT)
    await one.finish()
    await first.__aexit__(None, None, None)
    await unused.__aexit__(None, None, None)
    await two.finish()
    await second.__aexit__(None, None, None)

    assert by_gpg(tmp_path / "first") == PLAIN
    assert by_gpg(tmp_path / "second") == TEXT
    assert not (tmp_path / "unused").exists()


async def test_written_is_close_to_what_is_stored_after_drain(tmp_path: Path) -> None:
    for encryption in (SYMMETRIC, SIGNED):
        path = tmp_path / f"{encryption.symmetric}.gpg"
        async with codec(encryption, tmp_path).seal(path) as sealer:
            await sealer.feed(PLAIN)
            assert sealer.pending == len(PLAIN)
            await sealer.drain()
            written, pending = sealer.written, sealer.pending
            result = await sealer.finish()
        assert pending == 0
        assert written <= result.size <= written + 2000


async def test_small_objects_are_packed_and_unpacked(tmp_path: Path) -> None:
    for encryption in (SYMMETRIC, SIGNED):
        ours = codec(encryption, tmp_path)
        packed = await ours.pack(b"Hostname x\n")
        assert b"Hostname" not in packed
        assert await ours.unpack(packed) == b"Hostname x\n"
    assert ours.manifest_suffix == ours.suffix == ".gpg"
    assert not list((tmp_path / "temp").iterdir())


async def test_an_object_that_is_too_large_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: a manifest is held in memory, so its size has a bound."""
    ours = codec(SYMMETRIC, tmp_path)
    packed = await ours.pack(bytes(1 << 20))
    monkeypatch.setattr(gpg_room, "MAX_SMALL", 1000)

    with pytest.raises(gpg_room.FormatError, match="the manifest: larger than"):
        await ours.unpack(packed, name="the manifest")


# Reading what stock duplicity wrote.


@pytest.mark.parametrize("fixture", ["symmetric-gpg", "pubkey-signed"])
async def test_archives_of_stock_duplicity_are_read_to_their_end(fixture: str, tmp_path: Path) -> None:
    """Format section 10: volumes with padding, bare signature archives, manifests; signatures are checked for a signed chain."""
    key = FINGERPRINT if fixture == "pubkey-signed" else None
    ours = codec_for(".gpg", Encryption(passphrase=PASSPHRASE, sign_key=key), tmp_path)
    files = sorted((fixture_folder(fixture) / "remote").glob("duplicity-full*"))

    plain = {path.name: await opened(ours, path) for path in files}

    manifest = next(data for name, data in plain.items() if "manifest" in name)
    assert manifest == await ours.unpack(next(path for path in files if "manifest" in path.name).read_bytes())
    assert manifest.startswith(b"Hostname testhost\n")
    assert all(hashlib.sha1(path.read_bytes()).hexdigest() in manifest.decode() for path in files if "difftar" in path.name)
    volume = next(data for name, data in plain.items() if "vol1" in name)
    assert volume.startswith(b"snapshot/./\0")
    if fixture == "symmetric-gpg":  # after the tar comes stock's padding: the beginning of the stored file
        stored = next(path for path in files if "vol1" in path.name).read_bytes()
        end = volume.index(stored[:16])
        assert end % 10240 == 0
        assert volume[end:] == stored[: len(volume) - end]


# What must not be accepted.


async def test_a_wrong_passphrase_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "vol1.gpg"
    await sealed(codec(SYMMETRIC, tmp_path), path)

    with pytest.raises(CodecError) as caught:
        await opened(codec(Encryption(passphrase="not-the-secret"), tmp_path), path)

    assert str(caught.value) == "gpg could not decrypt vol1.gpg: the passphrase is wrong"
    assert caught.value.hint is not None
    assert caught.value.exit_code == 31
    assert "not-the-secret" not in repr(caught.value)


@pytest.mark.parametrize("how", ["cut", "cut to nothing", "flipped", "no message"])
async def test_damage_is_found(how: str, tmp_path: Path) -> None:
    path = tmp_path / "vol1.gpg"
    await sealed(codec(SYMMETRIC, tmp_path), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= how == "flipped"
    path.write_bytes({"cut": data[:-100], "cut to nothing": b"", "no message": b"tar or so" * 1000}.get(how, data))

    with pytest.raises(CodecError, match=r"gpg could not decrypt vol1\.gpg"):
        await opened(codec(SYMMETRIC, tmp_path), path)


async def test_a_message_that_is_not_encrypted_is_refused(tmp_path: Path) -> None:
    """P17: gpg prints it and is content."""
    stored = subprocess.run(["gpg", "--batch", "--store"], input=b"put here by somebody", check=True, capture_output=True).stdout
    (tmp_path / "vol1.gpg").write_bytes(stored)

    with pytest.raises(CodecError, match=r"vol1\.gpg is not encrypted"):
        await opened(codec(SYMMETRIC, tmp_path), tmp_path / "vol1.gpg")


async def test_an_unsigned_file_is_refused_where_a_signature_is_due(tmp_path: Path) -> None:
    """P17; exit code 22."""
    path = tmp_path / "vol1.gpg"
    await sealed(codec(TO_KEY, tmp_path), path)

    for key in (FINGERPRINT, FINGERPRINT[-8:]):
        with pytest.raises(SignatureMismatch, match=r"vol1\.gpg is not signed, but must be") as caught:
            await opened(codec(Encryption(passphrase=PASSPHRASE, sign_key=key), tmp_path), path)
        assert caught.value.exit_code == 22


async def test_a_key_may_be_given_in_any_way_that_names_one(tmp_path: Path) -> None:
    path = tmp_path / "vol1.gpg"
    await sealed(codec(SIGNED, tmp_path), path, [b"data"])

    for key in (FINGERPRINT.lower(), "0x" + FINGERPRINT, FINGERPRINT[-16:], FINGERPRINT[-8:], "test@example.invalid"):
        assert await opened(codec(Encryption(passphrase=PASSPHRASE, sign_key=key), tmp_path), path) == b"data"


async def test_another_keys_signature_is_refused_by_its_fingerprint(tmp_path: Path) -> None:
    """P17: the whole fingerprint counts, not its end."""
    path = tmp_path / "vol1.gpg"
    await sealed(codec(SIGNED, tmp_path), path, [b"data"])
    other = "0" * 24 + FINGERPRINT[-16:]

    with pytest.raises(SignatureMismatch, match=f"signed by the key {FINGERPRINT}, not by {other}"):
        await opened(codec(Encryption(passphrase=PASSPHRASE, sign_key=other), tmp_path), path)


async def test_a_signing_key_that_is_not_known_is_said_so(tmp_path: Path) -> None:
    unknown = Encryption(passphrase=PASSPHRASE, recipients=(FINGERPRINT,), sign_key="nobody@example.invalid")
    path = tmp_path / "vol1.gpg"
    await sealed(codec(TO_KEY, tmp_path), path, [b"data"])

    with pytest.raises(CodecError, match="no key is in the keyring as nobody@example"):
        await opened(codec(unknown, tmp_path), path)
    with pytest.raises(CodecError, match="cannot sign with the key nobody@example"):
        await sealed(codec(unknown, tmp_path), tmp_path / "vol2.gpg")
    assert not (tmp_path / "vol2.gpg").exists()


async def test_a_recipient_that_is_not_known_is_said_so(tmp_path: Path) -> None:
    unknown = Encryption(recipients=("nobody@example.invalid",))

    with pytest.raises(CodecError, match="gpg could not encrypt: it cannot encrypt to the key nobody@example"):
        await sealed(codec(unknown, tmp_path), tmp_path / "vol1.gpg", [random.Random(2).randbytes(1 << 20)] * 5)
    assert not (tmp_path / "vol1.gpg").exists()


async def test_a_missing_program_names_the_package(tmp_path: Path) -> None:
    ours = codec(Encryption(passphrase="x", gpg_binary="gpg-that-is-not-there"), tmp_path)

    with pytest.raises(CodecError, match="there is no program gpg-that-is-not-there") as caught:
        await ours.pack(b"data")

    assert "gnupg" in (caught.value.hint or "")
    assert not list((tmp_path / "temp").iterdir())


# Verdicts on what gpg reports.

OKAY = ("DECRYPTION_OKAY",)
VALID = ("VALIDSIG", SUBKEY, "2026-11-22", "1795365422", "0", "4", "0", "1", "10", "00", FINGERPRINT)
FORGED = ("VALIDSIG", "A" * 40, "2026-11-22", "1795365422", "0", "4", "0", "1", "10", "00", "A" * 40)
STRANGER = ("ERRSIG", "FD9DF1B3EA30AE07", "1", "10", "00", "1795365422", "9", FINGERPRINT)


@pytest.mark.parametrize(
    ("code", "status", "signer"),
    [(0, [OKAY], None), (0, [VALID, OKAY], None), (2, [STRANGER, OKAY], None), (0, [VALID, OKAY], FINGERPRINT), (0, [VALID, OKAY], SUBKEY)]
    + [(2, [STRANGER, VALID, OKAY], FINGERPRINT)],
)
def test_good_outcomes_are_accepted(code: int, status: list[tuple[str, ...]], signer: str | None) -> None:
    judge(Outcome(code, tuple(status), ()), "vol1", frozenset([signer] if signer else []))


@pytest.mark.parametrize(
    ("code", "status", "signer", "error", "words"),
    [
        (0, [], None, CodecError, "not encrypted"),
        (0, [VALID], FINGERPRINT, CodecError, "not encrypted"),
        (2, [("DECRYPTION_FAILED",)], None, CodecError, "could not decrypt"),
        (2, [OKAY, ("DECRYPTION_FAILED",)], None, CodecError, "could not decrypt"),
        (2, [OKAY], None, CodecError, "could not decrypt"),
        (2, [VALID, OKAY], FINGERPRINT, CodecError, "could not decrypt"),
        (1, [("BADSIG", "FD9DF1B3EA30AE07"), OKAY], None, SignatureMismatch, "signature of vol1 is wrong"),
        (1, [VALID, ("BADSIG", "FD9DF1B3EA30AE07"), OKAY], FINGERPRINT, SignatureMismatch, "signature of vol1 is wrong"),
        (0, [OKAY], FINGERPRINT, SignatureMismatch, "not signed"),
        (0, [FORGED, OKAY], FINGERPRINT, SignatureMismatch, "signed by the key AAAA"),
        (2, [STRANGER, OKAY], FINGERPRINT, SignatureMismatch, "not in the keyring"),
        (0, [("REVKEYSIG", "FD9DF1B3EA30AE07"), VALID, OKAY], FINGERPRINT, SignatureMismatch, "revoked"),
    ],
)
def test_bad_outcomes_are_refused(code: int, status: list[tuple[str, ...]], signer: str | None, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        judge(Outcome(code, tuple(status), ()), "vol1", frozenset([signer] if signer else []))


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (("FAILURE", "sign", "67108875"), (), "the passphrase is wrong"),
        (("ERROR", "symkey_decrypt.maybe_error", "11_BAD_PASSPHRASE"), ("decryption failed: Bad session key",), "the passphrase is wrong"),
        (("MISSING_PASSPHRASE",), (), "there is no passphrase"),
        (("FAILURE", "sign", "67108949"), ("signing failed: No pinentry",), "no passphrase for the key, and nobody who could be asked"),
        (("FAILURE", "sign", "83918950"), ("signing failed: Inappropriate ioctl for device",), "nobody who could be asked"),
        (("NO_SECKEY", "DF6A5D402CCC4F63"), (), "the secret key DF6A5D402CCC4F63 is not in the keyring"),
        (("BADMDC",), (), "damaged"),
        (("OTHER",), ("first", "last"), "work: last$"),
        (("ERROR",), (), "it ended with code 2"),
        (("FAILURE", "x", "what"), ("x" * 1000,), "x{200}$"),
    ],
)
def test_the_cause_is_told_in_one_line(status: tuple[str, ...], said: tuple[str, ...], words: str) -> None:
    with pytest.raises(CodecError, match=words):
        raise failure(Outcome(2, (status,), said), "work")


# A gpg that is not one: it records how it is called, or hangs.


def stand_in(tmp_path: Path, script: str) -> str:
    path = tmp_path / "stand-in"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o700)
    return str(path)


async def test_no_secret_is_in_an_argument_or_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15, P16."""
    monkeypatch.setenv("PASSPHRASE", "canary")
    monkeypatch.setenv("FTP_PASSWORD", "canary")
    record = tmp_path / "record"
    binary = stand_in(tmp_path, f'(printf "%s\\n" "$@"; env) > {record}; cat > /dev/null\n')
    encryption = Encryption(passphrase="canary", sign_passphrase="canary", gpg_binary=binary, gpg_options=("--extra", "two words"))

    await codec(encryption, tmp_path).pack(b"data")

    recorded = record.read_text().split("\n")
    assert "canary" not in record.read_text()
    assert "two words" in recorded
    assert "LC_ALL=C" in recorded
    assert recorded.index("--extra") > recorded.index("--passphrase-fd")
    assert "canary" not in repr(encryption)


@pytest.mark.realtime
@pytest.mark.parametrize("step", ["feed", "finish", "open"])
async def test_a_hanging_gpg_is_ended_when_its_user_is_cancelled(step: str, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hanging = Encryption(passphrase="x", gpg_binary=stand_in(tmp_path, f"echo $$ > {pid}\nexec sleep 100\n"))
    ours = codec(hanging, tmp_path)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    (tmp_path / "stored").write_bytes(b"x")

    async def use() -> None:
        if step == "open":
            await opened(ours, tmp_path / "stored")
        else:
            pieces = [random.Random(3).randbytes(1 << 20)] * 6 if step == "feed" else [b"data"]
            await sealed(ours, tmp_path / "vol1.gpg", pieces)
        pytest.fail("it did not hang")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use)
        while not (pid.exists() and pid.read_text()):
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)  # the pipe is full, or its end is told
        tasks.cancel_scope.cancel()

    assert not (tmp_path / "vol1.gpg").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert (set(os.listdir("/proc/self/fd")) if before else set()) <= before


async def test_leaving_a_file_early_ends_gpg_without_a_verdict(tmp_path: Path) -> None:
    path = tmp_path / "vol1.gpg"
    ours = codec(SYMMETRIC, tmp_path)
    await sealed(ours, path, [random.Random(4).randbytes(3 << 20)])

    async with ours.open(path, chunk=1000) as chunks:
        async for data in chunks:
            assert len(data) == 1000
            break


# Settings.


@pytest.mark.parametrize("secret", ["two\nlines", "line\r", "nul\0", "x" * 5000])
def test_a_passphrase_that_gpg_cannot_take_is_a_usage_error(secret: str) -> None:
    for field in ("passphrase", "sign_passphrase"):
        with pytest.raises(UsageError) as caught:
            Encryption(**{field: secret})  # type: ignore[arg-type]
        assert secret not in str(caught.value)


@pytest.mark.parametrize("key", ["", "--output", "a\nb"])
def test_a_key_that_could_be_an_option_is_a_usage_error(key: str) -> None:
    """P16."""
    for settings in ({"recipients": (key,)}, {"hidden_recipients": (key,)}, {"sign_key": key}):
        with pytest.raises(UsageError):
            Encryption(**settings)  # type: ignore[arg-type]
