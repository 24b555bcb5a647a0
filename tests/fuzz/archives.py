"""What is read of archives, each reader beside a strict reference of another make: what both must say of the same bytes.

Every function takes hostile bytes. False: they were refused, with an error of ours. True: they were accepted, and the reference agrees.
Whatever it raises is a defect.
"""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from asyncdup.archive.patch import Base, Patch
from asyncdup.backends.names import check_name
from asyncdup.codecs.deflate import isal
from asyncdup.codecs.gzip import inflate_file
from asyncdup.errors import BadRequest, FormatError
from asyncdup.formats import manifest, names, rdiff, rdiff_pure
from asyncdup.formats.difftar import DifftarReader
from asyncdup.formats.manifest import DIGEST_SIZES, Manifest
from asyncdup.formats.names import NO_PREFIXES, Prefixes
from asyncdup.formats.sigtar import SigtarReader
from asyncdup.formats.tar import BLK, CHR, REG, SYM
from asyncdup.formats.tar_reader import TarReader

NOW = 1_700_000_000


def in_pieces(data: bytes) -> Iterator[bytes]:
    """The same bytes in three, cut where they say."""
    first, second = sorted((zlib.crc32(data) % (len(data) + 1), zlib.adler32(data) % (len(data) + 1)))
    yield from (data[:first], data[first:second], data[second:])


# --- manifest ----------------------------------------------------------------------------------------------------------------------


def read_manifest(data: bytes) -> bool:
    """Written and read again it is the same, and its hashes are those that stand behind each volume's name last."""
    try:
        found = manifest.parse(data, file_list=True)
    except FormatError:
        return False
    whole = writable(found)
    assert manifest.parse(manifest.write(whole), file_list=True) == whole
    parts = re.split(rb"(?im)^Volume[ \t]+([0-9]+):", data)
    said = {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}
    assert sorted(found.volumes) == list(range(1, int(parts[-2]) + 1))
    for number, volume in found.volumes.items():
        for name, digest in volume.hashes.items():
            assert name not in DIGEST_SIZES or digest.encode() in said[number].lower()
    return True


def writable(found: Manifest) -> Manifest:
    """As we would write it: with a SHA1, without hashes that nobody knows."""
    volumes = {
        number: replace(volume, hashes={"SHA1": "0" * 40} | {name: volume.hashes[name] for name in DIGEST_SIZES if name in volume.hashes})
        for number, volume in found.volumes.items()
    }
    return replace(found, volumes=volumes, hostname=found.hostname or None, localdir=found.localdir or None)


# --- names -------------------------------------------------------------------------------------------------------------------------

_PREFIXES = (NO_PREFIXES, Prefixes(file_prefix="P-", archive="a_", manifest="m_", signature="s_", jsonstat="j_"))


def read_name(data: bytes) -> bool:
    """A name that was understood is written again as one that means the same."""
    name = os.fsdecode(data)
    try:
        check_name(name)
        assert os.path.basename(name) == name and name not in ("", ".", "..")
    except BadRequest:
        pass
    accepted = False
    for prefixes in _PREFIXES:
        found = names.parse_name(name, prefixes, NOW)
        if found is None:
            continue
        accepted = True
        written = written_name(found, prefixes)
        again = names.parse_name(written, prefixes, NOW)
        assert again is not None and (again.kind, again.set, again.number) == (found.kind, found.set, found.number), written
        if found.is_proper:
            assert (again.suffix, again.encrypted, again.compressed) == (found.suffix, found.encrypted, found.compressed)
        assert found.set.end > 0 and (found.number is None or found.number >= 1)
        assert found.set.is_full is (found.set.start is None)
    return accepted


def written_name(found: names.ParsedName, prefixes: Prefixes) -> str:
    """The long name of what a name says."""
    if found.kind == "volume":
        return names.volume_name(found.set, found.number or 0, found.suffix, prefixes)
    writers = {"manifest": names.manifest_name, "signatures": names.signatures_name, "jsonstat": names.jsonstat_name}
    return writers[found.kind](found.set, found.suffix, prefixes)


# --- tar, difftar, sigtar ----------------------------------------------------------------------------------------------------------

Member = tuple[Any, ...]


def read_tar(data: bytes) -> bool:
    """The same members as ``tarfile`` finds, however the bytes are cut."""
    try:
        members = tar_members([data])
    except FormatError:
        members = None
    try:
        assert members == tar_members(in_pieces(data)), "cut in pieces it is another archive"
    except FormatError:
        assert members is None, "cut in pieces it is refused"
    if members is not None and (reference := by_tarfile(data)) is not None:
        assert members == reference
    return members is not None


def tar_members(pieces: Any) -> list[Member]:
    """What TarReader gives: name, kind, mode, uid, gid, mtime, size, uname, gname, link, device; data."""
    reader = TarReader()
    found: list[list[Any]] = []
    for piece in pieces:
        for entry, data, begins, _, _ in reader.feed(piece):
            if begins:
                found.append([entry.path.rstrip(b"/"), *entry[1:], b""])
            found[-1][-1] += data
    reader.finish()
    return [tuple(member) for member in found]


