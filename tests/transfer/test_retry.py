"""call_persistently, with a gate of its own (C1-C8, B4, T0-T3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from asyncdup.errors import InterruptedByOperator, OperatorError, RetryableError
from asyncdup.transfer import Done, Gate, RetryPolicy, call_persistently, current_attempt


class Script:
    """A transaction that raises its errors one after the other, then returns how often it ran. ``at``: the instants of its runs."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> int:
        self.at.append(anyio.current_time())
        if self.errors:
            raise self.errors.pop(0)
        return len(self.at)


def caused(error: RetryableError, cause: BaseException) -> RetryableError:
    error.__cause__ = cause
    return error


async def test_c1_the_first_success_is_returned() -> None:
    txn = Script(RetryableError(), RetryableError())

    assert await call_persistently(txn) == 3


async def test_c2_c3_giving_up_raises_the_root_cause_itself() -> None:
    root = OSError("gone")
    context = ValueError("earlier")
    root.__context__ = context
    txn = Script(*(caused(RetryableError(), root) for _ in range(3)))

    with pytest.raises(OSError, match="gone") as caught:
        await call_persistently(txn, policy=RetryPolicy(max_attempts=3))

    assert caught.value is root
    assert root.__context__ is context and root.__cause__ is None
    assert len(txn.at) == 3


async def test_c4_any_other_exception_propagates_at_once_unchanged() -> None:
    error = TypeError("bug")
    txn = Script(RetryableError(), error)

    with pytest.raises(TypeError) as caught:
        await call_persistently(txn)

    assert caught.value is error and error.__context__ is None and not hasattr(error, "__notes__")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_c5_interrupts_are_not_caught(error: type[BaseException]) -> None:
    """Stepped by hand: a task that ends with one of these takes the loop down."""
    txn = Script(error())

    async def main() -> None:
        with pytest.raises(error):
            await call_persistently(txn)

    anyio.run(main)

    assert len(txn.at) == 1


async def test_c5_a_cancel_ends_a_sleep_at_once_and_no_attempt_follows() -> None:
    txn = Script(*(RetryableError() for _ in range(100)))

    with anyio.move_on_after(40) as scope:
        await call_persistently(txn, policy=RetryPolicy.fixed(50, 30))

    assert scope.cancelled_caught and anyio.current_time() == 40
    assert len(txn.at) == 2


async def test_c5_a_cancel_ends_a_wait_at_the_gate() -> None:
    gate = Gate()
    gate.pause()
    txn = Script()

    with anyio.move_on_after(5) as scope:
        await call_persistently(txn, gate=gate)

    gate.unpause()
    assert scope.cancelled_caught and txn.at == [] and gate.running == 0 and gate.waiting == 0


async def test_c5_no_attempt_starts_in_a_cancelled_scope() -> None:
    txn = Script()
    gate = Gate()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await call_persistently(txn, gate=gate)

    assert txn.at == [] and gate.running == 0


async def test_c6_a_group_of_one_is_unwrapped() -> None:
    error = ValueError()

    with pytest.raises(ValueError) as caught:
        await call_persistently(Script(ExceptionGroup("", [error])))

    assert caught.value is error


async def test_c6_a_group_of_retryable_errors_is_retried() -> None:
    assert await call_persistently(Script(ExceptionGroup("", [RetryableError(), RetryableError()]))) == 2


async def test_c7_the_root_cause_carries_a_note() -> None:
    gate = Gate(RetryPolicy.fixed(2, 30), name="sftp://host/dir")
    txn = Script(*(caused(RetryableError(hint="look at the cable"), OSError("no route")) for _ in range(2)))

    with pytest.raises(OSError, match="no route") as caught:
        await call_persistently(txn, gate=gate, op="put vol3")

    (note,) = caught.value.__notes__
    assert note.startswith("put vol3 on sftp://host/dir: gave up after 2 attempts in ") and note.endswith("; look at the cable")


async def test_c8_an_operator_error_is_final_in_mode_fail() -> None:
    error = OperatorError("password", scope="op")

    with pytest.raises(OperatorError) as caught:
        await call_persistently(Script(error))

    assert caught.value is error


