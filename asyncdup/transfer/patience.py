"""What a lane knows of its gets: how long they take, and what second attempts at late ones may cost (engine rules H1, H2)."""

from __future__ import annotations

import math
from collections import defaultdict, deque

LEAST = 1.0  # seconds: nothing is late before
LATE = 0.95  # of the gets of its size class were over by then
NEWEST = 100  # gets of a class that count
ENOUGH = 10  # of them before anything is known
SHARE = 0.05  # of requests, and of bytes, that second attempts may be
BURST = 2  # second attempts beyond that


class Patience:
    """Of one lane, over all that is read from it. Size classes are powers of two."""

    def __init__(self) -> None:
        self._seconds: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=NEWEST))
        self._gets = 0
        self._bytes = 0
        self._credit = float(BURST)  # second attempts that may be made now; never more than BURST: none are saved up for a bad hour
        self._spent = 0  # bytes

    def note(self, size: int, seconds: float) -> None:
        """A get of ``size`` bytes is over, ``seconds`` after its first attempt began."""
        self._seconds[size.bit_length()].append(seconds)
        self._gets += 1
        self._bytes += size
        self._credit = min(BURST, self._credit + SHARE)

    def lasts(self, size: int) -> float:
        """Seconds after which a get of ``size`` bytes is late; without end while too little is known."""
        known = sorted(self._seconds[size.bit_length()])
        if len(known) < ENOUGH:
            return math.inf
        return max(LEAST, known[math.ceil(LATE * len(known)) - 1])

    def affords(self, size: int) -> bool:
        """Whether the budget has a request and ``size`` bytes left (H2)."""
        mean = self._bytes / max(1, self._gets)
        return self._credit >= 1 and self._spent + size <= SHARE * self._bytes + BURST * mean

    def spend(self, size: int) -> None:
        """A second attempt begins. It is paid for whole, whoever wins: the loser has moved as much at most."""
        self._credit -= 1
        self._spent += size