def by_tarfile(data: bytes) -> list[Member] | None:
    """The same from the standard library; None where it does not follow the standard, so that nothing can be compared."""
    try:
        return _by_tarfile(data)
    except UnicodeDecodeError:
        return None  # the name of a character set that is no text, in a pax header: we take names as bytes, whatever it says


def _by_tarfile(data: bytes) -> list[Member] | None:
    members: list[Member] = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        for info in archive:
            block = data[info.offset_data - 512 : info.offset_data]
            if block[156:157] == b"\0" and info.isdir():
                return None  # it takes a name with a slash at its end for a folder, and then its data for a header
            if any(block[345:500]) and block[257:263] != b"ustar\0":
                return None  # GNU's old form has times there, which it takes for the beginning of the name
            if abs(info.mtime) > 1 << 53:
                return None  # it reads times as floating-point numbers
            kind = REG if info.isreg() else info.type
            device = (info.devmajor, info.devminor) if kind in (CHR, BLK) else (0, 0)
            text = [os.fsencode(each) for each in (info.name.rstrip("/"), info.uname, info.gname, info.linkname if kind == SYM else "")]
            content = data[info.offset_data : info.offset_data + info.size] if kind == REG else b""
            numbers = (info.mode & 0o7777, info.uid, info.gid, int(info.mtime), info.size)
            members.append((text[0], kind, *numbers, *text[1:], device, content))
    return members


def read_difftar(data: bytes) -> bool:
    """What the names of ``tarfile``'s members mean, with parts joined; in order, and nowhere outside."""
    try:
        found = difftar_entries([data])
    except FormatError:
        found = None
    try:
        assert found == difftar_entries(in_pieces(data)), "cut in pieces it is another volume"
    except FormatError:
        assert found is None, "cut in pieces it is refused"
    if found is None:
        return False
    check_paths([path for _, path, _ in found], twice=())
    members = by_tarfile(data)
    if members is not None:
        reference: list[Member] = []
        for name, *_, content in members:
            word, _, path = name.partition(b"/")
            if word.startswith(b"multivol_"):
                word, path, number = word.removeprefix(b"multivol_"), *path.rsplit(b"/", 1)
                if reference and int(number) > 1:
                    reference[-1] = (*reference[-1][:2], reference[-1][2] + content)
                    continue
            reference.append((word.decode(), b"" if path == b"." else path, content))
        assert found == reference
    return True


def difftar_entries(pieces: Any) -> list[Member]:
    """Verb, path, data."""
    reader = DifftarReader(where="volume")
    found: list[Member] = []
    for given in [*map(reader.feed, pieces), reader.end_volume(), reader.finish()]:
        for piece in given:
            if piece.begins:
                found.append((piece.verb, piece.entry.path, b""))
            found[-1] = (*found[-1][:2], found[-1][2] + piece.data)
    return found


def read_sigtar(data: bytes) -> bool:
    """The same for a signature archive."""
    try:
        found = sigtar_entries([data])
    except FormatError:
        found = None
    try:
        assert found == sigtar_entries(in_pieces(data)), "cut in pieces it is another sigtar"
    except FormatError:
        assert found is None, "cut in pieces it is refused"
    if found is None:
        return False
    check_paths([path for _, path, _ in found], twice=(b"",))
    members = by_tarfile(data)
    if members is not None:
        split = [(*name.partition(b"/")[::2], content) for name, *_, content in members]
        assert found == [(word.decode(), b"" if path == b"." else path, content) for word, path, content in split]
    return True


def sigtar_entries(pieces: Any) -> list[Member]:
    """Verb, path, signature."""
    reader = SigtarReader(where="sigtar")
    found = [(member.verb, member.entry.path, member.signature) for piece in pieces for member in reader.feed(piece)]
    reader.finish()
    return found


def check_paths(paths: list[bytes], twice: tuple[bytes, ...]) -> None:
    """P7: relative, without steps up; in increasing order of their components, as the merge needs it."""
    split = [tuple(path.split(b"/")) if path else () for path in paths]
    assert not any(part in (b"", b".", b"..") or b"\0" in part for parts in split for part in parts), paths
    for before, after in pairwise(split):
        assert before < after or (before == after and b"/".join(after) in twice), paths


def mended_tar(data: bytes) -> bytes:
    """With the right checksum in everything that looks like a header."""
    out = bytearray(data)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


# --- signature, delta --------------------------------------------------------------------------------------------------------------

OLD = bytes(range(256)) * 8 + b"the end"
NEW = OLD[:700] + b"something new" + OLD[900:]


