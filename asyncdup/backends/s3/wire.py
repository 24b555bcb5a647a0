"""Requests to an S3 server over one aiohttp session: signed by us, bodies handed over in small pieces, mendable refusals mended once.

botocore's client is not used for them: it copies a body whole into the transport, waits a round trip for 100-continue, and cannot take a body
that comes in chunks (dependencies, section 2b).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import aiohttp
import anyio
from yarl import URL

from asyncdup.backends.base import Body, LinkSigns
from asyncdup.backends.http.sockets import SocketFactory
from asyncdup.backends.s3.access import Access
from asyncdup.backends.s3.errors import EXPIRED, SKEWED, Refusal, read_retry_after, translate
from asyncdup.backends.s3.proof import Proof
from asyncdup.backends.s3.sender import Sender, stopped
from asyncdup.backends.s3.sign import EMPTY, UNSIGNED, encode_path, encode_query, sign
from asyncdup.backends.s3.xml import Fault, read_fault
from asyncdup.errors import RetryableError
from asyncdup.threads import in_thread

_BUFFERED = 256 << 10  # bytes of an answer after which reading stops until somebody takes them (aiohttp holds up to twice this)
_DOCUMENT = 16 << 20  # bytes of XML at most; a page of 1000 keys is 2 MiB at the very worst
_FAULT = 64 << 10  # bytes of an error answer that are looked at
_IDLE = 30.0  # seconds that a connection is kept; some servers close after 60, and a request must not meet that moment
_SKIPPED = ("User-Agent", "Accept-Encoding", "Content-Type")
_TRANSPORT = (aiohttp.ClientError, OSError, EOFError, asyncio.IncompleteReadError)  # TimeoutError is an OSError


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. ``key``: the whole key, None for the bucket. ``doing``: for messages. ``accepted``: statuses that are no error."""

    method: str
    doing: str
    key: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | bytes | None = None
    accepted: tuple[int, ...] = (200, 204, 206)


class Spoiled(RetryableError):
    """The server has stored something else than what was sent."""


