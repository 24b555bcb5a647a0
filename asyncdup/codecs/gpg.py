"""Encryption by gpg, which never compresses: it gets OpenPGP packets ready made by our own fast deflate (dependencies, decision 7).

A signed file is a one-pass packet, our literal packet and the signature, compressed and then encrypted. The signature is made by a second
gpg that reads along; what its one-pass packet says is learnt once, by signing nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from io import FileIO
from pathlib import Path

from asyncdup.codecs.base import PIECE, Chunks, Encryption, Refused, Sealed, Sealer, StoredFile, new_file, write_all
from asyncdup.codecs.deflate import END, deflate
from asyncdup.codecs.gpg_process import Call, GpgEnded, Outcome, Process, failure, run_short, running, unnamed_file
from asyncdup.codecs.openpgp import COMPRESSED, DEFLATE_HEAD, LITERAL, LITERAL_HEAD, Packet, Parts, one_pass_head
from asyncdup.codecs.pipeline import Pipeline, read_chunks
from asyncdup.errors import CodecError, FormatError, SignatureMismatch
from asyncdup.threads import in_thread

MAX_SMALL = 64 << 20  # bytes of an unpacked object: a manifest of more is none (P9)
_FINGERPRINTS = (40, 64)  # hex digits of a full one, of version 4 and 5 keys


class GpgCodec:
    """``.gpg`` volumes, signature archives and manifests."""

    suffix = ".gpg"
    manifest_suffix = ".gpg"
    encrypted = True

    def __init__(self, encryption: Encryption, *, tempdir: Path, compression: bool = True, level: int | None = None) -> None:
        self._encryption = encryption
        self._tempdir = tempdir
        self._compression = compression
        self._level = level
        self._one_pass: bytes | None = None if encryption.sign_key is not None else b""
        self._signers: frozenset[str] | None = None  # fingerprints that may have signed; None: not looked up yet

    @asynccontextmanager
    async def seal(self, path: Path, *, compress: bool = True, refused: Refused | None = None) -> AsyncGenerator[Sealer, None]:
        """As the protocol says. gpg runs from the beginning, so entering early hides its start."""
        async with new_file(path, refused) as stored, self._seal(stored, compress) as sealer:
            yield sealer

    @asynccontextmanager
    async def _seal(self, stored: StoredFile, compress: bool) -> AsyncGenerator[_GpgSealer, None]:
        async with AsyncExitStack() as stack:
            encrypting = Call(_encrypt_command(self._encryption), self._encrypt_passphrase())
            process = await stack.enter_async_context(running(self._encryption, encrypting, self._tempdir))
            signer = await self._start_signer(stack)
            sealer = _GpgSealer(stored, process, signer, deflate=compress and self._compression, level=self._level)
            try:
                yield sealer
            finally:
                sealer.kill()  # a thread may be blocked in a write to it
                await sealer.pipeline.settle()

    @asynccontextmanager
    async def open(self, path: Path, *, chunk: int = PIECE, name: str | None = None) -> AsyncGenerator[Chunks, None]:
        """As the protocol says."""
        with await in_thread(FileIO, path) as file:
            async with self._plain(file, chunk, path.name if name is None else name) as chunks:
                yield chunks

    async def pack(self, data: bytes) -> bytes:
        """As the protocol says."""
        with await in_thread(unnamed_file, self._tempdir, True) as kept:
            stored = StoredFile(self._tempdir, FileIO(os.dup(kept.fileno()), "wb"))
            with stored.file:
                async with self._seal(stored, True) as sealer:
                    await sealer.feed(data)
                    await sealer.finish()
            kept.seek(0)
            return kept.read()

    async def unpack(self, data: bytes, *, name: str = "an encrypted object") -> bytes:
        """As the protocol says; also a FormatError if it is larger than 64 MiB."""
        parts: list[bytes] = []
        size = 0
        with await in_thread(_temporary, data, self._tempdir) as file:
            async with self._plain(file, PIECE, name) as chunks:
                async for part in chunks:
                    parts.append(part)
                    size += len(part)
                    if size > MAX_SMALL:
                        raise FormatError(f"larger than {MAX_SMALL >> 20} MiB when decrypted", where=name)
        return b"".join(parts)

    @asynccontextmanager
    async def _plain(self, file: FileIO, chunk: int, name: str) -> AsyncGenerator[Chunks, None]:
        signers = await self._known_signers()
        call = Call(("--decrypt",), self._encryption.passphrase, stdin=file.fileno())
        async with (
            running(self._encryption, call, self._tempdir) as process,
            read_chunks(_decrypted(process, chunk, name, signers), stop=process.kill) as chunks,
        ):
            yield chunks

    def _encrypt_passphrase(self) -> str | None:
        return self._encryption.passphrase if self._encryption.symmetric else None

    def _sign_call(self, command: str, *, stdin: int | None, stdout: int | None) -> Call:
        encryption = self._encryption
        passphrase = encryption.passphrase if encryption.sign_passphrase is None else encryption.sign_passphrase
        return Call(("-z0", "--local-user", str(encryption.sign_key), command), passphrase, stdin=stdin, stdout=stdout)

    async def _start_signer(self, stack: AsyncExitStack) -> _Signer | None:
        if self._encryption.sign_key is None:
            return None
        if self._one_pass is None:
            self._one_pass = await in_thread(self._learn_one_pass)
        output = stack.enter_context(await in_thread(unnamed_file, self._tempdir, True))
        call = self._sign_call("--detach-sign", stdin=None, stdout=output.fileno())
        process = await stack.enter_async_context(running(self._encryption, call, self._tempdir))
        return _Signer(process, output, self._one_pass)

    def _learn_one_pass(self) -> bytes:
        with open(os.devnull, "rb") as nothing:
            outcome, signed = run_short(self._encryption, self._sign_call("--sign", stdin=nothing.fileno(), stdout=None), self._tempdir)
        if outcome.code:
            raise failure(outcome, "sign")
        try:
            return one_pass_head(signed)
        except FormatError as error:
            raise CodecError(f"cannot sign with {self._encryption.sign_key}: {error}", hint="use an RSA or Curve25519 key") from error

    async def _known_signers(self) -> frozenset[str]:
        """Fingerprints of which one must have signed what is read; none: signatures are not looked at."""
        if self._signers is None:
            key = self._encryption.sign_key
            self._signers = frozenset() if key is None else await in_thread(self._fingerprints, key)
        return self._signers

    def _fingerprints(self, key: str) -> frozenset[str]:
        """The full fingerprints that ``key`` stands for: a short key id can be forged, so it is only used to look in the user's keyring (P17)."""
        plain = key.removesuffix("!").removeprefix("0x").replace(" ", "").upper()
        if len(plain) in _FINGERPRINTS and all(digit in "0123456789ABCDEF" for digit in plain):
            return frozenset((plain,))
        with open(os.devnull, "rb") as nothing:
            call = Call(("--with-colons", "--list-keys", key), stdin=nothing.fileno())
            outcome, listing = run_short(self._encryption, call, self._tempdir)
        fields = [line.split(":") for line in listing.decode("utf-8", "replace").split("\n")]
        keys = sum(field[0] == "pub" for field in fields)
        if outcome.code or keys != 1:
            found = f"{keys} keys are" if keys else "no key is"
            raise CodecError(f"{found} in the keyring as {key}, so its signatures cannot be checked", hint="give the full fingerprint")
        return frozenset(field[9] for field in fields if field[0] == "fpr")


