"""Sockets that carry HTTP: what the kernel is told, and that nothing it refuses fails anything."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.http.sockets import SocketFactory, tune
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.s3 import wire
from asyncdup.backends.s3.backend import S3Backend
from asyncdup.backends.s3.options import read_options
from asyncdup.backends.urls import parse_url

linux = pytest.mark.skipif(sys.platform != "linux", reason="options that only Linux has")

LARGE = 1 << 20  # bytes of a body from which on its connection is paced
ADDRESS: tuple[Any, ...] = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))


class Wire(asyncio.Transport):
    """A transport of nothing but a socket."""

    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__({"socket": sock})


def paced(sock: socket.socket) -> bool:
    """Whether SO_MAX_PACING_RATE is anything but "none"."""
    return sock.getsockopt(socket.SOL_SOCKET, 47) != -1


def congestion(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with closing(socket.socket()) as made:
        yield made


@linux
def test_t4_a_peer_that_is_gone_is_noticed() -> None:
    with closing(SocketFactory(60.0)(ADDRESS)) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert not paced(made)


@linux
def test_every_connection_is_paced_where_that_is_asked_for() -> None:
    with closing(SocketFactory(60.0, paced=True)(ADDRESS)) as made:
        assert paced(made)


@linux
@pytest.mark.parametrize(("size", "expected"), [(LARGE - 1, False), (LARGE, True)])
def test_a_large_body_is_paced_and_a_small_one_is_not(sock: socket.socket, size: int, expected: bool) -> None:
    tune(Wire(sock), size)

    assert paced(sock) is expected


@linux
def test_congestion_control_is_the_users_choice_and_one_that_is_not_there_fails_nothing(sock: socket.socket) -> None:
    before = congestion(sock)

    tune(Wire(sock), 0, congestion="nosuchcontrol")
    assert congestion(sock) == before
    tune(Wire(sock), 0, congestion="reno")  # the one that every kernel has and allows
    assert congestion(sock) == b"reno"


def test_what_is_no_tcp_socket_is_left_alone() -> None:
    """A connection may be gone, or go through something that has no socket."""
    tune(None, LARGE, congestion="reno")
    tune(Wire(None), LARGE, congestion="reno")
    with closing(socket.socket(socket.AF_UNIX)) as unix:
        tune(Wire(unix), LARGE, congestion="reno")


@linux
@pytest.mark.realtime
async def test_an_s3_connection_is_tuned_by_the_first_large_body(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Recording(SocketFactory):
        def __call__(self, address: tuple[Any, ...]) -> socket.socket:
            made.append(super().__call__(address))
            return made[-1]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
                length = next(int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
                await reader.readexactly(length)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setattr(wire, "SocketFactory", Recording)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        options = BackendOptions(settings={"s3_endpoint_url": endpoint, "s3_anonymous": True, "tcp_congestion": "reno"})
        backend = S3Backend(read_options(parse_url("s3://bucket/prefix"), options), options)
        try:
            await backend.put("small", BytesBody(b"x"))
            assert [(congestion(sock), paced(sock)) for sock in made] == [(b"reno", False)]
            await backend.put("large", BytesBody(bytes(LARGE)))
            assert [signs.congestion for signs in backend.link_signs()] == ["reno"]
            assert [(congestion(sock), paced(sock)) for sock in made] == [(b"reno", True)]
        finally:
            await backend.aclose()