async def test_mode_intervention_needs_a_gate() -> None:
    with pytest.raises(ValueError, match="gate"):
        await call_persistently(Script(), policy=RetryPolicy(mode="intervention"))


async def test_b1_fixed_mode_lasts_as_long_as_its_user_expects() -> None:
    txn = Script(*(RetryableError() for _ in range(5)))

    with pytest.raises(RetryableError):
        await call_persistently(txn, policy=RetryPolicy.fixed(5, 30))

    assert 4 * 22.5 <= anyio.current_time() <= 4 * 37.5


async def test_b3_a_streak_ends_with_its_age() -> None:
    txn = Script(*(RetryableError() for _ in range(10_000)))

    with pytest.raises(RetryableError):
        await call_persistently(txn, policy=RetryPolicy(max_elapsed=100))

    assert 100 <= txn.at[-1] <= 130 and txn.at[-2] < 100


async def test_b4_durable_progress_starts_the_streak_anew() -> None:
    runs = 0

    async def txn() -> int:
        nonlocal runs
        runs += 1
        if runs % 2:
            current_attempt().durable(1)
        if runs < 20:
            raise RetryableError
        return runs

    assert await call_persistently(txn, policy=RetryPolicy(max_attempts=3)) == 20


async def test_current_attempt_counts() -> None:
    numbers: list[int] = []

    async def txn() -> None:
        numbers.append(current_attempt().number)
        if len(numbers) < 3:
            raise RetryableError

    await call_persistently(txn)

    assert numbers == [1, 2, 3]
    with pytest.raises(LookupError):
        current_attempt()


async def test_t0_t1_a_stall_is_a_timeout_that_is_retried() -> None:
    async def txn() -> int:
        if current_attempt().number == 1:
            await anyio.sleep_forever()
        return current_attempt().number

    assert await call_persistently(txn) == 2
    assert 60 <= anyio.current_time() <= 60.5


async def test_t0_the_root_cause_of_a_stall_is_a_timeout_error() -> None:
    with pytest.raises(TimeoutError, match="no byte for 60 s"):
        await call_persistently(anyio.sleep_forever, policy=RetryPolicy(max_attempts=2))


async def test_t1_every_byte_starts_the_stall_clock_anew() -> None:
    async def txn() -> str:
        for _ in range(100):
            await anyio.sleep(59)
            current_attempt().progress(1)
        return "done"

    assert await call_persistently(txn, policy=RetryPolicy(max_attempts=2)) == "done"


async def test_t2_the_stall_clock_stands_still_while_we_hold_things_up() -> None:
    async def txn() -> int:
        attempt = current_attempt()
        await anyio.sleep(50)
        with attempt.own_wait(), attempt.own_wait():
            await anyio.sleep(10_000)
        if attempt.number == 1:
            await anyio.sleep(9)
            return attempt.number
        raise AssertionError

    assert await call_persistently(txn) == 1


async def test_t2_what_was_left_of_the_stall_clock_is_what_is_left() -> None:
    async def txn() -> int:
        if current_attempt().number > 1:
            return current_attempt().number
        await anyio.sleep(50)
        with current_attempt().own_wait():
            await anyio.sleep(1000)
        await anyio.sleep(11)
        raise AssertionError

    assert await call_persistently(txn) == 2
    assert 1060 <= anyio.current_time() <= 1060.5


async def test_t2_a_byte_inside_an_own_wait_counts_from_its_end() -> None:
    async def txn() -> int:
        await anyio.sleep(50)
        with current_attempt().own_wait():
            await anyio.sleep(1000)
            current_attempt().progress(1)
        await anyio.sleep(59)
        return current_attempt().number

    assert await call_persistently(txn) == 1


async def test_t3_the_response_clock_runs_from_the_end_of_the_request() -> None:
    async def txn() -> int:
        if current_attempt().number > 1:
            return current_attempt().number
        await anyio.sleep(30)
        current_attempt().request_sent()
        assert current_attempt().deadline == 150
        await anyio.sleep_forever()

    assert await call_persistently(txn) == 2
    assert 150 <= anyio.current_time() <= 150.5


