"""Delays and giving up, as plain functions (B1-B5, C8)."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncdup.transfer import RetryPolicy
from asyncdup.transfer.failure import Failure
from asyncdup.transfer.policy import GiveUp, Retry, Streak


def failure(**options: object) -> Failure:
    return Failure(error=OSError(), root=OSError(), **options)


class Edge(random.Random):
    """``uniform`` gives one of its ends."""

    def __init__(self, *, high: bool) -> None:
        super().__init__(0)
        self.high = high

    def uniform(self, a: float, b: float) -> float:
        return b if self.high else a


LOW, HIGH = Edge(high=False), Edge(high=True)


def delays(policy: RetryPolicy, failed: Failure, failures: int, elapsed: float = 0.0) -> tuple[float, float]:
    low, high = (policy.decide(failures, elapsed, failed, rng) for rng in (LOW, HIGH))
    assert isinstance(low, Retry) and isinstance(high, Retry)
    return low.delay, high.delay


@pytest.mark.parametrize(("failures", "highest"), [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (500, 30), (5000, 30)])
def test_b1_full_jitter_between_nothing_and_a_doubling_cap(failures: int, highest: float) -> None:
    assert delays(RetryPolicy(), failure(), failures) == (0, highest)


@pytest.mark.parametrize(("failures", "lowest", "highest"), [(1, 0.5, 1), (2, 1, 2), (9, 15, 30)])
def test_b1_equal_jitter_after_a_throttle(failures: int, lowest: float, highest: float) -> None:
    assert delays(RetryPolicy(), failure(throttle=True), failures) == (lowest, highest)


def test_b1_fixed_mode_stays_near_its_delay_and_triples_after_a_throttle() -> None:
    policy = RetryPolicy.fixed(5, 30)

    assert delays(policy, failure(), 4) == (22.5, 37.5)
    assert delays(policy, failure(throttle=True), 1) == (67.5, 112.5)
    assert policy.max_elapsed == math.inf and policy.max_attempts == 5


def test_t3_the_timeout_option_sets_both_clocks() -> None:
    policy = RetryPolicy.fixed(5, 30, timeout=20)

    assert (policy.stall_timeout, policy.response_timeout) == (20, 40)


@given(st.floats(0, 900), st.integers(1, 50), st.integers(0, 2**32))
def test_b2_never_sooner_than_the_server_asks(asked: float, failures: int, seed: int) -> None:
    verdict = RetryPolicy().decide(failures, 0.0, failure(retry_after=asked), random.Random(seed))

    assert isinstance(verdict, Retry) and verdict.firm
    assert asked <= verdict.delay <= asked + min(30, 0.5 + asked / 10)


@pytest.mark.parametrize(("asked", "elapsed"), [(901, 0), (500, 401)])
def test_b2_too_long_a_wait_is_given_up_on_at_once(asked: float, elapsed: float) -> None:
    assert RetryPolicy().decide(1, elapsed, failure(retry_after=asked), LOW) == GiveUp(hold=False)


def test_b3_attempts_or_age_end_a_streak() -> None:
    assert isinstance(RetryPolicy(max_attempts=3).decide(2, 0, failure(), LOW), Retry)
    assert RetryPolicy(max_attempts=3).decide(3, 0, failure(), LOW) == GiveUp(hold=False)
    assert isinstance(RetryPolicy(max_elapsed=10).decide(9, 9.9, failure(), LOW), Retry)
    assert RetryPolicy(max_elapsed=10).decide(9, 10, failure(), LOW) == GiveUp(hold=False)


@pytest.mark.parametrize("policy", [RetryPolicy(max_attempts=1), RetryPolicy(max_elapsed=0)])
def test_b3_one_retry_is_always_made(policy: RetryPolicy) -> None:
    assert isinstance(policy.decide(1, 5000, failure(), LOW), Retry)
    assert isinstance(policy.decide(2, 5000, failure(), LOW), GiveUp)


def test_b5_time_in_the_operators_hands_does_not_count() -> None:
    streak = Streak()
    streak.begin(now=100, held=7)

    assert streak.elapsed(now=160, held=47) == 20


def test_c8_an_operator_error_is_final_at_once_in_mode_fail() -> None:
    assert RetryPolicy().decide(1, 0, failure(operator=True), LOW) == GiveUp(hold=False)


def test_c8_an_operator_error_closes_the_gate_at_once_in_the_other_modes() -> None:
    assert RetryPolicy(mode="intervention").decide(1, 0, failure(operator=True), LOW) == GiveUp(hold=True)
    assert delays(RetryPolicy(mode="wait"), failure(operator=True), 1) == (150, 300)


def test_g5_mode_wait_never_gives_up_and_probes_at_most_every_ten_caps() -> None:
    policy = RetryPolicy(mode="wait", max_attempts=3)

    assert delays(policy, failure(), 2)[1] == 1
    assert delays(policy, failure(), 3) == (150, 300)
    assert delays(policy, failure(retry_after=5000), 3) == (5000, 5000)


@pytest.mark.parametrize(
    "options", [{"mode": "skip"}, {"max_attempts": -1}, {"base": -1}, {"max_elapsed": math.nan}, {"delay": -3}, {"min_rate": -1}]
)
def test_senseless_policies_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="policy|mode|max_attempts|min_rate"):
        RetryPolicy(**options)
