"""How many transfers at once, found out by trying: what ``--concurrency auto`` decides (engine rules A1-A7). No clock, no tasks here.

The signal is goodput, the bytes that arrive in a window of time, and not latency, which a queue on the way hides or inflates. A change of the
number of transfers is worth it if goodput changes by at least a fifth of what it would if it were in proportion.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

MOST: Final = 64  # transfers at once, whatever else allows (A7)
START: Final = 8  # transfers at once to begin with (A2)
FROM_STORE: Final = 16  # the same from an object store, where each has a connection of its own: one that came later would begin slowly
AHEAD: Final = 4 << 20  # bytes: small objects, which are all round trips, are searched for from as many as hold so much together

PATIENCE: Final = 10  # windows before the search: a run that is through by then would pay for it and have nothing of it (A2)
_WORTH: Final = 0.2  # share of a proportional gain that a change upwards has to bring (A2)
_AS_GOOD: Final = 0.985  # of the goodput, that a change downwards may leave (A3)
_NOISE: Final = 0.03  # at most so much less is put down to chance
_UP: Final = 1.25
_DOWN: Final = 0.75
_HOLD: Final = 6  # windows of rest before a try; doubled by each refusal (A3)
_LONGEST_HOLD: Final = 48
_MEMORY: Final = 8  # windows at the same limit that a new one is compared with (A4)
_ANOTHER_PATH: Final = 0.3  # relative change of goodput
_THROTTLE_CUT: Final = 0.7  # (A5)
_THROTTLE_REST: Final = 4  # windows until the next cut
_CEILING: Final = 0.9
_CEILING_HOLDS: Final = 30  # windows


class Window(NamedTuple):
    """What was seen for ``seconds``. ``held_up``: by something else than the number of transfers, so it proves nothing (A6)."""

    seconds: float
    bytes: int
    held_up: bool = False


class Controller:
    """The number of transfers of one lane in one direction.

    Args:
        start: transfers at once to begin with.
        most: transfers at once that backend and memory allow.
        rtt: seconds of a round trip; ``window`` follows it.

    Attributes:
        limit: how many there should be now.
    """

    def __init__(self, *, start: int = START, most: int = MOST, rtt: float = 0.0) -> None:
        self.rtt = rtt
        self._most = max(1, min(most, MOST))
        self._ceiling = float(self._most)
        self._start = start
        self.limit = min(self._most, start)
        self._phase: Callable[[float], None] = self._search
        self._base: tuple[int, float] | None = None  # limit and goodput that a try is compared with
        self._rates: deque[float] = deque(maxlen=_MEMORY)  # of the windows judged at this limit
        self._unsettled = PATIENCE  # windows that are not judged (A1, A2)
        self._noise = 0.0  # by which goodput varies at the same limit, relative
        self._odd = 0  # windows in a row that show another path
        self._held = 0
        self._holds = {_UP: _HOLD, _DOWN: _HOLD}
        self._next_try = _DOWN
        self._windows = 0
        self._cut_at = -math.inf  # window of the last cut

    @property
    def window(self) -> float:
        """Seconds that the next window should last (A1)."""
        return max(1.0, 4 * self.rtt) if self._phase in (self._search, self._midpoint) else max(2.0, 8 * self.rtt)

    def judge(self, window: Window) -> int:
        """Look at one window; the limit from now on."""
        self._windows += 1
        self._lift_ceiling()
        if self._unsettled:
            self._unsettled -= 1
        elif not window.held_up:
            rate = window.bytes / window.seconds
            self._phase(rate)
        return self.limit

    def found_size(self, size: int) -> int:
        """Objects of at most ``size`` bytes are what is moved now: the limit from now on. Once a window was judged, the search knows better."""
        if self._phase == self._search and self._base is None:
            self._move(max(self._start, AHEAD // max(1, size)))
        return self.limit

    def throttled(self) -> int:
        """The backend asked for fewer requests: the limit from now on (A5)."""
        if self._windows - self._cut_at >= _THROTTLE_REST:
            self._cut_at = self._windows
            self._ceiling = max(1.0, _CEILING * self.limit)
            self._rest(max(1, int(_THROTTLE_CUT * self.limit)))
        return self.limit

    def _lift_ceiling(self) -> None:
        since = self._windows - self._cut_at
        if self._ceiling < self._most and since >= _CEILING_HOLDS and since % _CEILING_HOLDS == 0:
            self._ceiling = min(self._most, max(self._ceiling + 1, _UP * self._ceiling))

    # The phases: each is called with the goodput of a window at the present limit

    def _search(self, rate: float) -> None:
        """Double for as long as it is worth it (A2)."""
        if self._base is None or self._is_worth(rate):
            self._base = self.limit, rate
            if not self._move(2 * self.limit):
                self._rest(self.limit)
            return
        self._phase = self._midpoint
        if not self._move((self._base[0] + self.limit) // 2, above=self._base[0]):
            self._rest(self._base[0])

    def _midpoint(self, rate: float) -> None:
        """Between the last number that was worth it and the first that was not."""
        assert self._base is not None
        self._rest(self.limit if self._is_worth(rate) else self._base[0])

    def _steady(self, rate: float) -> None:
        """Rest; now and then try a few more or fewer, in turn (A3). Search again if the path has changed (A4)."""
        usual = _median(self._rates) if self._rates else rate
        self._odd = self._odd + 1 if abs(rate - usual) > _ANOTHER_PATH * usual else 0
        if self._odd >= 2:
            self._begin_search()
            return
        if not self._odd:
            self._rates.append(rate)
        self._held += 1
        if self._held >= self._holds[self._next_try]:
            self._try(self._next_try)

    def _more(self, rate: float) -> None:
        """A few more were tried."""
        assert self._base is not None
        if self._is_worth(rate):
            self._holds = {_UP: _HOLD, _DOWN: _HOLD}
            self._phase = self._search
            self._search(rate)
        else:
            self._refuse(_UP)

    def _fewer(self, rate: float) -> None:
        """A few fewer were tried, for two windows."""
        assert self._base is not None
        self._rates.append(rate)
        if len(self._rates) < 2:
            return
        if sum(self._rates) / 2 >= (_AS_GOOD - self._noise) * self._base[1]:
            self._holds[_DOWN] = _HOLD
            self._rest(self.limit)
            self._next_try, self._held = _DOWN, _HOLD
        else:
            self._refuse(_DOWN)

    # Moves

    def _is_worth(self, rate: float) -> bool:
        assert self._base is not None
        limit, before = self._base
        return rate - before >= _WORTH * before * (self.limit / limit - 1) and rate > before

    def _begin_search(self) -> None:
        self._phase, self._base, self._odd = self._search, None, 0
        self._holds = {_UP: _HOLD, _DOWN: _HOLD}
        self._rates.clear()

    def _try(self, factor: float) -> None:
        self._held = 0
        self._next_try = _DOWN if factor == _UP else _UP
        usual = _median(self._rates) if self._rates else 0.0
        self._base = self.limit, usual
        self._noise = min(_NOISE, _median(abs(rate - usual) for rate in self._rates) / usual) if usual else 0.0
        wanted = max(self.limit + 1, int(_UP * self.limit)) if factor == _UP else int(_DOWN * self.limit)
        if self._move(wanted):
            self._phase = self._more if factor == _UP else self._fewer

    def _refuse(self, factor: float) -> None:
        assert self._base is not None
        self._holds[factor] = min(_LONGEST_HOLD, 2 * self._holds[factor])
        self._rest(self._base[0])

    def _rest(self, limit: int) -> None:
        self._phase, self._held, self._odd = self._steady, 0, 0
        if not self._move(limit):
            self._rates.clear()

    def _move(self, limit: int, *, above: int = 0) -> bool:
        """Whether the limit changes, to one within the bounds (A7)."""
        limit = max(1, min(limit, int(self._ceiling)))
        if limit == self.limit or limit <= above:
            return False
        self.limit = limit
        self._unsettled = max(1, self._unsettled)
        self._rates.clear()
        return True


def _median(values: Iterable[float]) -> float:
    """As ``statistics.median``, whose import takes 5 ms of each start."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
