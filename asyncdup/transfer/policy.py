"""How long to wait and when to give up (engine rules B1-B5, C8): plain functions of numbers, without a clock."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

from asyncdup.transfer.failure import Failure

Mode: TypeAlias = Literal["fail", "wait", "intervention"]

_MAX_DOUBLINGS = 60  # 2**60 base intervals are beyond any cap; more would overflow a float one day


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again after ``delay`` seconds.

    ``firm``: the server asked for that time, so nothing may shorten it (B2). ``at_gate``: the gate counts the delay, for all ops of the lane.
    ``endless``: every other mode would have given up.
    """

    delay: float
    firm: bool = False
    at_gate: bool = False
    endless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Enough. ``hold``: wait for the operator instead of failing (mode ``intervention``)."""

    hold: bool


@dataclass(slots=True)
class Streak:
    """The failures of an op or a lane since its last success or durable progress (B4).

    ``since`` is the instant of the first attempt of the streak, ``held`` what the gate had by then spent waiting for the operator or in a
    pause: that time does not count as elapsed (B5).

    An op's failures that count on its lane (B1) are noted beside: ``first`` is the instant of the first one, with what was held by then, and
    ``outlived`` says after how many of them others of the lane succeeded before the op failed in that way again.
    """

    failures: int = 0
    since: float = 0.0
    held: float = 0.0
    first: tuple[float, float] | None = None
    outlived: int = 0
    successes: int = 0  # of the lane, when the op had its newest failure

    def begin(self, now: float, held: float) -> None:
        """Start anew at ``now``."""
        self.failures, self.since, self.held = 0, now, held

    def elapsed(self, now: float, held: float) -> float:
        """Seconds of the streak that count (B5)."""
        return now - self.since - (held - self.held)

    def note(self, now: float, held: float, successes: int) -> None:
        """The op has failed, and it counts on the lane, which had so many ``successes`` until now."""
        if self.first is None:
            self.first = now, held
        else:
            self.outlived += successes > self.successes
        self.successes = successes

    def lasting(self, now: float, held: float) -> float:
        """Seconds since the first failure that was noted, as far as they count (B5)."""
        since, held_then = self.first or (now, held)
        return now - since - (held - held_then)

    def forget(self) -> None:
        """Nothing is noted any more: durable progress, or the operator's resume."""
        self.first, self.outlived = None, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again and when to stop. All durations in seconds.

    Attributes:
        mode: what giving up means (G5): raise the root cause, keep probing slowly for ever, or wait for the operator.
        max_attempts: attempts of a streak, 0 = no limit; one retry is always made (B3).
        max_elapsed: length of a streak without success or durable progress.
        base, cap: the sleep before attempt k+1 is uniform between 0 and ``min(cap, base * 2**(k-1))`` (B1).
        max_retry_after: a server that asks for a longer pause is given up on (B2).
        attempt_timeout: limit of one attempt, whatever its progress.
        stall_timeout: limit of the time in which no byte moves while we wait for the transport (T1).
        response_timeout: limit from the last byte of a request to the first of its response (T3).
        min_rate: bytes/s; an attempt whose bytes move more slowly than that for ``stall_timeout`` has stalled (T3). 0 = off.
        delay: fixed mode, the mean sleep between attempts.
    """

    mode: Mode = "fail"
    max_attempts: int = 0
    max_elapsed: float = 900.0
    base: float = 0.5
    cap: float = 30.0
    max_retry_after: float = 900.0
    attempt_timeout: float | None = None
    stall_timeout: float = 60.0
    response_timeout: float = 120.0
    min_rate: float = 0.0
    delay: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("fail", "wait", "intervention"):
            raise ValueError(f"unknown mode {self.mode!r}: fail, wait or intervention")
        if self.max_attempts < 0:
            raise ValueError(f"max_attempts is {self.max_attempts}, but 0 (no limit) is the least")
        durations = (
            self.max_elapsed,
            self.base,
            self.cap,
            self.max_retry_after,
            self.attempt_timeout,
            self.stall_timeout,
            self.response_timeout,
        )
        if any(value is not None and not value >= 0 for value in (*durations, self.delay)):
            raise ValueError("a duration of the retry policy is negative or not a number")
        if not 0 <= self.min_rate < math.inf:
            raise ValueError(f"min_rate is {self.min_rate}, but 0 (off) is the least, and a number of bytes a second")

    @classmethod
    def fixed(cls, num_retries: int, delay: float = 30.0, *, mode: Mode = "fail", timeout: float = 60.0) -> RetryPolicy:
        """``--num-retries N --backend-retry-delay D --timeout S``: N attempts about ``delay`` seconds apart, however long that takes."""
        return cls(
            mode=mode, max_attempts=num_retries, max_elapsed=math.inf, delay=delay, stall_timeout=timeout, response_timeout=2 * timeout
        )

    @property
    def slow(self) -> float:
        """The longest sleep between probes in mode ``wait`` (G5)."""
        return self.cap * 10

    def decide(self, failures: int, elapsed: float, failure: Failure, rng: random.Random) -> Retry | GiveUp:
        """What follows the ``failures``-th failure of a streak that is ``elapsed`` old."""
        if failure.operator:
            exhausted = True  # C8: retrying is useless until a person acts
        elif failure.retry_after is not None and failure.retry_after > min(self.max_retry_after, max(0.0, self.max_elapsed - elapsed)):
            exhausted = True  # B2: not even worth a sleep
        else:
            exhausted = failures > 1 and (0 < self.max_attempts <= failures or elapsed >= self.max_elapsed)  # B3
        if not exhausted:
            return self._retry(failures, failure, rng)
        if self.mode != "wait":
            return GiveUp(hold=self.mode == "intervention")
        patient = self.slow if self.delay is None else self.delay
        delay = max(rng.uniform(patient / 2, patient), failure.retry_after or 0.0)
        return Retry(delay=delay, firm=failure.retry_after is not None, endless=True)

    def _retry(self, failures: int, failure: Failure, rng: random.Random) -> Retry:
        if failure.retry_after is not None:
            asked = failure.retry_after
            return Retry(delay=asked + rng.uniform(0, min(self.cap, self.base + asked / 10)), firm=True)
        if self.delay is not None:
            return Retry(delay=rng.uniform(0.75, 1.25) * self.delay * (3 if failure.throttle else 1))
        base = max(self.base, 1.0) if failure.throttle else self.base
        longest = min(self.cap, base * 2 ** min(failures - 1, _MAX_DOUBLINGS))
        return Retry(delay=rng.uniform(longest / 2 if failure.throttle else 0.0, longest))
