"""What is read of servers, users and this machine: URLs, profiles, listings, locks, journals. As in ``archives``: False: refused; True: right."""

from __future__ import annotations

import json
import os
import shlex
import socket
import struct
import tempfile
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import escape

from fuzz.archives import NOW, in_pieces

from asyncdup.archive import checkpoint, lock
from asyncdup.archive.produce import Bound, Cut
from asyncdup.backends.s3 import xml as s3
from asyncdup.backends.sftp import packets
from asyncdup.backends.urls import parse_url, redact
from asyncdup.backends.webdav.xml import MultiStatus
from asyncdup.cli.options import MAKING
from asyncdup.cli.profiles import parse_profile
from asyncdup.errors import FormatError, UsageError
from asyncdup.formats.names import SetId
from asyncdup.transfer import intervention

# --- URLs and profiles -------------------------------------------------------------------------------------------------------------

CANARY = "s3cr3t-canary"


def read_url(data: bytes) -> bool:
    """Written in full and read again it says the same; no form for people shows the password (P15)."""
    url = data.decode("utf-8", "replace")
    secret = CANARY if url.count(CANARY) == 1 else None
    try:
        place = parse_url(url)
    except UsageError as error:
        login = url.partition("://")[2].partition("/")[0].rpartition("@")[0].partition(":")[2]
        is_path = url.lower().startswith(("file://", "rclone://"))
        assert secret is None or is_path or secret not in login or secret not in f"{error}{error.hint}", url
        return False
    if secret is not None and secret in (place.password or ""):
        assert secret not in repr(place) + place.description + redact(url), url
    if place.scheme.startswith("duplicity+"):
        return True  # somebody else's syntax
    user = "" if place.user is None else quote(place.user, safe="")
    login = f"{user}:{quote(place.password, safe='')}@" if place.password is not None else f"{user}@"
    server = (f"[{place.host}]" if ":" in place.host else place.host) + (f":{place.port}" if place.port is not None else "")
    path = quote(os.fsencode(place.path))
    query = "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in place.query.items())
    alone = place.scheme in ("file", "rclone")
    whole = f"{place.scheme}://{path}" if alone else f"{place.scheme}://{login}{server}/{path}{query if place.query else ''}"
    assert parse_url(whole) == place, whole
    return True


def read_profile(data: bytes) -> bool:
    """Every word of it is what the TOML says, and makes a command line."""
    try:
        found = parse_profile(data, name="fuzz", where="fuzz.toml")
    except UsageError:
        return False
    said = tomllib.loads(data.decode())
    assert found.target == said["target"] and found.source == os.path.expanduser(said["source"])
    assert found.environment == said.get("environment", {})
    assert {name: list(words) for name, words in found.hooks.items()} == {k: v for k, v in said.get("hooks", {}).items() if k != "timeout"}
    words = found.words(MAKING[0], ())
    assert words[:3] == [MAKING[0], found.source, found.target] and not any("\0" in word for word in words)
    assert shlex.split(shlex.join(words)) == words
    return True


# --- listings ----------------------------------------------------------------------------------------------------------------------


def read_s3(data: bytes) -> bool:
    """Each kind of answer: written again from what was read, it reads the same. A document type is refused in any encoding."""
    accepted = False
    for read, write in ((s3.read_objects, _objects), (s3.read_uploads, _uploads), (s3.read_parts, _parts)):
        try:
            page = read(data)  # type: ignore[operator]
        except s3.BadAnswer:
            continue
        accepted = True
        again = read(write(page).encode("utf-8"))  # type: ignore[operator]
        assert again == page
    fault = s3.read_fault(data)
    assert s3.is_fault(data) or not any(fault)
    accepted |= s3.is_fault(data)
    assert not (accepted and has_doctype(data)), "a document type was taken"
    return accepted


def _objects(page: s3.Page) -> str:
    items = "".join(
        f"<Contents><Key>{quote(os.fsencode(info.name))}</Key><Size>{info.size}</Size>{_time('LastModified', info.mtime)}</Contents>"
        for info in page.objects
    )
    return _page("ListBucketResult", items, NextContinuationToken=page.next)