async def _drip(every: float, count: int, *, times: int) -> None:
    for _ in range(times):
        await anyio.sleep(every)
        current_attempt().progress(count)


async def test_t3_an_attempt_below_the_least_rate_is_a_stall() -> None:
    """A byte a second keeps the stall clock (T1) quiet for ever."""

    async def txn() -> int:
        if current_attempt().number == 1:
            await _drip(1, 99, times=10_000)
        return current_attempt().number

    assert await call_persistently(txn, policy=RetryPolicy(min_rate=100)) == 2
    assert 61 <= anyio.current_time() <= 61.5, "a window of the stall time, from the first byte on"
    with pytest.raises(TimeoutError, match="slower than 100 bytes/s for 60 s"):
        await call_persistently(lambda: _drip(1, 99, times=10_000), policy=RetryPolicy(min_rate=100, max_attempts=2))


@pytest.mark.parametrize(("every", "count", "rate"), [(1, 105, 100), (20, 3000, 100), (1, 1, 0)])
async def test_t3_an_attempt_above_the_least_rate_goes_on(every: float, count: int, rate: float) -> None:
    await call_persistently(lambda: _drip(every, count, times=1000), policy=RetryPolicy(min_rate=rate, max_attempts=1))

    assert anyio.current_time() == pytest.approx(1000 * every)


async def test_t3_one_that_was_fast_and_then_trickles_is_ended_all_the_same() -> None:
    async def txn() -> None:
        await _drip(1, 1000, times=100)
        await _drip(1, 1, times=10_000)

    with pytest.raises(TimeoutError, match="slower than"):
        await call_persistently(txn, policy=RetryPolicy(min_rate=100, max_attempts=1, attempt_timeout=500))

    assert 100 + 60 <= anyio.current_time() <= 2 * (100 + 60) + 1


async def test_t2_t3_what_the_engine_holds_up_and_what_the_server_thinks_over_is_no_trickle() -> None:
    async def txn() -> int:
        attempt = current_attempt()
        for _ in range(20):
            await _drip(1, 200, times=25)
            with attempt.own_wait():
                await anyio.sleep(500)
        attempt.request_sent()
        await anyio.sleep(119)
        return attempt.number

    assert await call_persistently(txn, policy=RetryPolicy(min_rate=100)) == 1


async def test_attempt_timeout_ends_even_a_lively_attempt() -> None:
    async def txn() -> None:
        while True:
            await anyio.sleep(1)
            current_attempt().progress(1)

    with pytest.raises(TimeoutError, match="not done after 10 s"):
        await call_persistently(txn, policy=RetryPolicy(attempt_timeout=10, max_attempts=2))


@pytest.mark.parametrize("found", [True, False])
async def test_i2_reconcile_is_asked_after_an_ambiguous_attempt_only(found: bool) -> None:
    asked: list[float] = []
    txn = Script(RetryableError(), RetryableError(ambiguous=True), RetryableError())

    async def reconcile() -> Done[int] | None:
        asked.append(anyio.current_time())
        return Done(99) if found else None

    assert await call_persistently(txn, reconcile=reconcile) == (99 if found else 4)
    assert len(asked) == 1


async def test_i2_a_failed_look_is_repeated() -> None:
    looks = 0

    async def reconcile() -> Done[int] | None:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise RetryableError
        return Done(7)

    assert await call_persistently(Script(RetryableError(ambiguous=True)), reconcile=reconcile) == 7
    assert looks == 3


async def test_r1_an_abort_ends_a_sleep_between_attempts() -> None:
    gate = Gate(RetryPolicy.fixed(5, 1000))
    root = OSError("root")

    async def abort_soon() -> None:
        await anyio.sleep(10)
        gate.abort()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(abort_soon)
        with pytest.raises(InterruptedByOperator) as caught:
            await call_persistently(Script(caused(RetryableError(), root)), gate=gate)

    assert caught.value.exit_code == 61 and caught.value.__cause__ is root and anyio.current_time() == 10


def _typed(txn: Callable[[], Awaitable[int]]) -> Awaitable[int]:
    """Checked by mypy: the value's type is the transaction's."""
    return call_persistently(txn)
