"""Bodies over HTTP, for backends on aiohttp: a Body sent in small pieces, a range of an answer read. No protocol above HTTP is known here."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple

import aiohttp
import anyio
import yarl

from asyncdup.backends.base import Body
from asyncdup.backends.http.errors import http_errors
from asyncdup.backends.http.pieces import PIECE, Pieces, pump
from asyncdup.errors import RetryableError, ungrouped

_ANSWER = 64 << 10  # bytes of an answer that are looked at
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Answer(NamedTuple):
    """A whole answer: its status and reason, headers, and the beginning of what it says."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes

    def __repr__(self) -> str:
        """Without the server's words: some say back the login that they were sent (P15)."""
        return f"Answer({self.status})"


async def send_body(
    session: aiohttp.ClientSession,
    method: str,
    url: yarl.URL,
    body: Body,
    *,
    headers: Mapping[str, str],
    action: str,
    lead: bytes = b"",
    tail: bytes = b"",
) -> Answer:
    """Send ``body`` between ``lead`` and ``tail``, with its length said and without ``Expect``, which would cost a round trip.

    An error of the body comes out as it is, and the connection is cut before the server can take what it has for the whole.

    Raises:
        RetryableError: ``ambiguous`` once the body has begun.
        IntegrityError: the body gave fewer or more bytes than its size.
    """
    send, receive = anyio.create_memory_object_stream[bytes](0)
    pieces = Pieces(receive)
    length = len(lead) + body.size + len(tail)
    with ungrouped(), send, receive:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump, body, lead, tail, send)
            try:
                async with session.request(
                    method, url, data=pieces, headers={**headers, "Content-Length": str(length)}, allow_redirects=False
                ) as response:
                    answer = await read_answer(response)
                    if pieces.taken < length:
                        response.close()  # the server still waits for the rest: it would take the next request for it
            except (aiohttp.ClientError, OSError):
                with http_errors(action, ambiguous=pieces.begun):
                    raise
            if pieces.taken < length:
                if answer.status < 300:
                    raise RetryableError(f"{action}: the server answered {answer.status} before it had everything", ambiguous=True)
                tasks.cancel_scope.cancel()
            # Else the body is still asked whether that was all of it, which a fast server does not wait for.
    return answer


async def read_answer(response: aiohttp.ClientResponse) -> Answer:
    """All of a short answer; of a long one its beginning. Raises aiohttp's errors."""
    content = bytearray()
    while len(content) < _ANSWER and (piece := await response.content.read(_ANSWER - len(content))):
        content += piece
    return Answer(response.status, response.reason or "", response.headers, bytes(content))


async def read_range(response: aiohttp.ClientResponse, start: int, length: int | None, action: str) -> AsyncGenerator[bytes, None]:
    """The object's bytes from ``start``, at most ``length``, of the answer 206, or of the answer 200 by a server that knows no ranges.

    Raises:
        RetryableError: the connection ended early, or the server sends another range.
    """
    skip, left = start, length
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start:
            raise RetryableError(f"{action}: the server sends another range than bytes {start} and on")
        skip = 0
    while left is None or left > 0:
        with http_errors(action):
            chunk = await response.content.readany()
        if not chunk:
            return
        if skip:
            chunk, skip = chunk[skip:], max(0, skip - len(chunk))
        if left is not None:
            chunk = chunk[:left]
            left -= len(chunk)
        for at in range(0, len(chunk), PIECE):
            yield chunk[at : at + PIECE]


def range_header(start: int, length: int | None) -> dict[str, str]:
    """The header that asks for ``length`` (above 0) bytes from ``start``; none for a whole object."""
    if not start and length is None:
        return {}
    return {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"}