def read_signature(data: bytes) -> bool:
    """What librsync and plain Python make of it are both deltas of the whole new file; against the signature of OLD, right ones."""
    try:
        rdiff.check_signature(data)
    except FormatError:
        return False
    magic, block, strong = struct.unpack_from(">3I", data)
    assert magic in rdiff_pure.STRONG_SIZE and 1 <= block <= rdiff.MAX_BLOCK and 1 <= strong <= 32 and (len(data) - 12) % (4 + strong) == 0
    writers = [rdiff.DeltaWriter(data)]
    if len(data) > 12 and block <= 4096:
        writers.append(rdiff_pure.DeltaWriter(data))  # type: ignore[arg-type]
    deltas = [writer.feed(NEW) + writer.finish() for writer in writers]
    for delta in deltas:
        assert sum(size for _, size, _ in commands(delta)) == len(NEW)
    if data == rdiff.sign(OLD, min(block, rdiff.MAX_BLOCK)):
        assert all(patched(delta) == NEW for delta in deltas)
    return True


def commands(delta: bytes) -> Iterator[tuple[int, int, bytes]]:
    """A delta as the format has it: offset in the old file (-1: a literal), length, literal. Raises ValueError, IndexError."""
    if delta[:4] != b"rs\x026":
        raise ValueError("no delta")
    at = 4
    while (code := delta[at]) != 0:
        at += 1
        if code <= 0x44:
            width = 0 if code <= 0x40 else 1 << code - 0x41
            size = int.from_bytes(delta[at : at + width], "big") if width else code
            at += width + size
            if not size or at > len(delta):
                raise ValueError("a literal")
            yield -1, size, delta[at - size : at]
        elif code <= 0x54:
            first, second = 1 << (code - 0x45 >> 2), 1 << (code - 0x45 & 3)
            offset, size = int.from_bytes(delta[at : at + first], "big"), int.from_bytes(delta[at + first : at + first + second], "big")
            at += first + second
            if not size or at > len(delta):
                raise ValueError("a copy")
            yield offset, size, b""
        else:
            raise ValueError("a command")
    if at + 1 != len(delta):
        raise ValueError("something after the end")


def patched(delta: bytes) -> bytes | None:
    """OLD with the delta applied, as the format has it; None: that cannot be."""
    out = []
    try:
        for offset, size, literal in commands(delta):
            if offset + size > len(OLD):
                return None
            out.append(literal or OLD[offset : offset + size])
    except (ValueError, IndexError):
        return None
    return b"".join(out)


def read_delta(data: bytes) -> bool:
    """Applied to OLD, whole and in pieces, it gives what the format says, or is refused, as the format does."""
    reference = patched(data)
    for pieces in ([data], in_pieces(data)):
        out: list[bytes] = []
        base = Base(Path("/nonexistent"))  # it is small: no file is made
        base.write(OLD)
        try:
            patch = Patch(base, out.append)
            for piece in pieces:
                patch.feed(piece)
            patch.finish()
        except FormatError:
            assert reference is None, "a delta was refused"
        else:
            assert b"".join(out) == reference, "another file"
    return reference is not None


# --- gzip --------------------------------------------------------------------------------------------------------------------------

_packed = tempfile.NamedTemporaryFile(prefix="asyncdup-fuzz-")  # noqa: SIM115 - until the process ends


def read_gzip(data: bytes) -> bool:
    """The bytes that zlib gives, or refused as zlib does. What isal takes beyond that (odd flags, odd codes) has the right sums."""
    _packed.seek(0)
    _packed.truncate()
    _packed.write(data)
    _packed.flush()
    try:
        found = b"".join(inflate_file(Path(_packed.name), chunk=1000))
    except FormatError:
        assert by_zlib(data) is None, "refused what zlib takes"
        return False
    reference = by_zlib(data)
    assert found == (by_sums(data) if reference is None else reference)
    return True


def by_zlib(data: bytes) -> bytes | None:
    """What a gzip file of any number of members holds; None: it is none, or damaged."""
    out = []
    while True:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            out.append(member.decompress(data))
        except zlib.error:
            return None
        if not member.eof:
            return None
        data = member.unused_data
        if not data:
            return b"".join(out)


def by_sums(data: bytes) -> bytes:
    """The same by isal's inflater, with the members taken apart and their sums checked here."""
    out = []
    while data:
        flags, at = data[3], 10
        if flags & 4:
            at += 2 + int.from_bytes(data[at : at + 2], "little")
        for flag in (8, 16):  # a name, a comment
            at = data.index(b"\0", at) + 1 if flags & flag else at
        member = isal.decompressobj(-zlib.MAX_WBITS)
        out.append(member.decompress(data[at + (flags & 2) :]))
        crc, size = struct.unpack_from("<II", member.unused_data)
        assert member.eof and (crc, size) == (zlib.crc32(out[-1]), len(out[-1]))
        data = member.unused_data[8:]
    return b"".join(out)


def mended_gzip(data: bytes) -> bytes:
    """With the right sums at its end, if it is one member with a plain header."""
    plain = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = plain.decompress(data[10:])
    except zlib.error:
        return data
    if not plain.eof:
        return data
    packed = data[: len(data) - len(plain.unused_data)]
    return packed + struct.pack("<II", zlib.crc32(content), len(content)) + plain.unused_data[8:]
