"""The pool of connections, on virtual time and with connections that are none."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import cast

import anyio
import pytest

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.sftp.connection import Connection
from asyncdup.backends.sftp.ssh_pool import Pool, connections_for
from asyncdup.backends.sftp.ssh_socket import tune
from asyncdup.backends.tcp import read_signs
from asyncdup.errors import OperatorError, PermanentError, RetryableError


class FakeConnection:
    def __init__(self) -> None:
        self.ops = 0
        self.unanswered = 0
        self.lost = False
        self.ended = False
        self.losing = False

    def signs(self) -> LinkSigns:
        """The more packets are lost the later it is, if ``losing``."""
        return LinkSigns(window=100_000, rtt=0.1, least_rtt=0.1, sent_again=int(10 * anyio.current_time()) if self.losing else 0)

    def give_up(self) -> None:
        self.lost = True

    def abort(self) -> None:
        self.ended = True

    async def aclose(self) -> None:
        self.ended = True


class Dialler:
    """Counts; a dial takes a second; ``refuse`` says which of them fail (by number, from 1)."""

    def __init__(self, refuse: Callable[[int], Exception | None] = lambda number: None) -> None:
        self.dialled = 0
        self.at_once = 0
        self.most_at_once = 0
        self.takes = 1.0  # seconds
        self.made: list[FakeConnection] = []
        self._refuse = refuse

    async def __call__(self) -> Connection:
        self.dialled += 1
        number = self.dialled
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await anyio.sleep(self.takes)
        finally:
            self.at_once -= 1
        error = self._refuse(number)
        if error is not None:
            raise error
        self.made.append(FakeConnection())
        return cast(Connection, self.made[-1])


async def use(pool: Pool, seconds: float = 1, *, brief: bool = False) -> None:
    async with pool.acquire(brief=brief):
        await anyio.sleep(seconds)


async def use_at_once(pool: Pool, count: int, seconds: float = 10) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(use, pool, seconds)


def refused(_: int = 0) -> RetryableError:
    return RetryableError("connection refused", scope="lane")


async def test_one_call_after_another_needs_one_connection() -> None:
    dialler = Dialler()
    pool = Pool(dialler, limit=5)
    for _ in range(10):
        await use(pool)

    assert dialler.dialled == 1


async def test_calls_at_once_get_a_connection_each_up_to_the_limit_and_share_beyond() -> None:
    dialler = Dialler()
    pool = Pool(dialler, limit=4)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(use, pool, 10)
        await anyio.sleep(2)
        loads = [connection.ops for connection in dialler.made]

    assert (dialler.dialled, sorted(loads)) == (4, [2, 2, 3, 3])
    assert pool.statistics().ops == 0


async def test_a_brief_call_rides_on_a_busy_connection() -> None:
    dialler = Dialler()
    pool = Pool(dialler, limit=4)
    async with pool.acquire():
        await use(pool, brief=True)

    assert dialler.dialled == 1


async def test_no_more_than_eight_are_dialled_at_once() -> None:
    """performance, section 10.2: sshd's MaxStartups."""
    dialler = Dialler()
    await use_at_once(Pool(dialler, limit=20), 20)

    assert dialler.most_at_once == 8


async def test_a_refused_extra_connection_is_no_error_and_the_ceiling_comes_back_after_a_minute() -> None:
    dialler = Dialler(lambda number: refused() if number in (3, 4) else None)
    pool = Pool(dialler, limit=4)

    await use_at_once(pool, 4)
    assert (pool.statistics().connections, pool.statistics().ceiling) == (2, 2)
    await use_at_once(pool, 4)
    assert dialler.dialled == 4
    for ceiling in (3, 4, 4):
        await anyio.sleep(61)
        await use_at_once(pool, 4)
        assert (pool.statistics().connections, pool.statistics().ceiling) == (ceiling, ceiling)


async def test_a_server_that_is_down_is_told_to_all_callers_after_one_dial_each() -> None:
    dialler = Dialler(lambda number: refused() if number <= 3 else None)
    pool = Pool(dialler, limit=3)
    errors: list[Exception] = []

    async def attempt(delay: float) -> None:
        await anyio.sleep(delay)
        try:
            await use(pool)
        except RetryableError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for delay in (0, 0.1, 0.2):
            tasks.start_soon(attempt, delay)

    assert (len(errors), dialler.dialled) == (3, 3)
    await use_at_once(pool, 3)
    assert pool.statistics().connections == 3


async def test_a_refused_first_connection_waits_for_the_one_that_is_being_dialled() -> None:
    dialler = Dialler(lambda number: refused() if number == 1 else None)
    pool = Pool(dialler, limit=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use, pool, 10)
        await anyio.sleep(0.5)
        tasks.start_soon(use, pool, 10)

    assert (dialler.dialled, pool.statistics().connections) == (2, 1)


async def test_what_needs_an_operator_is_an_error_even_of_an_extra_connection() -> None:
    dialler = Dialler(lambda number: OperatorError("host key") if number == 2 else None)
    pool = Pool(dialler, limit=2)
    async with pool.acquire():
        with pytest.raises(OperatorError):
            await use(pool)


async def test_a_lost_connection_is_dealt_out_no_more_and_ends_with_its_last_call() -> None:
    dialler = Dialler()
    pool = Pool(dialler, limit=1)
    async with AsyncExitStack() as first:
        await first.enter_async_context(pool.acquire())
        dialler.made[0].lost = True
        await use(pool)
        assert not dialler.made[0].ended

    assert dialler.made[0].ended
    assert not dialler.made[1].ended
    assert (dialler.dialled, pool.statistics().connections) == (2, 1)


