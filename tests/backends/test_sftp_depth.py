"""What is in flight on a connection follows what it carries (performance, section 10.1)."""

from __future__ import annotations

import pytest

from asyncdup.backends.sftp.depth import Depth

BLOCK = 128 << 10
MOST = 8 * BLOCK


def settle(rate: float, rtt: float, *, steps: int = 300, depth: Depth | None = None) -> Depth:
    """A connection of ``rate`` blocks/s that is always kept full: an answer takes the round trip, or what stands before it."""
    depth = depth or Depth(MOST)
    depth.answered(BLOCK, rtt + 1 / rate, block=BLOCK)
    for _ in range(steps):
        depth.answered(BLOCK, max(rtt + 1 / rate, depth.bytes / BLOCK / rate), block=BLOCK)
    return depth


@pytest.mark.parametrize(("rate", "rtt"), [(10, 0.1), (25, 0.1), (5, 0.2), (200, 0.001), (3, 0.02)])
def test_a_connection_is_kept_busy_and_no_answer_waits_long(rate: float, rtt: float) -> None:
    blocks = settle(rate, rtt).bytes / BLOCK

    assert blocks >= min(8, rate * rtt, 2)
    assert blocks >= min(8, 1.5 * rate * rtt)
    assert blocks / rate <= max(1.5 * (rtt + 1 / rate) + 0.02 + 1 / rate, 2 / rate)


def test_a_fast_connection_has_the_most() -> None:
    assert settle(1000, 0.1).bytes == MOST


def test_a_connection_that_becomes_faster_is_given_more_again() -> None:
    slow = settle(5, 0.1)
    before = slow.bytes

    assert settle(100, 0.1, depth=slow, steps=30).bytes >= 2 * before


def test_the_last_small_block_says_nothing() -> None:
    depth = settle(10, 0.1)
    before = depth.bytes
    depth.answered(10, 0.001, block=BLOCK)
    depth.answered(BLOCK, 0.2, block=BLOCK)

    assert depth.bytes >= before


@pytest.mark.parametrize(("window", "blocks"), [(14 << 10, 1), (170 << 10, 3), (300 << 10, 5), (5 << 20, 8)])
def test_what_is_sent_follows_the_congestion_window(window: int, blocks: int) -> None:
    depth = settle(1000, 0.1)
    depth.may_send(window)

    assert depth.bytes // BLOCK == blocks
