"""An HTTP proxy with scripted faults (M1), between a client and a real server: the faults are those of S3 and of the way to it.

It stands where the server should be: clients are given its address. Which request meets which fault is said by rules, so a run can be
repeated; every request is recorded. It holds each request and each answer whole, so it is for objects of test size.
"""

from __future__ import annotations

import calendar
import io
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate

import anyio
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

# Of one connection only (RFC 9110, section 7.6.1), or of no meaning for a body that is held whole.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection", "expect"})
_S3 = {"GET": "GetObject", "PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject", "POST": "PostObject"}
_TOLERATED = 900.0  # seconds that a client's clock may be wrong (Amazon S3, "RequestTimeTooSkewed")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived, and what became of it.

    Attributes:
        number: from 1, in the order in which the requests began.
        path, query: decoded. headers: by names in lower case.
        size: bytes of the body that were read, here.
        fault: name of the fault that it met; ``""``: none.
        status: of the answer that was sent, 0 if the connection was cut before or in the middle of it.
        acted: the server has had the request.
        at: when it arrived, seconds of the monotonic clock.
    """

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    size: int = 0
    fault: str = ""
    status: int = 0
    acted: bool = False
    at: float = 0.0

    @property
    def operation(self) -> str:
        """S3's name of what is asked: ``PutObject``, ``UploadPart``, ``ListObjects``, …"""
        keys = self.query.keys()
        if "uploads" in keys:
            return "CreateMultipartUpload" if self.method == "POST" else "ListMultipartUploads"
        if "uploadId" in keys:
            names = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}
            return names.get(self.method, self.method)
        if "list-type" in keys:
            return "ListObjects"
        return _S3.get(self.method, self.method)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a request. ``headers``: without those of the connection."""

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = field(default=b"", repr=False)


Fault = Callable[["Exchange"], Awaitable[None]]
When = Callable[[Seen], bool]


@dataclass(slots=True)
class _Rule:
    when: When
    fault: Fault
    left: int | None
    skip: int

    def applies(self, seen: Seen) -> bool:
        if self.left == 0 or not self.when(seen):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Exchange:
    """One request on its way, for a fault to act on. ``seen`` grows with what becomes of it."""

    def __init__(self, request: web.BaseRequest, seen: Seen, upstream: URL, session: ClientSession) -> None:
        self.seen = seen
        self._request = request
        self._upstream = upstream
        self._session = session
        self._response: web.StreamResponse | None = None

    async def read(self, most: int | None = None) -> bytes:
        """The body, or its first ``most`` bytes."""
        data = bytearray()
        while most is None or len(data) < most:
            piece = await self._request.content.readany()
            if not piece:
                break
            data += piece
        self.seen = replace(self.seen, size=len(data))
        return bytes(data)

    async def forward(self, body: bytes | None = None, *, query: str = "") -> Answer:
        """What the server says to the request, with ``body`` instead of its own, and ``query`` (``&name=value``) behind it."""
        data = await self.read() if body is None else body
        headers = _passed(self._request.headers)
        if data or "Content-Length" in headers or self._request.method in ("PUT", "POST"):
            headers["Content-Length"] = str(len(data))
        url = URL(f"{self._upstream.origin()}{self._request.raw_path}{query}", encoded=True)
        sent = io.BytesIO(data) if data else None
        async with self._session.request(self._request.method, url, headers=headers, data=sent, allow_redirects=False) as answer:
            self.seen = replace(self.seen, acted=True)
            return Answer(answer.status, _passed(answer.headers), await answer.read())

    async def answer(self, answer: Answer, *, cut: int | None = None) -> None:
        """Send ``answer``; ``cut``: its head and this many bytes of the body, and end the connection."""
        self._response = response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if "Content-Length" not in answer.headers and answer.status != 204:
            response.content_length = len(answer.body)
        await response.prepare(self._request)
        if self._request.method != "HEAD" and answer.body:
            await response.write(answer.body[:cut])
        if cut is not None:
            await anyio.sleep(0.01)  # what was written leaves before the connection does
            self.cut()
            return
        self.seen = replace(self.seen, status=answer.status)
        await response.write_eof()

    def cut(self) -> None:
        """End the connection at once, as a broken cable or a dying server does."""
        if self._request.transport is not None:
            self._request.transport.abort()

    @property
    def response(self) -> web.StreamResponse:
        """For aiohttp, which wants one even if nobody is there to read it."""
        return self._response or web.Response()


class FaultProxy:
    """What ``fault_proxy`` gives. ``url``: where clients are to go. ``seen``: all requests that have ended, in the order of their numbers."""

    def __init__(self, upstream: str, session: ClientSession) -> None:
        self.url = ""
        self._upstream = URL(upstream)
        self._session = session
        self._rules: list[_Rule] = []
        self._seen: dict[int, Seen] = {}
        self._count = 0

    @property
    def seen(self) -> list[Seen]:
        """As the class says."""
        return [self._seen[number] for number in sorted(self._seen)]

    def on(self, when: When | str, fault: Fault, *, times: int | None = 1, skip: int = 0) -> None:
        """Let requests meet ``fault``.

        Args:
            when: which ones; a word is the name of an S3 operation.
            times: how many of them, None for all.
            skip: how many of them pass before.

        Rules are asked in the order in which they were made; the first that applies has the request.
        """
        self._rules.append(_Rule(when if callable(when) else operation(when), fault, times, skip))

    def clear(self) -> None:
        """Forget all rules: from now on everything passes."""
        self._rules.clear()

    def count(self, when: When | str) -> int:
        """How many of the requests that have ended are of this kind."""
        chosen = when if callable(when) else operation(when)
        return sum(chosen(seen) for seen in self._seen.values())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, for aiohttp's server."""
        self._count += 1
        seen = Seen(self._count, request.method, request.path, dict(request.query), _lower(request.headers), at=anyio.current_time())
        rule = next((rule for rule in self._rules if rule.applies(seen)), None)
        fault = passed if rule is None else rule.fault
        if rule is not None:
            seen = replace(seen, fault=getattr(fault, "__name__", type(fault).__name__))
        exchange = Exchange(request, seen, self._upstream, self._session)
        try:
            await fault(exchange)
        except (ClientError, OSError):
            exchange.cut()  # either side has gone: the other one sees its connection end
        finally:
            self._seen[seen.number] = exchange.seen
        return exchange.response