def _uploads(page: s3.UploadsPage) -> str:
    items = "".join(
        f"<Upload><Key>{quote(os.fsencode(each.name))}</Key>{_word('UploadId', each.id)}{_time('Initiated', each.started)}</Upload>"
        for each in page.uploads
    )
    key, upload = page.next or (None, None)
    return _page(
        "ListMultipartUploadsResult", items, NextKeyMarker=key if key is None else quote(os.fsencode(key)), NextUploadIdMarker=upload
    )


def _parts(page: s3.PartsPage) -> str:
    items = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><Size>{part.size}</Size>{_word('ETag', part.etag)}"
        f"{_word('ChecksumCRC32', page.checksums.get(part.number, ''))}</Part>"
        for part in page.parts
    )
    return _page("ListPartsResult", items, NextPartNumberMarker=page.next)


def _page(kind: str, items: str, **markers: str | None) -> str:
    more = "".join(_word(name, value) for name, value in markers.items() if value is not None)
    return f"<{kind}><EncodingType>url</EncodingType><IsTruncated>{'true' if more else 'false'}</IsTruncated>{items}{more}</{kind}>"


def _word(tag: str, text: str) -> str:
    return f"<{tag}>{escape(text, {chr(13): '&#13;'})}</{tag}>"


def _time(tag: str, seconds: float | None) -> str:
    return "" if seconds is None else _word(tag, datetime.fromtimestamp(seconds, UTC).isoformat())


def has_doctype(data: bytes) -> bool:
    """Whether an XML parser meets a document type."""
    met: list[str] = []
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = lambda name, *_: met.append(name)
    with suppress(expat.ExpatError, LookupError, ValueError):
        parser.Parse(data.strip(), True)
    return bool(met)


def read_webdav(data: bytes) -> bool:
    """The same resources as a parser finds that holds the whole tree, however the answer is cut."""
    try:
        found = webdav_entries([data])
    except FormatError:
        found = None
    try:
        assert found == webdav_entries(in_pieces(data)), "cut in pieces it is another answer"
    except FormatError:
        assert found is None, "cut in pieces it is refused"
    if found is None:
        return False
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        assert b"}" in data  # it writes names as {space}name, and takes no space with a brace in it
        return True
    said = [(response.findtext("{DAV:}href") or "").strip() for response in root.iter("{DAV:}response")]
    assert {href for href, *_ in found} <= set(said) | {""} and len(found) <= len(said)
    assert all(size is None or 0 <= size < 10**19 for _, size, _, _ in found)
    assert not has_doctype(data)
    return True


def webdav_entries(pieces: Any) -> list[tuple[Any, ...]]:
    """Href, size, time, whether a folder."""
    reader = MultiStatus()
    found = [entry for given in [*map(reader.feed, pieces), reader.finish()] for entry in given]
    return [(entry.href, entry.size, entry.mtime, entry.is_folder) for entry in found]


def read_sftp(data: bytes) -> bool:
    """The packets that their lengths say, however they are cut; and of each, the fields that the draft says."""
    found, whole = sftp_packets([data])
    assert (found, whole) == sftp_packets(in_pieces(data))
    reference, at = [], 0
    while at + 4 <= len(data) and at + 4 + (size := int.from_bytes(data[at : at + 4], "big")) <= len(data) and size >= 1:
        reference.append((data[at + 4], data[at + 5 : at + 4 + size]))
        at += 4 + size
    assert found == reference
    right = [sftp_fields(kind, body) for kind, body in found]  # every one is read
    return whole and all(right)


def sftp_packets(pieces: Any) -> tuple[list[tuple[int, bytes]], bool]:
    """The packets, and whether no bytes after them were refused."""
    splitter, found = packets.Splitter(), []
    try:
        for piece in pieces:
            for packet in splitter.feed(piece):
                found.append(packet)
    except packets.Malformed:
        return found, False
    return found, True


def sftp_fields(kind: int, body: bytes) -> bool:
    """Read the fields of an answer; the names of a folder are compared with another reading."""
    fields = packets.Fields(body)
    try:
        fields.number()
        if kind == packets.NAME:
            names = list(fields.names())
            assert names == list(names_of(body[4:]))
        elif kind == packets.ATTRS:
            about = fields.attributes()
            assert about.size is None or 0 <= about.size < 1 << 64
            assert not (about.is_folder and about.may_be_file)
        elif kind in (packets.HANDLE, packets.DATA):
            assert body[8:].startswith(fields.text())
        elif kind == packets.EXTENDED_REPLY:
            packets.Fields(body).has_room(1), packets.Fields(body).limits()
        elif kind == packets.VERSION:
            while fields.more:
                fields.text()
    except packets.Malformed:
        return False
    return True


