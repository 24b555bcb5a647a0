"""The pure parts of WebDAV: answers in XML, challenges and what is answered to them, headers, the table of status codes."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncdup.backends.http.errors import retry_after, status_error
from asyncdup.backends.webdav.http import parse_headers
from asyncdup.backends.webdav.login import Login, parse_challenges
from asyncdup.backends.webdav.xml import Entry, MultiStatus
from asyncdup.errors import BadRequest, FormatError, NotFound, OperatorError, Precondition, RetryableError, UsageError

ANSWER = b"""<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:" xmlns:s="x">
 <d:response><d:href>/b/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop>
  <d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>
 <d:response><d:href>/b/a%20%C3%BC</d:href>
  <d:propstat><d:prop><d:resourcetype/><d:getcontentlength>12</d:getcontentlength>
   <d:getlastmodified>Sun, 22 Nov 2026 22:08:40 GMT</d:getlastmodified></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
  <d:propstat><d:prop><d:getcontentlength>99</d:getcontentlength></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>
 </d:response>
 <d:response><d:href>/b/gone</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>
</d:multistatus>"""


@given(st.lists(st.integers(0, len(ANSWER)), max_size=20))
def test_any_cut_of_an_answer_gives_the_same_entries(cuts: list[int]) -> None:
    reader, found, at = MultiStatus(), [], 0
    for cut in [*sorted(cuts), len(ANSWER)]:
        found += reader.feed(ANSWER[at:cut])
        at = cut
    found += reader.finish()

    assert found == [Entry("/b/", is_folder=True), Entry("/b/a%20%C3%BC", 12, datetime(2026, 11, 22, 22, 8, 40, tzinfo=UTC).timestamp())]


@pytest.mark.parametrize(
    "hostile",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        b"<a>" * 1000,
        b'<d:multistatus xmlns:d="DAV:"><d:response><d:href>' + b"x" * 100_000,
        b'<d:multistatus xmlns:d="DAV:"><d:response><d:href>/b/<d:x/>c</d:href></d:response></d:multistatus>',
        b"<html><br></html>",
        b"\0",
    ],
)
def test_a_hostile_answer_is_refused_within_bounds(hostile: bytes) -> None:
    reader = MultiStatus()
    with pytest.raises(FormatError):
        reader.feed(hostile)
        reader.finish()


def test_an_answer_that_is_cut_is_no_answer() -> None:
    reader = MultiStatus()
    reader.feed(ANSWER[:-5])
    with pytest.raises(FormatError):
        reader.finish()


def test_challenges_are_read_and_digest_comes_before_basic() -> None:
    """A server that offers both never sees the password."""
    offered = ['Basic realm="a, b", Digest realm="r\\"x", nonce="n1", qop="auth,auth-int", algorithm=MD5', "Negotiate"]
    assert [challenge.scheme for challenge in parse_challenges(offered)] == ["basic", "digest", "negotiate"]
    said: list[str] = []
    login = Login("user", "secret", lambda: said.append("basic"))

    assert login.header("GET", "/") is None
    assert login.learn(offered, None)
    header = login.header("GET", "/x")

    assert header is not None and header.startswith("Digest ") and "secret" not in header and said == []
    assert 'realm="r\\"x"' in header
    assert not login.learn(offered, header)  # the same nonce again: the password is wrong
    assert login.learn(['Digest realm="r", nonce="n2", stale=true, qop="auth"'], header)  # a new one: try again


def test_basic_is_answered_once_and_said_before() -> None:
    said: list[str] = []
    login = Login("user", "pä:ss", lambda: said.append("basic"))

    assert login.learn(['Basic realm="x"'], None) and said == ["basic"]
    header = login.header("GET", "/")
    assert header == "Basic dXNlcjpww6Q6c3M="
    assert not login.learn(['Basic realm="x"'], header)
    assert "pä" not in repr(login)


@pytest.mark.parametrize(("algorithm", "name"), [("MD5", "md5"), ("SHA-256", "sha256"), ("SHA-256-sess", "sha256")])
def test_a_digest_is_what_rfc_7616_says(algorithm: str, name: str) -> None:
    login = Login("Mufasa", "Circle of Life")
    assert login.learn(
        [f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, nonce="7yp", opaque="FQh"'], None
    )

    header = login.header("GET", "/dir/index.html") or ""

    given_ = dict(re.findall(r'(\w+)="?([^",]*)"?', header.removeprefix("Digest ")))

    def digest(text: str) -> str:
        return hashlib.new(name, text.encode()).hexdigest()

    secret = digest("Mufasa:http-auth@example.org:Circle of Life")
    if algorithm.endswith("sess"):
        secret = digest(f"{secret}:7yp:{given_['cnonce']}")
    assert given_["nc"] == "00000001" and given_["opaque"] == "FQh"
    assert given_["response"] == digest(f"{secret}:7yp:00000001:{given_['cnonce']}:auth:{digest('GET:/dir/index.html')}")


def test_webdav_headers_are_pairs() -> None:
    assert parse_headers("X-One,1,X-Two,'2") == {"X-One": "1", "X-Two": "'2"}
    assert parse_headers('Cookie,"a, b"') == {"Cookie": "a, b"}
    assert parse_headers("") == {}
    for text in ("X", "X,1,Y", ",1", "X,a\nb"):
        with pytest.raises(UsageError):
            parse_headers(text)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, OperatorError),
        (403, OperatorError),
        (404, NotFound),
        (409, OperatorError),
        (412, Precondition),
        (423, RetryableError),
        (429, RetryableError),
        (500, RetryableError),
        (502, RetryableError),
        (503, RetryableError),
        (507, OperatorError),
        (400, BadRequest),
        (405, BadRequest),
        (413, BadRequest),
    ],
)
def test_each_status_has_its_class(status: int, kind: type[Exception]) -> None:
    error = status_error(status, "Reason", "put 'x'", {}, login_hint="")

    assert type(error) is kind and str(status) in str(error)
    assert getattr(error, "space", False) == (status == 507)
    assert getattr(error, "throttle", False) == (status == 429)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Sun, 22 Nov 2026 22:08:40 GMT", "Date": "Sun, 22 Nov 2026 22:08:10 GMT"}, 30),
        ({"Retry-After": "Sun, 22 Nov 2026 22:08:40 GMT", "Date": "Sun, 22 Nov 2026 22:09:10 GMT"}, None),
        ({"Retry-After": "Sun, 22 Nov 2026 22:08:40 GMT"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_counts_by_the_servers_clock(headers: dict[str, str], seconds: float | None) -> None:
    """B2: what cannot be read is ignored."""
    assert retry_after(headers) == seconds
