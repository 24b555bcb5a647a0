"""What an exception means to the engine (engine rules C2-C4, C6, C7): retryable or not, and which exception is its root cause."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

from asyncdup.errors import OperatorError, RetryableError, Scope, in_words

E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failure:
    """A retryable error, looked at once.

    Attributes:
        error: the exception as it came (a group of one unwrapped).
        root: what is raised when the engine gives up (C3).
        scope: ``"lane"`` if every op of the backend is concerned; a throttle or a Retry-After always is (B2).
        space: the cause is that there is no room for writing.
    """

    error: Exception
    root: Exception
    scope: Scope = "op"
    retry_after: float | None = None
    throttle: bool = False
    ambiguous: bool = False
    operator: bool = False
    space: bool = False
    hint: str | None = None

    @property
    def kind(self) -> str:
        """The class of the error table: retry, throttle, ambiguous or operator."""
        if self.operator:
            return "operator"
        if self.throttle:
            return "throttle"
        return "ambiguous" if self.ambiguous else "retry"


def classify(error: Exception) -> Failure | None:
    """The failure that ``error`` stands for; None if it must not be retried (C4).

    A group is retryable only if each of its leaves is; then it is what its leaves are together, and its root cause is that of the first (C6).
    """
    error = sole(error)
    leaves = list(_leaves(error))
    retryable = [leaf for leaf in leaves if isinstance(leaf, RetryableError)]
    if len(retryable) < len(leaves):
        return None
    operators = [leaf for leaf in retryable if isinstance(leaf, OperatorError)]
    waits = [wait for wait in map(_retry_after, retryable) if wait is not None]
    throttle = any(leaf.throttle for leaf in retryable)
    lane_wide = throttle or bool(waits) or any(leaf.scope == "lane" for leaf in retryable)
    return Failure(
        error=error,
        root=root_cause(retryable[0]),
        scope="lane" if lane_wide else "op",
        retry_after=max(waits, default=None),
        throttle=throttle,
        ambiguous=any(leaf.ambiguous for leaf in retryable),
        operator=bool(operators),
        space=bool(operators) and all(leaf.space for leaf in operators),
        hint=next((leaf.hint for leaf in (*operators, *retryable) if leaf.hint), None),
    )


def root_cause(error: RetryableError) -> Exception:
    """The first exception behind ``error`` that is no RetryableError; the innermost RetryableError if there is none (C3)."""
    current: Exception = error
    seen = {id(error)}
    while isinstance(current, RetryableError):
        behind = current.__context__ if current.__cause__ is None and not current.__suppress_context__ else current.__cause__
        # A cancellation or a KeyboardInterrupt behind an error is no cause of it and must never be raised in its place.
        if not isinstance(behind, Exception) or id(behind) in seen:
            return current
        current = sole(behind)
        seen |= {id(behind), id(current)}
    return current


def sole(error: E) -> E:
    """``error`` itself, or the one exception in a group of one, however deep (C6)."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = cast(E, error.exceptions[0])  # the members of an ExceptionGroup are Exceptions
    return error


def add_note(error: BaseException, note: str) -> None:
    """PEP 678 note, once: the same root cause may come up at several ops (C7)."""
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def describe(error: BaseException) -> str:
    """One line for logs: class and message."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def explain(failure: Failure) -> str:
    """One line for the operator: what the backend makes of it, and the root cause where that says more.

    The root cause alone may say nothing: OpenSSH's answer on a full disk is "Failure".
    """
    said, root = str(failure.error).strip(), in_words(failure.root)
    if failure.error is failure.root or not said or isinstance(failure.error, ExceptionGroup):
        return root
    return said if root.lower() in said.lower() else f"{said}: {root}"


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


def _retry_after(error: RetryableError) -> float | None:
    """Seconds, or None if absent, negative or not a number (B2: ignored)."""
    wait = error.retry_after
    return wait if wait is not None and wait >= 0 and not math.isnan(wait) else None