@asynccontextmanager
async def fault_proxy(upstream: str) -> AsyncGenerator[FaultProxy, None]:
    """Listen on a port of 127.0.0.1 and pass everything on to ``upstream`` (``http://host:port``) and back, but for what rules say."""
    session = ClientSession(
        connector=TCPConnector(limit=0),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type", "Accept"),
        timeout=ClientTimeout(total=None),
    )
    async with session:
        proxy = FaultProxy(upstream, session)
        runner = web.ServerRunner(web.Server(proxy.handle, access_log=None, handler_cancellation=True), shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            proxy.url = f"http://{host}:{port}"
            yield proxy
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()


def _passed(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def operation(name: str) -> When:
    """Requests for S3's operation ``name``, as ``PutObject``."""
    return lambda seen: seen.operation == name


def everything(seen: Seen) -> bool:
    """Every request."""
    return True


async def passed(exchange: Exchange) -> None:
    """No fault."""
    await exchange.answer(await exchange.forward())


def answers(status: int, code: str = "", *, acted: bool = False, headers: Mapping[str, str] | None = None, inside: str = "") -> Fault:
    """An answer of the proxy's own: an error document of S3 with ``code``; ``inside``: more XML in it. ``acted``: after the server's."""

    async def answered(exchange: Exchange) -> None:
        if acted:
            await exchange.forward()
        else:
            await exchange.read()
        document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the script says</Message>{inside}</Error>"
        body = document.encode() if code else b""
        await exchange.answer(Answer(status, CIMultiDict(headers or {}), b"" if exchange.seen.method == "HEAD" else body))

    answered.__name__ = f"{status} {code}".strip()
    return answered


def slow_down(retry_after: str | None = None) -> Fault:
    """503 SlowDown; ``retry_after``: as the header has it."""
    return answers(503, "SlowDown", headers={} if retry_after is None else {"Retry-After": retry_after})


def cut_request(at: int) -> Fault:
    """The connection ends when ``at`` bytes of the body, or a few more, have come. The server has never heard of it."""

    async def request_cut(exchange: Exchange) -> None:
        await exchange.read(at)
        exchange.cut()

    return request_cut


def cut_answer(at: int) -> Fault:
    """The connection ends ``at`` bytes into the body of the answer."""

    async def answer_cut(exchange: Exchange) -> None:
        await exchange.answer(await exchange.forward(), cut=at)

    return answer_cut


async def lost_answer(exchange: Exchange) -> None:
    """The server acts, and the client is not told."""
    await exchange.forward()
    exchange.cut()


async def hang(exchange: Exchange) -> None:
    """Take the request and say nothing, for as long as the client waits."""
    await exchange.read()
    await anyio.sleep_forever()


def flip_in_request(at: int) -> Fault:
    """Byte ``at`` of the body, or the last one, arrives with its lowest bit changed."""

    async def request_spoiled(exchange: Exchange) -> None:
        await exchange.answer(await exchange.forward(_flipped(await exchange.read(), at)))

    return request_spoiled


def flip_in_answer(at: int) -> Fault:
    """Byte ``at`` of the answer's body, or the last one, arrives with its lowest bit changed."""

    async def answer_spoiled(exchange: Exchange) -> None:
        answer = await exchange.forward()
        await exchange.answer(replace(answer, body=_flipped(answer.body, at)))

    return answer_spoiled


def stale() -> Fault:
    """The first answer to each question is given again and again, whatever has been stored since."""
    known: dict[str, Answer] = {}

    async def stale_answer(exchange: Exchange) -> None:
        question = f"{exchange.seen.method} {exchange.seen.path} {sorted(exchange.seen.query.items())}"
        if question not in known:
            known[question] = await exchange.forward()
        await exchange.answer(known[question])

    return stale_answer


def clock_ahead(seconds: float) -> Fault:
    """The server's clock is ahead by ``seconds``: it refuses what is dated otherwise (403 RequestTimeTooSkewed), and says its own date."""

    async def skewed(exchange: Exchange) -> None:
        now = time.time() + seconds
        stamp = exchange.seen.headers.get("x-amz-date", "")
        date = {"Date": formatdate(now, usegmt=True)}
        if not stamp or abs(calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - now) > _TOLERATED:
            await answers(403, "RequestTimeTooSkewed", headers=date)(exchange)
        else:
            await passed(exchange)

    return skewed


def moved_to(region: str) -> Fault:
    """The bucket is in ``region``: 301 to whoever signs for another one, as Amazon's servers do."""

    async def moved(exchange: Exchange) -> None:
        if f"/{region}/s3/" in exchange.seen.headers.get("authorization", ""):
            await passed(exchange)
        else:
            await answers(301, "PermanentRedirect", headers={"x-amz-bucket-region": region})(exchange)

    return moved


def _flipped(data: bytes, at: int) -> bytes:
    at = min(at, len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else data
