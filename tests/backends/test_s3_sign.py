"""Signature Version 4: a known vector, and botocore's own signer as the judge of all the rest."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.backends.s3.sign import EMPTY, UNSIGNED, Credentials, encode_path, encode_query, sign

NOW = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "payload", "signature"),
    [
        (
            "GET",
            "/test.txt",
            (),
            {"host": HOST, "range": "bytes=0-9"},
            EMPTY,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            encode_path("/test$file.text"),
            (),
            {"host": HOST, "date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/", (("lifecycle", ""),), {"host": HOST}, EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/",
            (("prefix", "J"), ("max-keys", "2")),
            {"host": HOST},
            EMPTY,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_of_amazons_reference_come_out(
    method: str, path: str, query: tuple[tuple[str, str], ...], headers: dict[str, str], payload: str, signature: str
) -> None:
    signed = sign(method, path, encode_query(query), headers, credentials=EXAMPLE, region="us-east-1", now=NOW, payload=payload)

    assert signed["authorization"].endswith(f"Signature={signature}")
    assert signed["x-amz-date"] == "20130524T000000Z"


class _FixedClock(botocore.auth.S3SigV4Auth):
    """botocore's signer at ``NOW``, so that both date the request alike."""

    def add_auth(self, request: Any) -> None:
        request.context["timestamp"] = "20130524T000000Z"
        self._modify_request_before_signing(request)
        canonical = self.canonical_request(request)
        self._inject_signature_to_request(request, self.signature(self.string_to_sign(request, canonical), request))


text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    key=text,
    query=st.dictionaries(st.sampled_from(["prefix", "uploadId", "continuation-token", "list-type"]), text, max_size=3),
    extra=st.dictionaries(
        st.sampled_from(["x-amz-meta-a", "x-amz-checksum-sha1", "range"]), st.from_regex(r"[!-~]( ?[!-~])*", fullmatch=True)
    ),
    token=st.sampled_from([None, "tok/en+=="]),
)
@settings(max_examples=60, deadline=None)
def test_botocore_signs_every_request_the_same(
    method: str, key: str, query: dict[str, str], extra: dict[str, str], token: str | None
) -> None:
    path, encoded = f"/bucket/{encode_path(key)}", encode_query(tuple(query.items()))
    url = f"https://host.example:8443{path}{'?' if encoded else ''}{encoded}"
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=dict(extra))
    request.context["payload_signing_enabled"] = False
    request.context["client_config"] = type("Config", (), {"s3": {"payload_signing_enabled": False}})()
    credentials = botocore.credentials.Credentials("key", "secret", token)
    _FixedClock(credentials, "s3", "eu-west-1").add_auth(request)

    ours = sign(
        method,
        path,
        encoded,
        {**extra, "host": urlsplit(url).netloc},
        credentials=Credentials("key", "secret", token),
        region="eu-west-1",
        now=NOW,
        payload=UNSIGNED,
    )

    assert ours["authorization"] == request.headers["Authorization"]


def test_names_that_are_no_utf8_are_sent_as_their_bytes() -> None:
    assert encode_path("a\udcff b/+~") == "a%FF%20b/%2B~"
    assert encode_query((("prefix", "a/\udcff"),)) == "prefix=a%2F%FF"
