"""How much to have in flight on one connection. Pure: no clock, no waiting."""

from __future__ import annotations

_LATE = 1.4  # times the fastest answer: what waits longer than this stands in a queue, and everything else on the connection behind it
_SLACK = 0.02  # seconds that an answer may be late because a machine is busy
_LEAST = 2  # blocks: fewer, and the connection is silent between an answer and the next block
_WINDOWS = 2  # of the congestion: one on its way, another whose answers are on their way back
_WAITING = 128 << 10  # bytes in the kernel beside them, so that it never waits for the next block (performance, section 10.4)


class Depth:
    """Bytes to have in flight: as many as the connection carries in a bit more than a round trip, ``most`` at first and at most.

    More would only wait in a queue, where it can no longer go over another connection, and where the next OPEN or RENAME waits behind it:
    at 100 ms and 1 MiB in flight on each of eight connections these took up to 0.7 s. What is sent follows the congestion window, what is
    asked for, whose window only the server knows, the time that answers take (16 x 8 MiB down, 100 ms: 8.2 s, and 8.7 with 2.5 for ``_LATE``,
    which filled the queue until it dropped packets).
    """

    def __init__(self, most: int) -> None:
        self.bytes = most
        self._most = most
        self._fastest = float("inf")

    def may_send(self, window: int) -> None:
        """The connection's congestion window is ``window`` bytes now.

        Measured (16 x 8 MiB, 8 connections, 100 and 200 ms): one that had lost packets had 1 MiB to carry at 170 KiB a round trip, and
        the next file was opened behind that.
        """
        self.bytes = min(self._most, _WINDOWS * window + _WAITING)

    def answered(self, size: int, took: float, *, block: int) -> None:
        """A block of ``size`` bytes was answered ``took`` seconds after it was sent; ``block``: a whole one."""
        if size < block // 2:
            return
        self._fastest = min(self._fastest, took)
        if took > _LATE * self._fastest + _SLACK:
            self.bytes = max(min(_LEAST * block, self._most), self.bytes - size // 2)
        else:
            self.bytes = min(self._most, self.bytes + size // 2)
