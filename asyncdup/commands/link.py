"""What a speed test has seen of the link to a storage, and what to set for it. Pure; ``check_backend`` measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.tcp import Controls, has_queue, queue_delay

_NEAR = 0.9  # of the best rate: a level that reaches it is as good, and takes less from others
_LOSSY = 0.0001  # of the packets: at 100 ms such a loss leaves a connection some 14 Mbit/s, at 30 ms three times as much
_PROOF = 3  # packets sent again without a queue; fewer may be chance
_FAR = 0.03  # seconds of a round trip from which a loss is mended slowly
_SHY = frozenset({"cubic", "reno"})  # they take each loss for a queue that has overflowed
_STEADY = "bbr"  # does not
_SEGMENT = 1448  # bytes of a full packet's payload (Ethernet, TCP with timestamps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Bytes per second with so many calls in flight, there and back; None: no object came through in time.

    Attributes:
        sent, sent_again: packets on the way up, of all connections that live; both 0 where the kernel does not tell.
        queue: seconds that packets stood in a queue on the way up, at worst; None: the kernel does not tell.
        queued: whether that is more than a round trip's usual unrest.
    """

    in_flight: int
    up: float | None
    down: float | None
    sent: int = 0
    sent_again: int = 0
    queue: float | None = None
    queued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to set.

    Attributes:
        up, down: transfers at once for backups and restores, the fewest of those tried that are as good as any; None: nothing came through.
        more: more than those that were tried may be better still.
        loss: share of the packets up that were lost where no queue stood; None: too few were for a claim, or the kernel does not tell.
        per_connection: bytes/s that one connection carries with that loss, about; None: the loss costs little, or ``congestion`` is no better.
        congestion: the control that would do better on the sending host; None: the present one will do.
        allowed: everybody may choose it for a connection of this host; else it takes root.
    """

    up: int | None
    down: int | None
    more: bool
    loss: float | None = None
    per_connection: float | None = None
    congestion: str | None = None
    allowed: bool = False


def advise(rates: Sequence[Rates], signs: Sequence[LinkSigns], controls: Controls) -> Advice:
    """What to set after ``rates`` were measured, in the order of calls in flight, over connections of which ``signs`` is known at the end."""
    up, down = _enough(rates, lambda rate: rate.up), _enough(rates, lambda rate: rate.down)
    most, loss = rates[-1].in_flight, _loss(rates)
    advice = Advice(up=up, down=down, more=most > 1 and most in (up, down), loss=loss)
    rtt = min((sign.least_rtt for sign in signs), default=0.0)
    if loss is None or loss < _LOSSY or rtt < _FAR or not any(sign.congestion in _SHY for sign in signs):
        return advice
    return replace(
        advice,
        per_connection=_SEGMENT / rtt * sqrt(1.5 / loss),  # Mathis et al., 1997, which cubic keeps to at such rates (RFC 9438, section 4.3)
        congestion=_STEADY,
        allowed=_STEADY in controls.allowed,
    )


class Watch:
    """Adds up what connections tell while a level runs, as often as they are looked at."""

    def __init__(self, signs: Sequence[LinkSigns]) -> None:
        self._before = _counts(signs)
        self.sent = self.sent_again = 0
        self.queue: float | None = None
        self.queued = False

    def look(self, signs: Sequence[LinkSigns]) -> None:
        """Take ``signs`` of this moment."""
        if not signs:
            return
        sent, again = _counts(signs)
        # A connection that has gone takes its counts along: then they only say "at least".
        self.sent, self.sent_again = max(self.sent, sent - self._before[0]), max(self.sent_again, again - self._before[1])
        self.queue = max(self.queue or 0.0, queue_delay(signs))
        self.queued = self.queued or has_queue(signs)


def _counts(signs: Sequence[LinkSigns]) -> tuple[int, int]:
    return sum(sign.sent for sign in signs), sum(sign.sent_again for sign in signs)


def _enough(rates: Sequence[Rates], rate_of: Callable[[Rates], float | None]) -> int | None:
    best = max((rate_of(rate) or 0.0 for rate in rates), default=0.0)
    return next((rate.in_flight for rate in rates if best and (rate_of(rate) or 0.0) >= _NEAR * best), None)


def _loss(rates: Sequence[Rates]) -> float | None:
    """Where a queue stood it may have overflowed, which says nothing about the link."""
    quiet = [rate for rate in rates if rate.queue is not None and not rate.queued]
    sent, again = sum(rate.sent for rate in quiet), sum(rate.sent_again for rate in quiet)
    if not sent:
        return None
    return None if 0 < again < _PROOF else again / sent
