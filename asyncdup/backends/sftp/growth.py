"""When more connections than usual carry more: where packets are lost though no queue is full. Pure: no clock, no waiting.

One connection under cubic carries some 5 Mbit/s with 0.1 % of the packets lost at 100 ms, whatever the program; there, connections are the
throughput. Where packets are lost because a queue overflows, more connections would only take from others (performance, section 10.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.tcp import has_queue

_QUIET = 3  # round trips without a queue, before a loss tells of the link: those of a queue that overflowed are mended later
_LOSSES = 2  # packets
_WORTH = 15  # round trips that what is left takes, at least: logging in takes thirteen


class Growth:
    """Looks at all connections of a pool now and then. Their number may change in between: then it begins anew."""

    def __init__(self) -> None:
        self._watched = 0  # connections
        self._quiet_since = 0.0
        self._lost_before: int | None = None

    def wanted(self, signs: Sequence[LinkSigns], *, left: int, now: float) -> bool:
        """Whether there should be more connections than these. True once, then all is looked at anew.

        Args:
            left: bytes that are known to be still to send; now: seconds.
        """
        if not signs:
            return False
        if len(signs) != self._watched or has_queue(signs):
            self._begin(len(signs), now)
            return False
        if now - self._quiet_since < _QUIET * min(sign.least_rtt for sign in signs):
            return False
        lost = sum(sign.sent_again for sign in signs)
        if self._lost_before is None:
            self._lost_before = lost
        if lost - self._lost_before < _LOSSES or left < _WORTH * sum(sign.window for sign in signs):
            return False
        self._begin(len(signs), now)
        return True

    def _begin(self, watched: int, now: float) -> None:
        self._watched = watched
        self._quiet_since = now
        self._lost_before = None
