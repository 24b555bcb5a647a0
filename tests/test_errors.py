"""X6: what a process exits with, and which exceptions are ours, the far end's, or a defect."""

from __future__ import annotations

import errno

import pytest

from asyncdup import errors


def given_up(error: Exception) -> Exception:
    """As the engine raises a root cause (C7)."""
    error.add_note("put vol1: gave up after 3 attempts")
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 23),
        (errors.ChainError("x", exit_code=17), 17),
        (errors.OperatorError("disk full", space=True), 53),
        (errors.IntegrityError("x"), 21),
        (errors.NotFound("x"), 52),
        (FileNotFoundError("x"), 52),
        (PermissionError("x"), 51),
        (OSError(errno.ENOSPC, "x"), 53),
        (OSError(errno.EDQUOT, "x"), 53),
        (ConnectionResetError("x"), 50),
        (given_up(ValueError("what a library says")), 50),
        (TypeError("a defect"), 30),
    ],
)
def test_exit_codes_of_errors(error: Exception, code: int) -> None:
    assert errors.exit_code_of(error) == code


def test_a_format_error_says_where() -> None:
    assert str(errors.FormatError("a bad header", offset=512, where="vol1")) == "vol1: a bad header (at byte 512)"
