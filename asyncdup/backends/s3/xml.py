"""The XML of S3: four answers read, one request written. Pure; what comes in is hostile.

Source: Amazon S3's API reference (ListObjectsV2, ListMultipartUploads, ListParts, CompleteMultipartUpload, "Error responses").
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from asyncdup.backends.base import ObjectInfo, Part, Upload


class BadAnswer(ValueError):
    """The server's XML is none, or not of the expected kind."""


class Fault(NamedTuple):
    """What an error answer says; ``""`` where it says nothing. ``region``: where the bucket is."""

    code: str = ""
    message: str = ""
    region: str = ""


class Page(NamedTuple):
    """One page of a listing: objects by their whole key, and what to ask for the next page with; None: this is the last."""

    objects: list[ObjectInfo]
    next: str | None


class UploadsPage(NamedTuple):
    """One page of unfinished uploads by their whole key, and the two markers of the next page."""

    uploads: list[Upload]
    next: tuple[str, str] | None


class PartsPage(NamedTuple):
    """One page of the parts of an upload, their CRC-32s (base64) by number if the server tells, and the marker of the next page."""

    parts: list[Part]
    checksums: dict[int, str]
    next: str | None


def read_objects(data: bytes) -> Page:
    """ListBucketResult. Raises BadAnswer."""
    root = _parse(data, "ListBucketResult")
    encoded = _text(root, "EncodingType") == "url"
    objects = [
        ObjectInfo(_name(_text(item, "Key"), encoded), _number(item, "Size"), _instant(_text(item, "LastModified")))
        for item in _children(root, "Contents")
    ]
    return Page(objects, _next(root, "NextContinuationToken"))


def read_uploads(data: bytes) -> UploadsPage:
    """ListMultipartUploadsResult. Raises BadAnswer."""
    root = _parse(data, "ListMultipartUploadsResult")
    encoded = _text(root, "EncodingType") == "url"
    uploads = [
        Upload(_name(_text(item, "Key"), encoded), _text(item, "UploadId"), _instant(_text(item, "Initiated")))
        for item in _children(root, "Upload")
    ]
    marker = _next(root, "NextKeyMarker")
    return UploadsPage(uploads, None if marker is None else (_name(marker, encoded), _text(root, "NextUploadIdMarker")))


def read_parts(data: bytes) -> PartsPage:
    """ListPartsResult. Raises BadAnswer."""
    root = _parse(data, "ListPartsResult")
    # SeaweedFS lists a part that was sent again twice: the later one counts.
    dated = sorted(_children(root, "Part"), key=lambda item: _instant(_text(item, "LastModified")) or 0.0)
    items = list({_number(item, "PartNumber"): item for item in dated}.values())
    parts = [Part(_number(item, "PartNumber"), _number(item, "Size"), _text(item, "ETag")) for item in items]
    checksums = {part.number: told for part, item in zip(parts, items, strict=True) if (told := _text(item, "ChecksumCRC32"))}
    return PartsPage(parts, checksums, _next(root, "NextPartNumberMarker"))


def read_upload_id(data: bytes) -> str:
    """InitiateMultipartUploadResult. Raises BadAnswer."""
    upload = _text(_parse(data, "InitiateMultipartUploadResult"), "UploadId")
    if not upload:
        raise BadAnswer("an upload without an id")
    return upload


def read_fault(data: bytes) -> Fault:
    """What an error answer says, whatever it is."""
    try:
        root = _parse(data, "Error")
    except BadAnswer:
        return Fault()
    return Fault(_text(root, "Code"), _text(root, "Message"), _text(root, "Region"))


def is_fault(data: bytes) -> bool:
    """Whether an answer of status 200 is an error after all."""
    try:
        _parse(data, "Error")
    except BadAnswer:
        return False
    return True


def write_complete(parts: Sequence[Part], checksums: Mapping[int, str]) -> bytes:
    """CompleteMultipartUpload. ``checksums``: CRC-32s (base64) by number; an upload begun with checksums is completed with them."""
    items = "".join(_part(part, checksums.get(part.number)) for part in parts)
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{items}</CompleteMultipartUpload>'.encode()


def _part(part: Part, crc32: str | None) -> str:
    checksum = f"<ChecksumCRC32>{escape(crc32)}</ChecksumCRC32>" if crc32 else ""
    return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag>{checksum}</Part>"


def _parse(data: bytes, kind: str) -> ElementTree.Element:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:  # a NUL: UTF-16, which hides the words
        raise BadAnswer("XML with a document type, or not in UTF-8")
    try:
        parser = ElementTree.XMLParser(encoding="utf-8")  # whatever it says: in another one a document type would not have been seen above
        root = ElementTree.fromstring(data.strip(), parser)  # blanks keep a connection alive while an upload is completed
    except (ElementTree.ParseError, ValueError, LookupError) as exc:
        raise BadAnswer(f"no XML: {exc}") from exc
    if _tag(root) != kind and _tag(root) != kind.replace("Result", "Response"):  # moto says Response
        raise BadAnswer(f"{_tag(root)} instead of {kind}")
    return root


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(parent: Iterable[ElementTree.Element], tag: str) -> Iterator[ElementTree.Element]:
    return (child for child in parent if _tag(child) == tag)


def _text(parent: ElementTree.Element, tag: str) -> str:
    return next((child.text or "" for child in _children(parent, tag)), "")


def _number(parent: ElementTree.Element, tag: str) -> int:
    text = _text(parent, tag)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadAnswer(f"{tag} is {text[:40]!r}")
    return int(text)


def _next(root: ElementTree.Element, tag: str) -> str | None:
    if _text(root, "IsTruncated") != "true":
        return None
    marker = _text(root, tag)
    if not marker:
        raise BadAnswer(f"a page that is not the last, without {tag}")
    return marker


def _name(text: str, encoded: bool) -> str:
    """Encoded, a blank is ``+``."""
    return os.fsdecode(unquote_plus(text, errors="surrogateescape").encode("utf-8", "surrogateescape")) if encoded else text


def _instant(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
