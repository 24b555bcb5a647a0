"""What is recommended for a link, from what a speed test has seen of it."""

from __future__ import annotations

import pytest

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.tcp import Controls
from asyncdup.commands.link import Advice, Rates, Watch, advise

CONTROLS = Controls(available=("reno", "bbr", "cubic"), allowed=("reno", "cubic"))


def rates(*ups: float | None, down: float | None = 1e6, sent: int = 0, again: int = 0, queued: bool = False) -> list[Rates]:
    """A level for each of ``ups``; the packets are the last one's."""
    levels = [Rates(in_flight=4**number, up=up, down=down, queue=0.0) for number, up in enumerate(ups)]
    levels[-1] = Rates(in_flight=levels[-1].in_flight, up=ups[-1], down=down, sent=sent, sent_again=again, queue=0.0, queued=queued)
    return levels


def signs(*, rtt: float = 0.1, congestion: str = "cubic", queue: float = 0.0, sent: int = 0, again: int = 0) -> LinkSigns:
    return LinkSigns(window=100_000, rtt=rtt + queue, least_rtt=rtt, sent=sent, sent_again=again, congestion=congestion)


@pytest.mark.parametrize(
    ("ups", "expected", "more"),
    [
        ((1e6, 2e6, 2.1e6), 4, False),  # within a tenth of the best
        ((1e6, 1.05e6, 0.3e6), 1, False),
        ((1e6, 3e6, 9e6), 16, True),
        ((1e6,), 1, False),  # one call at a time is all that there is
        ((None, 1e6, None), 4, False),
        ((None, None, None), None, False),
    ],
)
def test_the_fewest_at_once_that_are_as_good_as_any(ups: tuple[float | None, ...], expected: int | None, more: bool) -> None:
    advice = advise(rates(*ups), [], CONTROLS)

    assert (advice.up, advice.down, advice.more) == (expected, 1, more)


@pytest.mark.parametrize(
    ("sent", "again", "queued", "rtt", "congestion", "loss", "better"),
    [
        (10_000, 10, False, 0.1, "cubic", 0.001, "bbr"),
        (10_000, 10, False, 0.1, "reno", 0.001, "bbr"),
        (10_000, 10, False, 0.1, "bbr", 0.001, None),  # it has it already
        (10_000, 10, False, 0.01, "cubic", 0.001, None),  # soon mended
        (10_000, 10, True, 0.1, "cubic", None, None),  # of a queue that overflowed
        (10_000, 2, False, 0.1, "cubic", None, None),  # may be chance
        (100_000, 3, False, 0.1, "cubic", 0.00003, None),  # costs little
        (10_000, 0, False, 0.1, "cubic", 0.0, None),
        (0, 0, False, 0.1, "cubic", None, None),  # the kernel does not tell
    ],
)
def test_another_congestion_control_where_losses_without_a_queue_cost_much(
    sent: int, again: int, queued: bool, rtt: float, congestion: str, loss: float | None, better: str | None
) -> None:
    advice = advise(rates(1e6, sent=sent, again=again, queued=queued), [signs(rtt=rtt, congestion=congestion)], CONTROLS)

    assert (advice.loss, advice.congestion) == (loss, better)
    assert (advice.per_connection is None) is (better is None)


def test_what_a_connection_carries_is_what_was_measured_in_the_lab() -> None:
    """Some 5 Mbit/s at 0.1 % and 100 ms (performance, section 9.2)."""
    advice = advise(rates(1e6, sent=10_000, again=10), [signs()], CONTROLS)

    assert advice.per_connection == pytest.approx(5e6 / 8, rel=0.15)


@pytest.mark.parametrize(("allowed", "expected"), [(("reno", "bbr"), True), (("reno",), False), ((), False)])
def test_the_option_is_named_only_where_everybody_may_use_it(allowed: tuple[str, ...], expected: bool) -> None:
    advice = advise(rates(1e6, sent=10_000, again=10), [signs()], Controls(available=(), allowed=allowed))

    assert advice.allowed is expected


def test_without_signs_nothing_is_said_of_the_link() -> None:
    levels = [Rates(in_flight=1, up=1e6, down=1e6)]

    assert advise(levels, [], CONTROLS) == Advice(up=1, down=1, more=False)


def test_a_watch_counts_what_came_since_it_began_and_remembers_the_worst_queue() -> None:
    watch = Watch([signs(sent=100, again=50)])

    watch.look([signs(sent=110, again=51), signs(sent=5)])
    assert (watch.sent, watch.sent_again, watch.queue, watch.queued) == (15, 1, 0.0, False)
    watch.look([signs(sent=120, again=52, queue=0.02)])  # a connection has gone
    watch.look([signs(sent=130, again=52, queue=0.001)])
    assert (watch.sent, watch.sent_again, watch.queue, watch.queued) == (30, 2, pytest.approx(0.02), True)


def test_a_watch_on_connections_that_tell_nothing_knows_no_queue() -> None:
    watch = Watch([])
    watch.look([])

    assert (watch.sent, watch.queue) == (0, None)
