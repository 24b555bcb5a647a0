"""One class table for S3, row by row; and what the XML and the headers of an answer say."""

from __future__ import annotations

import errno
import hashlib
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from asyncdup.backends.base import ObjectInfo, Part, Upload
from asyncdup.backends.s3.errors import Refusal, read_retry_after, translate
from asyncdup.backends.s3.proof import Proof
from asyncdup.backends.s3.xml import (
    BadAnswer,
    Fault,
    is_fault,
    read_fault,
    read_objects,
    read_parts,
    read_upload_id,
    read_uploads,
    write_complete,
)
from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, Precondition, RetryableError, Unsupported

ROWS: list[tuple[int, str, type[BackendError], dict[str, Any]]] = [
    (503, "SlowDown", RetryableError, {"throttle": True, "scope": "lane"}),
    (400, "RequestLimitExceeded", RetryableError, {"throttle": True}),
    (429, "", RetryableError, {"throttle": True, "scope": "lane"}),
    (500, "InternalError", RetryableError, {"throttle": False, "scope": "op"}),
    (200, "InternalError", RetryableError, {"throttle": False}),
    (200, "SomethingNew", RetryableError, {}),
    (503, "", RetryableError, {"throttle": False}),
    (502, "", RetryableError, {}),
    (504, "", RetryableError, {}),
    (400, "RequestTimeout", RetryableError, {}),
    (400, "BadDigest", RetryableError, {}),
    (409, "OperationAborted", RetryableError, {}),
    (409, "ConditionalRequestConflict", RetryableError, {}),
    (403, "AccessDenied", OperatorError, {"space": False}),
    (403, "InvalidAccessKeyId", OperatorError, {}),
    (403, "SignatureDoesNotMatch", OperatorError, {}),
    (403, "RequestTimeTooSkewed", OperatorError, {}),
    (400, "ExpiredToken", OperatorError, {}),
    (403, "", OperatorError, {}),
    (401, "", OperatorError, {}),
    (404, "NoSuchBucket", OperatorError, {"scope": "lane"}),
    (301, "PermanentRedirect", OperatorError, {}),
    (307, "", OperatorError, {}),
    (403, "InvalidObjectState", OperatorError, {}),
    (403, "QuotaExceeded", OperatorError, {"space": True}),
    (507, "XMinioStorageFull", OperatorError, {"space": True}),
    (404, "NoSuchKey", NotFound, {}),
    (404, "NoSuchUpload", NotFound, {}),
    (404, "", NotFound, {}),
    (412, "PreconditionFailed", Precondition, {}),
    (412, "", Precondition, {}),
    (501, "NotImplemented", Unsupported, {}),
    (405, "MethodNotAllowed", Unsupported, {}),
    (400, "EntityTooLarge", BadRequest, {}),
    (400, "KeyTooLongError", BadRequest, {}),
    (416, "InvalidRange", BadRequest, {}),
]


@pytest.mark.parametrize(("status", "code", "kind", "fields"), ROWS)
def test_each_answer_has_its_class(status: int, code: str, kind: type[BackendError], fields: dict[str, Any]) -> None:
    error = Refusal("PUT a at s3://bucket", status, Fault(code, "the server's words")).error()

    assert type(error) is kind
    assert "PUT a at s3://bucket" in str(error) and (code or "words") in str(error)
    assert {name: getattr(error, name) for name in fields} == fields
    assert error.hint or not isinstance(error, OperatorError)


def test_a_404_for_a_bucket_is_for_the_operator() -> None:
    assert type(Refusal("list", 404, object_asked=False).error()) is OperatorError


def test_retry_after_is_kept_with_the_error() -> None:
    """B2."""
    error = Refusal("list", 503, Fault("SlowDown"), retry_after=7.0).error()

    assert isinstance(error, RetryableError) and error.retry_after == 7.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("-1", -1.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0), ("soon", None), ("", None), (None, None)]
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert read_retry_after(text, 10.0) == seconds


def test_what_a_server_says_cannot_break_a_line() -> None:
    assert "\n" not in str(Refusal("list", 500, Fault("X", "a\nb\x1b[31m" + "c" * 1000)).error())


KEY: Any = SimpleNamespace(host="h", port=1, ssl=True, is_ssl=True)
TRANSPORT: list[tuple[Exception, type[BackendError], dict[str, Any]]] = [
    (aiohttp.ServerDisconnectedError(), RetryableError, {"ambiguous": True, "scope": "op"}),
    (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), RetryableError, {"ambiguous": True}),
    (aiohttp.ClientOSError(errno.EPIPE, "pipe"), RetryableError, {"ambiguous": True}),
    (aiohttp.ClientPayloadError("short"), RetryableError, {"ambiguous": True}),
    (TimeoutError(), RetryableError, {"ambiguous": True}),
    (aiohttp.ConnectionTimeoutError(), RetryableError, {"ambiguous": False, "scope": "lane"}),
    (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "refused")), RetryableError, {"ambiguous": False, "scope": "lane"}),
    (aiohttp.ClientConnectorCertificateError(KEY, ValueError("bad")), OperatorError, {}),
    (aiohttp.InvalidURL("x"), OperatorError, {}),
]