class _Signer:
    """The gpg that signs along. ``output``: where the signature packet goes; ``one_pass``: what announces it."""

    def __init__(self, process: Process, output: FileIO, one_pass: bytes) -> None:
        self.process = process
        self.one_pass = one_pass
        self._output = output

    def signature(self) -> bytes:
        """Ends the data."""
        self.process.end_input()
        outcome = self.process.outcome()
        if outcome.code:
            raise failure(outcome, "sign")
        self._output.seek(0)
        return self._output.read()


class _GpgSealer:
    """Pieces -> literal packet -> deflate (in parallel) -> compressed packet -> gpg -> file. Everything after the deflate is done in order.

    What gpg puts out goes through us: a write that the disk refuses is then ours to make again (S11), and the digest needs no second reading.
    """

    def __init__(self, stored: StoredFile, process: Process, signer: _Signer | None, *, deflate: bool, level: int | None) -> None:
        self._stored = stored
        self._process = process
        self._signer = signer
        self._level = level
        self._literal = Packet(LITERAL, LITERAL_HEAD)
        self._compressed = Packet(COMPRESSED, DEFLATE_HEAD) if deflate else None
        self._begin: Parts = [signer.one_pass] if signer is not None else []
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._ended = False
        self.pipeline: Pipeline[tuple[bytes, Parts]] = Pipeline(self._packed, self._write, stored)

    @property
    def written(self) -> int:
        return self.pipeline.written

    @property
    def pending(self) -> int:
        return self.pipeline.pending

    async def feed(self, piece: bytes) -> None:
        parts, self._begin = self._begin + self._literal.feed(piece), []
        try:
            await self.pipeline.feed((piece, parts), len(piece))
        except GpgEnded as ended:
            raise await self._failure(ended) from None

    async def drain(self) -> None:
        try:
            await self.pipeline.drain()
        except GpgEnded as ended:
            raise await self._failure(ended) from None

    async def finish(self) -> Sealed:
        try:
            sealed = await self.pipeline.end(self._end)
        except GpgEnded as ended:
            raise await self._failure(ended) from None
        self._stored.complete = True
        return sealed

    def kill(self) -> None:
        """Make every blocked thread go on."""
        self._process.kill()
        if self._signer is not None:
            self._signer.process.kill()

    def _packed(self, item: tuple[bytes, Parts]) -> bytes:
        data = b"".join(item[1])
        return deflate(data, self._level) if self._compressed is not None and data else data

    def _write(self, item: tuple[bytes, Parts], packed: bytes) -> None:
        if self._signer is not None:
            self._signer.process.write(item[0])
        self._keep(self._process.exchange(packed if self._compressed is None else b"".join(self._compressed.feed(packed))))

    def _keep(self, output: bytes) -> None:
        self._sha1.update(output)
        self._stored.write(output)

    def _end(self) -> Sealed:
        """May be called again after an OSError."""
        if not self._ended:
            output = self._end_gpg()
            self._ended = True
            self._keep(output)
        self._stored.flush()
        size = self._stored.file.tell()
        self._stored.file.close()  # here, since a network disk may report a full one only now
        return Sealed(size, self._sha1.hexdigest())

    def _end_gpg(self) -> bytes:
        """The last of its output. Raises CodecError, GpgEnded."""
        tail = b"".join((*self._begin, self._literal.finish(), self._signer.signature() if self._signer is not None else b""))
        if self._compressed is not None:
            tail = b"".join(self._compressed.feed(deflate(tail, self._level) + END)) + self._compressed.finish()
        output = self._process.exchange(tail)
        self._process.end_input()
        output += self._process.rest()
        outcome = self._process.outcome()
        if outcome.code:
            raise failure(outcome, "encrypt")
        return output

    async def _failure(self, ended: GpgEnded) -> CodecError:
        signing = self._signer is not None and ended.process is self._signer.process
        return failure(await in_thread(ended.process.outcome), "sign" if signing else "encrypt")


