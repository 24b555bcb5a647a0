"""Commands of the user's that are run around a backup: a list of words, no shell, an end after a while (P15, P16)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from asyncdup.errors import AsyncdupError
from asyncdup.units import format_duration

_STANDARD_ERROR = 2  # standard output may be JSON
_SECRETS = ("PASSPHRASE", "SIGN_PASSPHRASE", "BACKEND_PASSWORD", "FTP_PASSWORD")


def run_hook(name: str, command: Sequence[str], *, timeout: float, environ: Mapping[str, str]) -> None:
    """Run ``command`` to its end. What it writes goes to standard error; it reads nothing, and our passphrases and passwords are not in its environment.

    Raises:
        AsyncdupError: it cannot be started, failed, or had not ended after ``timeout`` seconds; then it and its children are killed.
    """
    environment = {key: value for key, value in environ.items() if key not in _SECRETS}
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=_STANDARD_ERROR, env=environment, start_new_session=True, close_fds=True
        )
    except OSError as error:
        raise AsyncdupError(f"the hook {name} cannot be started: {command[0]}: {error.strerror}", hint="is it on the PATH?") from error
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise AsyncdupError(
            f"the hook {name} had not ended after {format_duration(timeout)} and was killed: {command[0]}",
            hint="hooks.timeout in the profile allows it more",
        ) from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise AsyncdupError(f"the hook {name} failed with {how}: {command[0]}")
