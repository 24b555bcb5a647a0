"""What the kernel tells of a connection and of itself."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from asyncdup.backends import tcp

linux = pytest.mark.skipif(sys.platform != "linux", reason="the layout is Linux's")


@linux
def test_packets_with_data_are_counted_and_the_congestion_control_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(3):
            sock.sendall(b"x")
        signs = tcp.read_signs(sock)

    assert signs is not None
    assert (signs.sent, signs.sent_again, signs.congestion) == (3, 0, "reno")


def test_a_socket_that_is_not_connected_tells_nothing() -> None:
    with socket.socket() as sock:
        assert tcp.read_signs(sock) is None


def test_controls_are_those_of_the_host_and_none_where_it_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "_SETTINGS", tmp_path)
    assert tcp.read_controls() == tcp.Controls(available=(), allowed=())

    (tmp_path / "tcp_available_congestion_control").write_text("reno bbr cubic\n")
    (tmp_path / "tcp_allowed_congestion_control").write_text("reno\n")
    assert tcp.read_controls() == tcp.Controls(available=("reno", "bbr", "cubic"), allowed=("reno",))
