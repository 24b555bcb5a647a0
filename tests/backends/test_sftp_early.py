"""Connections that are begun before ssh is loaded: taken over while they are fresh, closed otherwise, and whatever goes wrong is not told."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.sftp import early, opening
from asyncdup.backends.sftp.early import EarlyDial

pytestmark = pytest.mark.realtime


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test but those about it depends on time."""
    monkeypatch.setattr(early, "_KEPT", 60.0)
    monkeypatch.setattr(early, "_PATIENCE", 60.0)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Lets everybody connect, and accepts when the test does."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(20)
        yield sock


def dial(listener: socket.socket, count: int) -> EarlyDial:
    host, port = listener.getsockname()
    return EarlyDial(host, port, count)


def accepted(listener: socket.socket, stack: ExitStack, count: int) -> list[socket.socket]:
    servers = [stack.enter_context(closing(listener.accept()[0])) for _ in range(count)]
    for server in servers:
        server.settimeout(20)
    return servers


def all_ended(servers: list[socket.socket]) -> bool:
    """Whether the other end of each closes: what would hang is caught by the time limit."""
    return all(server.recv(1) == b"" for server in servers)


async def never(sock: Any) -> None:
    await anyio.sleep_forever()


async def test_as_many_as_were_asked_for_are_up_when_they_are_taken(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_KEPT", 60.0)
    monkeypatch.setattr(early, "_PATIENCE", 60.0)
    dialled = dial(listener, 2)
    for _ in range(2):
        sock = await dialled.take()
        assert sock is not None
        with closing(sock), closing(listener.accept()[0]) as server:
            sock.send(b"x")
            assert server.recv(1) == b"x"

    assert await dialled.take() is None


async def test_what_nobody_takes_is_closed(listener: socket.socket) -> None:
    dialled = dial(listener, 3)
    with ExitStack() as stack:
        servers = accepted(listener, stack, 3)
        taken = await dialled.take()
        assert taken is not None
        dialled.close()
        peer = next(server for server in servers if server.getpeername() == taken.getsockname())
        servers.remove(peer)
        assert all_ended(servers)
        taken.close()
        assert all_ended([peer])
    assert await dialled.take() is None


async def test_what_nobody_can_ask_for_any_more_is_closed(listener: socket.socket) -> None:
    """An embedding program may drop a backend without using or closing it."""
    dialled = dial(listener, 2)
    with ExitStack() as stack:
        servers = accepted(listener, stack, 2)
        del dialled
        gc.collect()
        assert all_ended(servers)


async def test_what_nobody_asks_for_in_time_is_closed(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server lets few wait that have not logged in."""
    monkeypatch.setattr(early, "_KEPT", 0.0)
    dialled = dial(listener, 1)
    for each in threading.enumerate():
        if each.name == "asyncdup-early":
            each.join(20)

    assert await dialled.take() is None


async def test_what_is_refused_is_not_told(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    listener.close()

    assert await EarlyDial(host, port, 2).take() is None


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("label too long")])
async def test_a_name_without_an_address_is_not_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", none)

    assert await EarlyDial("nowhere.invalid", 22, 1).take() is None


async def test_nothing_is_begun_once_it_is_closed(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        asked.set()
        answer.wait(20)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    others = set(threading.enumerate())
    dialled = dial(listener, 1)
    asked.wait(20)
    dialled.close()
    assert await dialled.take() is None
    [dialling] = {each for each in threading.enumerate() if each.name == "asyncdup-early"} - others
    answer.set()
    dialling.join(20)

    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_a_cancelled_taker_leaks_nothing(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "wait_writable", never)
    dialled = dial(listener, 1)
    with ExitStack() as stack:
        servers = accepted(listener, stack, 1)
        with anyio.move_on_after(0.01):
            await dialled.take()
        dialled.close()
        assert all_ended(servers)


async def test_who_asks_has_some_patience_only(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "wait_writable", never)
    monkeypatch.setattr(early, "_PATIENCE", 0.01)
    dialled = dial(listener, 2)
    with ExitStack() as stack:
        servers = accepted(listener, stack, 2)
        assert await dialled.take() is None
        assert all_ended(servers)


# Where it is dialled


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int, int]]:
    """What would be dialled early: host, port, how many."""
    seen: list[tuple[str, int, int]] = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(opening, "EarlyDial", lambda *args: seen.append(args))
    return seen


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("sftp://u@host/x", BackendOptions(), ("host", 22, 1)),
        ("sftp://[::1]:2222/x", BackendOptions(concurrency=3), ("::1", 2222, 3)),
        ("sftp://host/x", BackendOptions(concurrency=64), ("host", 22, 8)),
        ("sftp://host/x", BackendOptions(concurrency=8, expected=1), ("host", 22, 1)),
        ("sftp://host/x", BackendOptions(ssh_options=("-i /key -l me -oUserKnownHostsFile=/x -q",)), ("host", 22, 1)),
    ],
)
def test_as_many_as_the_first_calls_need(
    url: str, options: BackendOptions, expected: tuple[str, int, int], dials: list[tuple[str, int, int]]
) -> None:
    open_backend(url, options)

    assert dials == [expected]


@pytest.mark.parametrize(
    "given",
    ["-p 23", "-4", "-b 10.0.0.1", "-J jump", "-oHostname=x", "-oProxyCommand='nc %h %p'", "-oCanonicalizeHostname=yes", "-F /not/there"],
)
def test_nothing_is_dialled_early_where_options_lead_elsewhere(given: str, dials: list[Any]) -> None:
    open_backend("sftp://host/x", BackendOptions(ssh_options=(given,)))

    assert dials == []


@pytest.mark.parametrize(
    ("line", "straight"),
    [
        ("Host *\n  User me\n  HostKeyAlias x\n  IdentityFile ~/.ssh/id\n", True),
        ("# Port 23\n", True),
        ("Host other\n  HostName 10.0.0.1\n", False),
        ("Host *\n\tport=23\n", False),
        ('"Port" 23\n', False),
        ("Match host x\n", False),
        ("include more\n", False),
        ("Host *\n  AddressFamily inet6\n", False),
        ("Host *\n  BindAddress 10.0.0.1\n", False),
        ("Host *\n  ProxyJump none\n", False),
        ("User me\n" * 200_000, False),
    ],
)
def test_nothing_is_dialled_early_where_the_configuration_file_may_lead_elsewhere(
    line: str, straight: bool, dials: list[Any], tmp_path: Path
) -> None:
    usual, named = tmp_path / ".ssh" / "config", tmp_path / "named"
    usual.parent.mkdir()
    usual.write_text(line)
    open_backend("sftp://host/x", BackendOptions())
    assert bool(dials) is straight

    dials.clear()
    open_backend("sftp://host/x", BackendOptions(ssh_options=("-F none",)))
    assert dials

    dials.clear()
    named.write_text(line)
    open_backend("sftp://host/x", BackendOptions(ssh_options=(f"-F {named}",)))
    assert bool(dials) is straight


@pytest.mark.slow
def test_it_begins_before_ssh_is_loaded() -> None:
    code = "import sys, asyncdup.backends.sftp.opening; print(sorted({'asyncssh', 'cryptography'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
