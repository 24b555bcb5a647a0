"""More connections only where packets are lost and no queue stands (performance, section 10.2)."""

from __future__ import annotations

from collections.abc import Iterable

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.sftp.growth import Growth

RTT = 0.1
LATE = 0.02  # seconds, of a queue
MUCH = 1 << 30


def path(lost: int = 0, *, queue: float = 0.0) -> LinkSigns:
    return LinkSigns(window=100_000, rtt=RTT + queue, least_rtt=RTT, sent_again=lost)


def first(looks: Iterable[list[LinkSigns]], *, left: int = MUCH) -> int | None:
    """The number of the first of ``looks``, one each round trip, after which there should be more connections."""
    growth = Growth()
    return next((number for number, paths in enumerate(looks) if growth.wanted(paths, left=left, now=number * RTT)), None)


def test_loss_without_a_queue_asks_for_more_after_three_quiet_round_trips() -> None:
    assert first([path(lost), path(lost)] for lost in range(100)) in (4, 5)


def test_no_loss_asks_for_nothing() -> None:
    assert first([path(7), path()] for _ in range(100)) is None


def test_loss_with_a_queue_asks_for_nothing() -> None:
    """More connections would only take from others."""
    assert first([path(lost, queue=LATE), path(lost, queue=LATE)] for lost in range(100)) is None


def test_what_a_queue_dropped_and_is_mended_when_it_has_gone_tells_nothing() -> None:
    overflow = [[path(50 * number, queue=LATE)] for number in range(10)]
    mended = [[path(500 + number)] for number in range(3)]

    assert first([*overflow, *mended, *([path(503)] for _ in range(50))]) is None


def test_one_connection_that_thinks_there_is_a_queue_is_outvoted() -> None:
    assert first([path(lost), path(lost), path(queue=LATE)] for lost in range(100)) is not None


def test_nothing_is_dialled_for_what_is_sent_before_it_is_there() -> None:
    assert first(([path(lost)] for lost in range(100)), left=1_000_000) is None


def test_after_a_change_of_the_number_all_is_looked_at_anew() -> None:
    growth = Growth()
    asked = [number for number in range(40) if growth.wanted([path(number)] * (1 + number // 3), left=MUCH, now=number * RTT)]

    assert not asked


def test_where_the_kernel_tells_nothing_nothing_is_asked_for() -> None:
    assert first([] for _ in range(100)) is None
