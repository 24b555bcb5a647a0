"""Signature Version 4 of Amazon's web services, as S3 wants it: pure, values in, headers out.

Source: "Authenticating Requests (AWS Signature Version 4)" in Amazon S3's API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whom a request is signed for. ``token``: of temporary credentials."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def sign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    credentials: Credentials,
    region: str,
    now: float,
    payload: str = UNSIGNED,
) -> dict[str, str]:
    """The headers that authenticate a request, to be sent besides ``headers``.

    Args:
        path: as it is sent, percent-encoded once (``encode_path``).
        query: as it is sent (``encode_query``).
        headers: those to be covered, ``host`` among them; names in lower case.
        now: seconds since the epoch, by the server's clock.
        payload: SHA-256 of the body in hex, or ``UNSIGNED``.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    added = {"x-amz-date": stamp, "x-amz-content-sha256": payload}
    if credentials.token:
        added["x-amz-security-token"] = credentials.token
    covered = sorted({**headers, **added}.items())
    names = ";".join(name for name, _ in covered)
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in covered)
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, stamp[:8], region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    added["authorization"] = f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return added


def encode_path(key: str) -> str:
    """``key`` as the path of a URL; bytes that are no UTF-8 (lone surrogates) as they are."""
    return quote(os.fsencode(key), safe="/-_.~")


def encode_query(parameters: Sequence[tuple[str, str]]) -> str:
    """The query in the order and encoding that are signed."""
    pairs = sorted((quote(name, safe="-_.~"), quote(os.fsencode(value), safe="-_.~")) for name, value in parameters)
    return "&".join(f"{name}={value}" for name, value in pairs)


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