def _encrypt_command(encryption: Encryption) -> tuple[str, ...]:
    packets = ("--no-literal", "-z0")  # take our packets as they are, and do not compress them again
    if encryption.symmetric:
        return (*packets, "--symmetric")
    keys = [word for key in encryption.recipients for word in ("--recipient", key)]
    keys += [word for key in encryption.hidden_recipients for word in ("--hidden-recipient", key)]
    return (*packets, "--trust-model", "always", *keys, "--encrypt")


def _decrypted(process: Process, chunk: int, name: str, signers: frozenset[str]) -> Generator[bytes, None, None]:
    while data := process.read(chunk):
        yield data
    judge(process.outcome(), name, signers)


def judge(outcome: Outcome, name: str, signers: frozenset[str]) -> None:
    """Whether a decryption is to be trusted.

    That gpg cannot check a signature for want of the key is no failure unless ``signers`` asks for one: gpg's exit code is 2 then, too.

    Raises:
        CodecError: it failed, or there was nothing encrypted.
        SignatureMismatch: ``signers`` is not empty, and none of them has signed (P17).
    """
    if not outcome.has("DECRYPTION_OKAY") or outcome.has("DECRYPTION_FAILED"):
        if outcome.code == 0:
            raise CodecError(f"{name} is not encrypted", hint="somebody may have put it there in place of the real one")
        raise failure(outcome, f"decrypt {name}")
    if outcome.has("BADSIG"):
        raise SignatureMismatch(f"the signature of {name} is wrong: its data were changed after it was signed")
    if signers:
        _check_signer(outcome, name, signers)
    if outcome.code and not outcome.has("ERRSIG"):
        raise failure(outcome, f"decrypt {name}")


def _check_signer(outcome: Outcome, name: str, signers: frozenset[str]) -> None:
    valid = [line[1:] for line in outcome.status if line[0] == "VALIDSIG"]
    # The first argument is the fingerprint of the key that signed, the last that of the primary key it belongs to.
    if any(line[0] in signers or line[-1] in signers for line in valid):
        if outcome.has("REVKEYSIG"):
            raise SignatureMismatch(f"{name} is signed by a key that was revoked")
        return
    wanted = " or ".join(sorted(signers))
    if valid:
        raise SignatureMismatch(f"{name} is signed by the key {valid[0][0]}, not by {wanted}")
    stranger = outcome.first("ERRSIG")
    if stranger is not None:
        raise SignatureMismatch(f"{name} is signed by the key {stranger[0]}, which is not in the keyring; wanted is {wanted}")
    raise SignatureMismatch(f"{name} is not signed, but must be, by {wanted}")


def _temporary(data: bytes, tempdir: Path) -> FileIO:
    file = unnamed_file(tempdir)
    write_all(file, data)
    file.seek(0)
    return file