class Wire:
    """Connections to one server. Opened by the first request.

    Args:
        concurrency: requests at once that connections are kept for; None = as many as come.
        timeout: seconds to connect, and that sent bytes may stay unacknowledged (T4).
        now: the wall clock.
        notify: tells the user.
    """

    def __init__(
        self, access: Access, *, concurrency: int | None, timeout: float, now: Callable[[], float], notify: Callable[[str], None]
    ) -> None:
        self.access = access
        self._limit = concurrency + 4 if concurrency else 0  # beside the slots: reconciling and metadata (S6)
        self._timeout = timeout
        self._sockets = SocketFactory(timeout)
        self._now = now
        self._notify = notify
        self._skew = 0.0  # seconds that the server's clock is ahead of ours
        self._session: aiohttp.ClientSession | None = None
        self._retired: list[aiohttp.ClientSession] = []
        self._opening = anyio.Lock()
        self._proof = Proof()

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """The answer, if its status is accepted; its connection is used again if it was read to its end.

        Raises:
            BackendError: as the table in ``errors`` says, after one try to mend it: another region, a wrong clock, expired credentials.
        """
        answer = await self._answered(call)
        try:
            yield answer
        finally:
            _let_go(answer)

    async def document(self, call: Call) -> bytes:
        """A small answer whole."""
        async with self.call(call) as answer:
            return await self.read(answer, call)

    async def read(self, answer: aiohttp.ClientResponse, call: Call) -> bytes:
        """The rest of a small answer. The outcome of a call whose answer breaks off is not known."""
        try:
            return await _up_to(answer, _DOCUMENT)
        except _TRANSPORT as exc:
            raise translate(exc, call.doing, begun=call.method != "GET") from exc

    def signs(self) -> Sequence[LinkSigns]:
        """What is known of the way to the server, by each connection that can tell."""
        return self._sockets.signs()

    def drop(self) -> None:
        """Use no connection again that is open now."""
        if self._session is not None:
            self._retired.append(self._session)
            self._session = None

    async def aclose(self) -> None:
        """Close all connections."""
        self.drop()
        while self._retired:
            await self._retired.pop().close()

    async def _answered(self, call: Call) -> aiohttp.ClientResponse:
        session = await self._open()
        mended: set[str] = set()
        while True:
            answer, sender = await self._send(session, call)
            if answer.status in call.accepted:
                self._prove(call, answer, sender)
                return answer
            try:
                refusal = await self._refusal(session, answer, call, keep=sender is None or sender.complete)
            finally:
                await stopped(sender)
            if not await self._mend(refusal, answer.headers, mended):
                raise refusal.error()

    def _prove(self, call: Call, answer: aiohttp.ClientResponse, sender: Sender | None) -> None:
        """That the server has what was sent."""
        if sender is None:
            return
        problem = self._proof.problem(call.headers, answer.headers, sender.md5)
        if problem is not None:
            answer.close()
            raise Spoiled(f"{call.doing}: {problem}")

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            async with self._opening:
                if self._session is None:
                    await self.access.prepare()
                    options = self.access.options
                    is_tls = self.access.target.scheme == "https"
                    if is_tls and not options.check_certificate:
                        self._notify("the server's certificate is not checked, so anybody may be the server")
                    tls = await in_thread(options.tls) if is_tls else True
                    connector = aiohttp.TCPConnector(
                        limit=self._limit, ssl=tls, keepalive_timeout=_IDLE, ttl_dns_cache=300, socket_factory=self._sockets
                    )
                    self._session = aiohttp.ClientSession(
                        connector=connector,
                        headers={"User-Agent": "asyncdup"},
                        cookie_jar=aiohttp.DummyCookieJar(),
                        auto_decompress=False,
                        skip_auto_headers=_SKIPPED,
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout),
                        read_bufsize=_BUFFERED,
                    )
        return self._session

    async def _send(self, session: aiohttp.ClientSession, call: Call) -> tuple[aiohttp.ClientResponse, Sender | None]:
        """The answer, and what sends the body: it may not have ended, as a server may refuse early."""
        url, headers = await self._request(call)
        body = call.body
        sender = (
            None
            if body is None or isinstance(body, bytes)
            else Sender(body, take_md5=self._proof.needs_md5(call.headers), congestion=self.access.options.congestion)
        )
        data = body if isinstance(body, bytes) else sender
        proxy = _proxy(url, self.access.options.environ)
        try:
            return await session.request(call.method, url, headers=headers, data=data, allow_redirects=False, proxy=proxy), sender
        except _TRANSPORT as exc:
            begun = call.method not in ("GET", "HEAD") and (sender is None or sender.begun)
            failure: Exception = translate(exc, call.doing, begun=begun)
            # A proxy's answer carries the request with its signature (P15).
            cause = None if isinstance(exc, aiohttp.ClientResponseError) else exc
        except BaseException:
            await stopped(sender)
            raise
        await stopped(sender)
        if sender is not None and sender.error is not None:
            raise sender.error
        raise failure from cause

    async def _request(self, call: Call) -> tuple[URL, dict[str, str]]:
        target = self.access.target
        path = f"{target.base}/{encode_path(call.key)}" if call.key is not None else target.base or "/"
        query = encode_query(call.query)
        headers = {name.lower(): value for name, value in call.headers.items()}
        credentials = await self.access.credentials()
        if credentials is not None:
            headers |= sign(
                call.method,
                path,
                query,
                {**headers, "host": target.host},
                credentials=credentials,
                region=target.region,
                now=self._now() + self._skew,
                payload=_payload(call.body),
            )
        if call.body is not None:
            headers["content-length"] = str(len(call.body) if isinstance(call.body, bytes) else call.body.size)
        return URL(f"{target.origin}{path}{'?' if query else ''}{query}", encoded=True), headers

    async def _refusal(self, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse, call: Call, *, keep: bool) -> Refusal:
        """What the answer says; an error answer without a body (HEAD has none) is asked for again with one."""
        fault = Fault()
        try:
            fault = read_fault(await _up_to(answer, _FAULT))
        except _TRANSPORT:
            pass  # the status says enough
        finally:
            if keep:
                _let_go(answer)
            else:
                answer.close()
        if call.method == "HEAD" and answer.status not in (404, 429) and answer.status < 500:
            fault = await self._asked_again(session, call)
        region = answer.headers.get("x-amz-bucket-region") or fault.region
        wait = read_retry_after(answer.headers.get("Retry-After"), self._now())
        message = fault.message
        if token := answer.request_info.headers.get("x-amz-security-token"):
            message = message.replace(token, "***")  # some servers say back what they were sent (P15)
        fault = fault._replace(region=region, message=message)
        return Refusal(call.doing, answer.status, fault, wait, object_asked=call.key is not None)

    async def _asked_again(self, session: aiohttp.ClientSession, call: Call) -> Fault:
        again = Call(method="GET", doing=call.doing, key=call.key, headers={"range": "bytes=0-0"})
        answer, _ = await self._send(session, again)
        try:
            return Fault() if answer.status in again.accepted else read_fault(await _up_to(answer, _FAULT))
        except _TRANSPORT as exc:
            raise translate(exc, call.doing, begun=False) from exc
        finally:
            _let_go(answer)

    async def _mend(self, refusal: Refusal, headers: Mapping[str, str], mended: set[str]) -> bool:
        """Whether the same request may do better now. Each cause is mended once a request."""
        region = refusal.fault.region
        if region and region != self.access.target.region and "region" not in mended and refusal.status in (301, 307, 400, 403):
            mended.add("region")
            self.access.move_to(region)
            return True
        if refusal.code in SKEWED and "clock" not in mended:
            mended.add("clock")
            return self._set_clock(headers.get("Date"))
        if refusal.code in EXPIRED and "credentials" not in mended:
            mended.add("credentials")
            return await self.access.renew()
        return False

    def _set_clock(self, date: str | None) -> bool:
        try:
            skew = parsedate_to_datetime(date or "").timestamp() - self._now()
        except (TypeError, ValueError):
            return False
        told, self._skew = bool(self._skew), skew
        if not told:
            way = "behind" if skew > 0 else "ahead of"
            self._notify(f"this machine's clock is {abs(skew):.0f} s {way} the server's, by which requests are dated from now on")
        return True


