"""Which errors are retried, and what is raised in the end (C2-C4, C6)."""

from __future__ import annotations

import math

import pytest

from asyncdup.errors import NotFound, OperatorError, RetryableError
from asyncdup.transfer.failure import add_note, classify, explain, root_cause


def raised(error: BaseException, cause: BaseException | None = None, *, explicit: bool = True) -> BaseException:
    """``error`` as if raised from ``cause``, or while it was handled."""
    try:
        try:
            if cause is not None:
                raise cause
        except BaseException as inner:
            if explicit:
                raise error from inner
            raise error  # noqa: B904
        raise error
    except BaseException as outer:
        return outer


def test_c3_the_cause_is_preferred_to_the_context() -> None:
    cause = OSError("cause")
    try:
        try:
            raise ValueError("context")
        except ValueError:
            raise RetryableError("x") from cause
    except RetryableError as error:
        assert root_cause(error) is cause


def test_c3_the_context_serves_where_there_is_no_cause() -> None:
    context = OSError()

    assert root_cause(raised(RetryableError(), context, explicit=False)) is context


def test_c3_a_suppressed_context_does_not() -> None:
    error = RetryableError()
    try:
        try:
            raise OSError
        except OSError:
            raise error from None
    except RetryableError:
        pass

    assert root_cause(error) is error


def test_c3_retryable_errors_are_passed_on_the_way() -> None:
    root = OSError()
    error = raised(RetryableError("outer"), raised(OperatorError("inner"), root))

    assert root_cause(error) is root


def test_c3_the_innermost_retryable_error_is_the_last_resort() -> None:
    inner = RetryableError("inner")

    assert root_cause(raised(RetryableError("outer"), inner)) is inner


def test_c3_a_circle_ends() -> None:
    one, two = RetryableError("one"), RetryableError("two")
    one.__cause__, two.__cause__ = two, one

    assert root_cause(one) is two


def test_c3_c5_a_cancellation_is_no_cause() -> None:
    error = raised(RetryableError("x"), KeyboardInterrupt(), explicit=False)

    assert root_cause(error) is error


def test_c4_other_errors_are_no_failures() -> None:
    assert classify(ValueError()) is None
    assert classify(NotFound()) is None


def test_c6_a_group_of_one_is_what_is_in_it() -> None:
    error = RetryableError("x", scope="lane")
    failure = classify(ExceptionGroup("outer", [ExceptionGroup("inner", [error])]))

    assert failure is not None
    assert failure.error is error and failure.scope == "lane"


def test_c6_a_group_is_retryable_only_if_every_leaf_is() -> None:
    assert classify(ExceptionGroup("", [RetryableError(), ExceptionGroup("", [ValueError(), RetryableError()])])) is None


def test_c6_the_root_cause_of_a_group_is_that_of_its_first_leaf() -> None:
    first, second = OSError("first"), OSError("second")
    errors = [raised(RetryableError(), first), raised(RetryableError(ambiguous=True, hint="h"), second)]
    failure = classify(ExceptionGroup("", [ExceptionGroup("", errors), OperatorError(space=True)]))

    assert failure is not None and failure.root is first
    assert failure.ambiguous and failure.operator and failure.space and failure.scope == "lane" and failure.hint == "h"


@pytest.mark.parametrize("error", [RetryableError(throttle=True), RetryableError(retry_after=1)])
def test_b2_a_throttle_or_a_retry_after_concerns_the_lane(error: RetryableError) -> None:
    failure = classify(error)

    assert failure is not None and failure.scope == "lane"


@pytest.mark.parametrize("wait", [-1, math.nan, None])
def test_b2_a_senseless_retry_after_is_ignored(wait: float | None) -> None:
    failure = classify(RetryableError(retry_after=wait))

    assert failure is not None and failure.retry_after is None and failure.scope == "op"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RetryableError(), "retry"),
        (RetryableError(throttle=True), "throttle"),
        (RetryableError(ambiguous=True), "ambiguous"),
        (OperatorError(), "operator"),
    ],
)
def test_failures_are_named_as_in_the_error_table(error: RetryableError, kind: str) -> None:
    failure = classify(error)

    assert failure is not None and failure.kind == kind


def test_c7_a_note_is_added_once() -> None:
    error = OSError()
    add_note(error, "tried")
    add_note(error, "tried")

    assert error.__notes__ == ["tried"]


@pytest.mark.parametrize(
    ("error", "cause", "told"),
    [
        (OperatorError("no login"), None, "no login"),
        (OperatorError("cannot write: Failure: no space left"), OSError("Failure"), "cannot write: Failure: no space left"),
        (OperatorError("no login"), OSError("key refused"), "no login: key refused"),
        (OperatorError("no login"), EOFError(), "no login: the connection ended too early"),
        (OperatorError(), OSError("key refused"), "key refused"),
    ],
)
def test_n2_the_operator_is_told_what_the_backend_makes_of_it_and_what_lies_behind(
    error: Exception, cause: Exception | None, told: str
) -> None:
    """A root cause alone may say nothing: OpenSSH answers "Failure" when its disk is full."""
    error.__cause__ = cause
    failure = classify(error)

    assert failure is not None and explain(failure) == told
