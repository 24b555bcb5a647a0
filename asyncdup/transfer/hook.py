"""The operator's own command, run once when a lane begins to wait (engine rule N3). No shell; it never holds up a transfer."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from subprocess import STDOUT
from typing import Any

import anyio
from anyio.abc import Process

from asyncdup.environment import without_secrets
from asyncdup.transfer.limits import CLEANUP

LIMIT = 30.0  # seconds
MOST_OUTPUT = 16 << 10  # bytes that are logged; the rest is read and dropped, so that the command does not block


async def run_hook(command: Sequence[str], record: Mapping[str, Any], *, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Run ``command`` with ``record`` as JSON on its standard input; ``say`` gets its output and what went wrong. Raises nothing of its own."""
    try:
        with anyio.move_on_after(LIMIT) as limit:
            async with _started(command, _environment(environ, record)) as process:
                output = await _talk(process, json.dumps(record).encode() + b"\n")
                code = await process.wait()
    except OSError as error:
        say(f"--on-intervention {command[0]}: {error.strerror or error}")
        return
    if limit.cancelled_caught:
        say(f"--on-intervention {command[0]}: ended, as it took longer than {LIMIT:g} s")
        return
    for line in output.decode("utf-8", "backslashreplace").splitlines():
        say(f"{command[0]}: {line}")
    if code:
        say(f"--on-intervention {command[0]}: exit code {code}")


def _environment(environ: Mapping[str, str], record: Mapping[str, Any]) -> dict[str, str]:
    """Ours without what may be secret, and the record as ASYNCDUP_* variables."""
    kept = without_secrets(environ)
    for name, value in record.items():
        text = "\n".join(value) if isinstance(value, list) else str(value)
        kept[f"ASYNCDUP_{name.upper()}"] = text.replace("\0", "")
    return kept


@asynccontextmanager
async def _started(command: Sequence[str], environ: Mapping[str, str]) -> AsyncIterator[Process]:
    """The process in a session of its own, so that a Ctrl-C is not for it; it and what it started are killed when the block is left early."""
    process = await anyio.open_process(command, stderr=STDOUT, env=environ, start_new_session=True)
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        with anyio.move_on_after(CLEANUP, shield=True):
            await process.aclose()


async def _talk(process: Process, data: bytes) -> bytes:
    """Hand over ``data`` and read to the end of the output: its beginning. A command that reads nothing is no error."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(data)  # a few KiB: a pipe takes them at once
    with suppress(OSError, anyio.BrokenResourceError):
        await process.stdin.aclose()
    output = b""
    async for chunk in process.stdout:
        output += chunk[: MOST_OUTPUT - len(output)]
    return output