def _payload(body: Body | bytes | None) -> str:
    """What is signed of a body: a stream is protected by TLS, and by its checksum, which is signed."""
    if body is None:
        return EMPTY
    return hashlib.sha256(body).hexdigest() if isinstance(body, bytes) else body.digests.get("sha256", UNSIGNED)


def _let_go(answer: aiohttp.ClientResponse) -> None:
    """Keep the connection if nothing is left to read."""
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()


async def _up_to(answer: aiohttp.ClientResponse, most: int) -> bytes:
    data = bytearray()
    while chunk := await answer.content.readany():
        data += chunk
        if len(data) > most:
            raise aiohttp.ClientPayloadError(f"more than {most} bytes where a short answer was expected")
    return bytes(data)


def _proxy(url: URL, environ: Mapping[str, str]) -> str | None:
    """The user's proxy for ``url``. aiohttp's own look-up reads ~/.netrc in a thread for each request."""
    scheme = url.scheme
    proxy = environ.get(f"{scheme}_proxy") or environ.get(f"{scheme.upper()}_PROXY") or environ.get("all_proxy") or environ.get("ALL_PROXY")
    if not proxy:
        return None
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if _is_exempt(url, exempt):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_exempt(url: URL, exempt: str) -> bool:
    """Whether ``no_proxy`` names the host: itself, a domain that it is in, either with its port, or ``*``."""
    host = url.host or ""
    for entry in (word.strip().lower() for word in exempt.split(",")):
        domain = entry.removeprefix("*").removeprefix(".").removesuffix(f":{url.port}")
        if entry == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
            return True
    return False