@pytest.mark.parametrize(("raised", "kind", "fields"), TRANSPORT, ids=lambda value: type(value).__name__)
def test_each_failure_of_the_transport_has_its_class(raised: Exception, kind: type[BackendError], fields: dict[str, Any]) -> None:
    error = translate(raised, "PUT a", begun=True)

    assert type(error) is kind and {name: getattr(error, name) for name in fields} == fields


def test_nothing_that_was_read_is_ambiguous() -> None:
    error = translate(aiohttp.ServerDisconnectedError(), "GET a", begun=False)

    assert isinstance(error, RetryableError) and not error.ambiguous


LIST = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>
<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>
<Contents><Key>p/a%2Bb+c%20%C3%BC%FF</Key><Size>7</Size><LastModified>2023-11-14T22:13:20.000Z</LastModified></Contents>
<Contents><Key>p/</Key><Size>0</Size><LastModified>never</LastModified></Contents></ListBucketResult>"""


def test_a_page_gives_names_byte_for_byte() -> None:
    page = read_objects(LIST)

    assert page.objects == [ObjectInfo("p/a+b c ü\udcff", 7, 1700000000.0), ObjectInfo("p/", 0)]
    assert page.next == "t1"


def test_names_that_are_not_encoded_stay_as_they_are() -> None:
    data = b"<ListBucketResult><Contents><Key>a%41+</Key><Size>1</Size></Contents></ListBucketResult>"

    assert [info.name for info in read_objects(data).objects] == ["a%41+"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html/>",
        b"<ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult/>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult/>'.encode("utf-16"),
    ],
)
def test_an_answer_that_makes_no_sense_is_said_to_make_none(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_objects(data)


def test_uploads_and_parts_are_read_with_their_markers() -> None:
    uploads = read_uploads(
        b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
        b"<NextUploadIdMarker>u</NextUploadIdMarker>"
        b"<Upload><Key>a</Key><UploadId>1</UploadId><Initiated>1970-01-01T00:00:05Z</Initiated></Upload></ListMultipartUploadsResult>"
    )
    parts = read_parts(
        b"<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>2</PartNumber><Size>5</Size><ETag>&quot;e&quot;</ETag>"
        b"<ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></ListPartsResult>"
    )

    assert uploads == ([Upload("a", "1", 5.0)], ("k", "u"))
    assert parts == ([Part(2, 5, '"e"')], {2: "AAAAAA=="}, None)


def test_of_a_part_that_is_listed_twice_the_later_one_counts() -> None:
    """Observed: SeaweedFS 4.48 lists both after a part was sent again."""
    part = "<Part><PartNumber>1</PartNumber><Size>5</Size><ETag>{}</ETag><LastModified>{}</LastModified></Part>"
    listing = part.format("new", "1970-01-01T00:00:09Z") + part.format("old", "1970-01-01T00:00:05Z")

    assert read_parts(f"<ListPartsResult>{listing}</ListPartsResult>".encode()).parts == [Part(1, 5, "new")]


def test_an_upload_is_completed_with_the_checksums_of_its_parts() -> None:
    data = write_complete([Part(1, 5, '"a&b"'), Part(2, 5, '"c"')], {1: "AAAAAA=="})

    assert b'<PartNumber>1</PartNumber><ETag>"a&amp;b"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32>' in data
    assert b'<PartNumber>2</PartNumber><ETag>"c"</ETag></Part>' in data


def test_an_error_in_an_answer_of_status_200_is_seen_behind_the_blanks_that_kept_it_alive() -> None:
    data = b"   \n<Error><Code>InternalError</Code><Message>m</Message></Error>"

    assert is_fault(data) and read_fault(data) == Fault("InternalError", "m")
    assert not is_fault(b"<CompleteMultipartUploadResult/>") and read_fault(b"garbage") == Fault()


def test_an_upload_without_an_id_is_none() -> None:
    with pytest.raises(BadAnswer):
        read_upload_id(b"<InitiateMultipartUploadResult/>")


SENT = {"x-amz-checksum-sha1": "right"}
MD5 = hashlib.md5(b"sent").hexdigest()


def test_a_checksum_that_the_server_repeats_is_the_proof() -> None:
    """P5."""
    proof = Proof()

    assert proof.needs_md5(SENT)
    assert proof.problem(SENT, SENT, MD5) is None
    assert not proof.needs_md5(SENT)  # nothing is hashed twice
    assert proof.problem(SENT, {"x-amz-checksum-sha1": "wrong"}, None)


def test_without_it_the_etag_is() -> None:
    """P5."""
    proof = Proof()

    assert proof.problem(SENT, {"ETag": f'"{MD5}"'}, MD5) is None
    assert all(proof.problem(SENT, {"ETag": f'"{"0" * 32}"'}, MD5) for _ in range(5))


def test_a_server_whose_etags_are_no_md5_is_found_out() -> None:
    proof = Proof()
    other = {"ETag": f'"{"0" * 32}"'}

    assert [bool(proof.problem({}, other, MD5)) for _ in range(3)] == [True, False, False]
    assert not proof.needs_md5({})


@pytest.mark.parametrize("answer", [{"ETag": '"abc-2"'}, {}, {"ETag": f'"{"0" * 32}"', "x-amz-server-side-encryption": "aws:kms"}])
def test_an_etag_that_cannot_be_one_proves_nothing(answer: dict[str, str]) -> None:
    proof = Proof()

    assert not any(proof.problem({}, answer, MD5) for _ in range(5))
    assert proof.needs_md5({})
