"""A WebDAV server as its backend talks to it: requests with login and redirects, over connections that are kept.

A request that is answered with a challenge or with a better address is sent again; what comes then is for the caller to judge.
"""

from __future__ import annotations

import csv
import os
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
import anyio
import yarl

from asyncdup.backends.base import Body, LinkSigns
from asyncdup.backends.http.errors import http_errors, status_error
from asyncdup.backends.http.pieces import PIECE
from asyncdup.backends.http.sockets import SocketFactory
from asyncdup.backends.http.transfer import Answer, read_answer, send_body
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.urls import Location
from asyncdup.backends.webdav.login import Login
from asyncdup.errors import BackendError, OperatorError, UsageError
from asyncdup.threads import in_thread

_TRIES = 5  # of one request: a login or two, a redirect or two
_REDIRECTS = frozenset({301, 302, 307, 308})
_PLAIN = {"webdav": "http", "http": "http", "webdavs": "https", "https": "https"}


class Server:
    """The server of ``location``. Names are of objects in its folder; "" is the folder, and what begins with a slash a path as it is sent."""

    def __init__(self, location: Location, options: BackendOptions) -> None:
        self._place = location.description
        self._options = options
        self._sockets = SocketFactory(options.timeout, paced=True)
        self._headers = {"Accept-Encoding": "identity", **parse_headers(options.settings.get("webdav_headers", ""))}
        scheme = _PLAIN[location.scheme]
        host = f"[{location.host}]" if ":" in location.host else location.host
        port = f":{location.port}" if location.port else ""
        folder = "/".join(filter(None, location.path.split("/")))
        # The folder's URL as it is sent, with a slash at its end; a redirect within the server changes it.
        self._base = f"{scheme}://{host}{port}/{quoted(folder + '/' if folder else '', safe='/')}"
        password = options.password_for(location)
        known = location.user is not None and password is not None
        self._login = Login(location.user or "", password or "", self._warn_of_plain_password) if known else None
        self._session: aiohttp.ClientSession | None = None
        self._old_sessions: list[aiohttp.ClientSession] = []  # calls may be running on them
        self._starting = anyio.Lock()

    @property
    def folder(self) -> str:
        """Its path as it is sent, with a slash at both ends."""
        return urlsplit(self._base).path

    def signs(self) -> Sequence[LinkSigns]:
        """What is known of the way to the server, by each connection that can tell."""
        return self._sockets.signs()

    def drop_connections(self) -> None:
        """As the protocol says."""
        if self._session is not None:
            self._old_sessions.append(self._session)
            self._session = None

    async def aclose(self) -> None:
        """Close all connections."""
        self.drop_connections()
        while self._old_sessions:
            await self._old_sessions.pop().close()

    async def send(self, name: str, body: Body, action: str) -> Answer:
        """PUT ``body`` as ``name``; opened again if it has to be sent twice. Errors as of ``send_body``."""
        session = await self._started()
        for _ in range(_TRIES):
            url = self.url(name)
            headers = self._with_login("PUT", url, {"Content-Type": "application/octet-stream", **self._headers})
            answer = await send_body(session, "PUT", url, body, headers=headers, action=action)
            offered = [value for key, value in answer.headers.items() if key.lower() == "www-authenticate"]
            if not self._once_more(answer.status, offered, answer.headers.get("Location", ""), name, headers.get("Authorization")):
                break
        return answer

    async def ask(
        self,
        method: str,
        name: str,
        action: str,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        ambiguous: bool = False,
    ) -> Answer:
        """One short request and its answer, as ``request``."""
        async with self.request(method, name, action, headers=headers, data=data, ambiguous=ambiguous) as response:
            return await whole(response, action)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        name: str,
        action: str,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        ambiguous: bool = False,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """One request, repeated after a login or a redirect. The answer's status is for the caller to judge."""
        session = await self._started()
        for _ in range(_TRIES):
            url = self.url(name)
            sent = self._with_login(
                method, url, {**self._headers, **({"Content-Type": "application/xml"} if data else {}), **(headers or {})}
            )
            with http_errors(action, ambiguous=ambiguous):
                response = await session.request(method, url, headers=sent, data=data, allow_redirects=False)
            offered = response.headers.getall("WWW-Authenticate", [])
            try:
                again = self._once_more(response.status, offered, response.headers.get("Location", ""), name, sent.get("Authorization"))
                if again:
                    await whole(response, action)
            except BaseException:
                response.close()
                raise
            if not again:
                break
        try:
            yield response
        finally:
            response.close()  # a connection whose answer was read to its end is already given back

    def _once_more(self, status: int, offered: list[str], location: str, name: str, refused: str | None) -> bool:
        """Whether another try may succeed, with what the answer told us."""
        if status == 401 and self._login is not None:
            return self._login.learn(offered, refused)
        if status in _REDIRECTS and location:
            self._follow(urljoin(str(self.url(name)), location), name)
            return True
        return False

    def _follow(self, target: str, name: str) -> None:
        """Take the folder from where the server says that ``name`` is. Neither password nor backup goes to another host, or out of TLS."""
        old, new = urlsplit(self._base), urlsplit(target)
        safe = new.hostname == old.hostname and (new.scheme == old.scheme or new.scheme == "https") and new.scheme in ("http", "https")
        path = new.path
        if name and not name.startswith("/"):
            path = path.removesuffix(quoted(name))
        if not safe or not path.endswith("/"):
            if safe and not name:
                path += "/"
            else:
                raise OperatorError(
                    f"{self._place} redirects to {new.scheme}://{new.hostname}{new.path}",
                    hint="if that is right, write it as the target URL",
                )
        if not name.startswith("/"):
            self._base = f"{new.scheme}://{new.netloc.rpartition('@')[2]}{path}"

    def url(self, name: str) -> yarl.URL:
        """Of ``name``, encoded."""
        return yarl.URL(urljoin(self._base, name) if name.startswith("/") else self._base + quoted(name), encoded=True)

    def _with_login(self, method: str, url: yarl.URL, headers: dict[str, str]) -> dict[str, str]:
        login = None if self._login is None else self._login.header(method, url.raw_path_qs)
        return headers if login is None else {**headers, "Authorization": login}

    def refused(self, answer: Answer, action: str) -> BackendError:
        """The error that an answer means."""
        hint = "the server did not take the user and the password: check them"
        if self._login is None:
            hint = "the server wants a login: write user@ in the URL and set BACKEND_PASSWORD"
        reason = answer.reason if self._login is None else self._login.hide(answer.reason)
        return status_error(answer.status, reason, action, answer.headers, login_hint=hint)

    def _warn_of_plain_password(self) -> None:
        if urlsplit(self._base).scheme == "http":
            self._options.notify(f"{self._place}: the password goes over the network as it is; use webdavs:// if the server can")

    async def _started(self) -> aiohttp.ClientSession:
        async with self._starting:
            if self._session is None:
                timeout = self._options.timeout
                connector = aiohttp.TCPConnector(limit=0, ssl=await self._tls(), socket_factory=self._sockets)
                self._session = aiohttp.ClientSession(
                    connector=connector,
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=2 * timeout),
                    read_bufsize=PIECE,
                )
            return self._session

    async def _tls(self) -> ssl.SSLContext | bool:
        settings = self._options.settings
        if settings.get("ssl_no_check_certificate"):
            self._options.notify(f"{self._place}: the server's certificate is not checked, so anybody may be the server")
            return False
        file, path = settings.get("ssl_cacert_file"), settings.get("ssl_cacert_path")
        if not (file or path):
            return True
        try:
            return await in_thread(lambda: ssl.create_default_context(cafile=file, capath=path))
        except (OSError, ssl.SSLError) as exc:
            raise OperatorError(f"cannot read the certificates of {file or path}: {exc}", hint="name a PEM file") from exc


def parse_headers(text: str) -> dict[str, str]:
    """``--webdav-headers``: ``Name,value,Name,value``, quoted as in CSV (observed: duplicity 3.2.1). Raises UsageError, without the values."""
    has_lines = any(char in text for char in "\r\n\0")
    words = [word.strip() for row in csv.reader([text], skipinitialspace=True) for word in row] if text and not has_lines else []
    if has_lines or len(words) % 2 or not all(words[::2]):
        raise UsageError("--webdav-headers wants pairs: Name,value,Name,value", hint='quote a value that has a comma: Name,"a, b"')
    return dict(zip(words[::2], words[1::2], strict=True))


async def whole(response: aiohttp.ClientResponse, action: str) -> Answer:
    """All of a short answer. Raises BackendError."""
    with http_errors(action):
        return await read_answer(response)


def quoted(text: str, safe: str = "") -> str:
    """Percent-encoded, byte for byte."""
    return quote(os.fsencode(text), safe=safe)