async def test_a_cancelled_dial_leaves_no_trace() -> None:
    dialler = Dialler()
    pool = Pool(dialler, limit=1)
    with anyio.move_on_after(0.5):
        await use(pool)
    assert pool.statistics().dialling == 0

    await use(pool)
    assert pool.statistics().connections == 1


async def test_closing_ends_all_connections_and_what_is_being_dialled() -> None:
    dialler = Dialler()
    pool = Pool(dialler, limit=2)
    await use(pool)
    async with anyio.create_task_group() as tasks:

        async def late() -> None:
            async with pool.acquire():
                with pytest.raises(PermanentError):
                    await use(pool)

        tasks.start_soon(late)
        await anyio.sleep(0.5)
        await pool.aclose()
        await pool.aclose()

    assert [connection.ended for connection in dialler.made] == [True, True]


@pytest.mark.parametrize(
    ("concurrency", "expected"), [(None, (8, 1 << 20)), (0, (1, 2 << 20)), (1, (1, 2 << 20)), (5, (5, 1 << 20)), (99, (8, 1 << 20))]
)
def test_connections_follow_the_concurrency_up_to_eight(concurrency: int | None, expected: tuple[int, int]) -> None:
    assert connections_for(concurrency) == expected


async def test_t6_dropped_connections_are_not_dealt_out_again() -> None:
    """Idle ones are cut at once, busy ones when their call has ended."""
    dialler = Dialler()
    pool = Pool(dialler, limit=2)
    await use_at_once(pool, 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use, pool, 10)
        await anyio.sleep(1)
        pool.drop()
        assert sorted(connection.ended for connection in dialler.made) == [False, True]
        await use(pool)
        assert dialler.dialled == 3

    assert [connection.ended for connection in dialler.made] == [True, True, False]
    assert pool.statistics().connections == 1


async def send_for(pool: Pool, seconds: float, *, left: int = 1 << 30) -> None:
    async with pool.acquire(), pool.growing() as look:
        for _ in range(round(seconds / 0.1)):
            look(left)
            await anyio.sleep(0.1)


async def lossy_pool(dialler: Dialler, *, limit: int = 8) -> Pool:
    pool = Pool(dialler, limit=limit)
    await use_at_once(pool, limit)
    for connection in dialler.made:
        connection.losing = True
    return pool


async def test_where_packets_are_lost_eight_more_are_dialled_at_a_time_up_to_thirty_two() -> None:
    """performance, section 10.2."""
    dialler = Dialler()
    pool = await lossy_pool(dialler)
    await send_for(pool, 1.8)
    assert (pool.statistics().connections, dialler.most_at_once) == (16, 8)
    await send_for(pool, 20)

    assert (pool.statistics().connections, dialler.most_at_once) == (32, 8)


async def test_without_loss_or_with_little_left_no_more_are_dialled() -> None:
    dialler = Dialler()
    pool = Pool(dialler, limit=8)
    await use_at_once(pool, 8)
    await send_for(pool, 20)
    for connection in dialler.made:
        connection.losing = True
    await send_for(pool, 20, left=1000)

    assert pool.statistics().connections == 8


async def test_one_connection_that_was_asked_for_stays_one() -> None:
    dialler = Dialler()
    await send_for(await lossy_pool(dialler, limit=1), 20)

    assert dialler.dialled == 1


async def test_more_that_are_refused_end_the_growth_and_fail_nothing() -> None:
    dialler = Dialler(lambda number: refused() if number > 10 else None)
    pool = await lossy_pool(dialler)
    await send_for(pool, 20)

    assert (pool.statistics().connections, dialler.dialled) == (10, 16)


async def test_an_upload_that_is_done_waits_two_seconds_at_most_for_more_connections() -> None:
    dialler = Dialler()
    pool = await lossy_pool(dialler)
    began = anyio.current_time()
    dialler.takes = 60.0
    await send_for(pool, 1.5)

    assert dialler.dialled == 16
    assert anyio.current_time() - began == pytest.approx(3.5)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the platform has no such option")
def test_t4_a_peer_that_is_gone_is_noticed_by_the_kernel() -> None:
    with socket.socket() as tcp:
        tune(tcp, 60.0)

        told = [tcp.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in OPTIONS]

    assert told == [60_000, 15, 15, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux paces when it is told a highest rate")
def test_the_kernel_spreads_what_it_sends_and_no_rate_is_limited() -> None:
    with socket.socket() as tcp:
        tune(tcp, 60.0)

        assert tcp.getsockopt(socket.SOL_SOCKET, 47) == (1 << 31) - 1  # SO_MAX_PACING_RATE


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="the platform has no such option")
def test_congestion_control_is_the_users_choice_and_one_that_is_not_there_fails_nothing() -> None:
    with socket.socket() as tcp:
        before = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)

        tune(tcp, 60.0, congestion="nosuchcontrol")
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16) == before
        tune(tcp, 60.0, congestion="reno")  # the one that every kernel has and allows
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"


def test_what_is_no_tcp_socket_is_left_alone() -> None:
    """Through a ProxyCommand there is none at all."""
    tune(None, 60.0)
    with socket.socket(socket.AF_UNIX) as unix:
        tune(unix, 60.0, congestion="reno")


@pytest.mark.skipif(sys.platform != "linux", reason="the layout is Linux's")
def test_what_the_kernel_knows_of_a_path() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as tcp:
        path = read_signs(tcp)

    assert path is not None
    assert path.window >= 500
    assert 0 < path.least_rtt <= path.rtt < 5
    assert path.sent_again == 0


def test_of_what_is_no_tcp_socket_no_path_is_known() -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        assert (read_signs(unix), read_signs(None)) == (None, None)


OPTIONS = ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