def names_of(data: bytes) -> Iterator[tuple[bytes, packets.Attributes]]:
    """NAME as in the draft, section 7, with attributes as in section 5."""
    at = 4
    for _ in range(*struct.unpack_from(">I", data)):
        texts = []
        for _ in range(2):
            (size,) = struct.unpack_from(">I", data, at)
            texts.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        (flags,) = struct.unpack_from(">I", data, at)
        at += 4
        values: dict[int, int | None] = {}
        for flag, form in ((1, ">Q"), (2, ">Q"), (4, ">I"), (8, ">Q")):
            if flags & flag:
                (values[flag],) = struct.unpack_from(form, data, at)
                at += struct.calcsize(form)
        if flags & 0x80000000:
            (count,) = struct.unpack_from(">I", data, at)
            at += 4
            for _ in range(2 * count):
                at += 4 + struct.unpack_from(">I", data, at)[0]
        time = values.get(8)
        yield texts[0], packets.Attributes(values.get(1), values.get(4), None if time is None else time & 0xFFFFFFFF)


# --- what an earlier run or another machine has left ---------------------------------------------------------------------------------

_HERE = lock.this_process("backup", NOW)


def read_lock(data: bytes) -> bool:
    """Whatever it says, it can be told to a person and judged; nobody is taken for dead who has just given a sign of life."""
    holder = lock.decode(data, "id")
    json.loads(holder.encode())
    assert holder.describe(NOW).isprintable()
    for said in (holder, replace(holder, host=_HERE.host, machine=_HERE.machine, boot=_HERE.boot, space=_HERE.space)):
        reason = lock.why_dead(said, _HERE, age=0.0)
        assert "no sign of life" not in reason
    return holder != lock.Holder(id="id")


def read_flag(data: bytes) -> bool:
    """A flag of ours is one object with a process and a host; whether that process lives can be asked, and what it waited for be told."""
    record = intervention._record(data)
    if record is None:
        return False
    assert type(record["pid"]) is int and type(record["host"]) is str
    assert intervention._is_alive(record) in (True, False)
    assert intervention._is_alive({**record, "host": socket.gethostname()}) in (True, False)
    assert intervention.earlier_cause(record)
    return True


_home = tempfile.TemporaryDirectory(prefix="asyncdup-fuzz-")
_journal = Path(_home.name) / f"{checkpoint.PREFIX}20231114T221320Z"


def read_journal(data: bytes) -> bool:
    """What it says is of the right types and within bounds; written anew it says the same."""
    if not _journal.exists():
        for side in checkpoint._side_files(_journal):
            side.touch()
            os.truncate(side, 1 << 20)
    _journal.write_bytes(b"".join(b"%b %08x\n" % (line, zlib.crc32(line)) for line in data.split(b"\n")[:-1]))  # behind the sum
    found = checkpoint.find(_journal.parent)
    for state in found:
        _check_head(state.head)
        for number, note in state.volumes.items():
            assert number == note.number and _check_note(note)
        assert all(type(number) is int for number in state.stored) and all(type(each) is str for each in state.writers)
        for begun in state.uploads.values():
            assert type(begun.id) is str and type(begun.part_size) is int
            assert all((type(p.number), type(p.size), type(p.etag)) == (int, int, str) for p in begun.parts)
    return bool(found)


def _check_head(head: checkpoint.RunHead) -> None:
    assert isinstance(head.set_id, SetId) and str(head.set_id)
    texts = (head.source, head.form, head.rules, head.hostname, head.prefixes)
    assert all(type(text) is str for text in texts)


def _check_note(note: checkpoint.VolumeNote) -> bool:
    counts = (note.number, note.size, note.sigtar, note.files, note.lines)
    assert all(type(count) is int and 0 <= count < 1 << 63 for count in counts) and note.number >= 1, counts
    assert all(type(text) is str for text in (note.name, note.sha1, note.spool))
    for bound in (note.first, note.last):
        assert type(bound) is Bound and type(bound.path) is bytes and (bound.block is None or type(bound.block) is int)
    if note.cut is not None:
        assert type(note.cut) is Cut and type(note.cut.path) is bytes and all(type(number) is int for number in note.cut[1:])
    return True
