"""rclone as a process of ours: started when it is needed, started again when it died, ended with us; and its words as our classes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.rclone.backend import RcloneBackend, _classify
from asyncdup.backends.registry import open_backend
from asyncdup.errors import BadRequest, NotFound, OperatorError, RetryableError, UsageError


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.realtime
async def test_rclone_starts_at_the_first_call_in_private_and_ends_with_the_backend(on_disk: RcloneBackend, tmp_path: Path) -> None:
    """P15: no password in its arguments, none of ours in its environment; nobody else reaches the socket."""
    assert on_disk.daemon.pid is None
    try:
        await on_disk.put("a", BytesBody(b"data"))

        pid = on_disk.daemon.pid
        assert pid is not None
        process = psutil.Process(pid)
        password = process.environ()["RCLONE_RC_PASS"]
        assert len(password) > 30 and password not in " ".join(process.cmdline())
        assert "--retries=1" in process.cmdline() and "--low-level-retries=1" in process.cmdline()
        (folder,) = tmp_path.glob("asyncdup-rclone-*")
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        await on_disk.aclose()
    assert not psutil.pid_exists(pid) and not folder.exists()
    await on_disk.aclose()


@pytest.mark.realtime
async def test_a_dead_rclone_is_retryable_and_started_again(on_disk: RcloneBackend) -> None:
    try:
        await on_disk.put("a", BytesBody(b"data"))
        first = on_disk.daemon.pid
        assert first is not None
        process = psutil.Process(first)
        process.suspend()
        process.kill()

        for _ in range(3000):  # until its end is noticed, calls are retryable
            try:
                info = await on_disk.stat("a")
                break
            except RetryableError:
                time.sleep(0.02)

        assert info.size == 4 and on_disk.daemon.pid not in (None, first)
        assert on_disk.daemon.starts == 2
    finally:
        await on_disk.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a child with its parent")
def test_rclone_does_not_outlive_a_kill_9_of_ours(rclone_environ: dict[str, str]) -> None:
    script = (
        "import asyncio, os\n"
        "from asyncdup.backends.registry import BackendOptions, open_backend\n"
        "async def main():\n"
        "    backend = open_backend('rclone://disk:/target', BackendOptions(environ=os.environ))\n"
        "    await backend.daemon.session()\n"
        "    print(backend.daemon.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    ours = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **rclone_environ}, stdout=subprocess.PIPE, text=True)
    assert ours.stdout is not None
    pid = int(ours.stdout.readline())
    assert psutil.pid_exists(pid)

    ours.send_signal(signal.SIGKILL)
    ours.wait()
    ours.stdout.close()

    await_true(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.realtime
async def test_a_remote_that_is_not_configured_is_for_the_operator(rclone_options: BackendOptions) -> None:
    backend = open_backend("rclone://nowhere:/x", rclone_options)
    try:
        with pytest.raises(OperatorError) as raised:
            await backend.put("a", BytesBody(b""))
    finally:
        await backend.aclose()
    assert "rclone config" in (raised.value.hint or "")


def test_without_rclone_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UsageError) as raised:
        open_backend("rclone://disk:/x", BackendOptions(environ={"PATH": str(tmp_path)}))
    assert "asyncdup[rclone]" in (raised.value.hint or "") and "apt install rclone" in (raised.value.hint or "")


def test_a_remote_with_its_options_in_the_url_is_refused_without_showing_them(rclone_options: BackendOptions) -> None:
    for url in ("rclone://:sftp,host=h,pass=hidden:/x", "rclone://disk,token=hidden:/x"):
        with pytest.raises(UsageError) as raised:
            open_backend(url, rclone_options)
        assert "hidden" not in str(raised.value) + str(raised.value.hint)


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        ("object not found", 404, NotFound),
        ("error in ListJSON: directory not found", 404, NotFound),
        ('didn\'t find section in config file ("x")', 500, OperatorError),
        ("write /x: no space left on device", 500, OperatorError),
        ("googleapi: Error 403: The user's Drive storage quota has been exceeded., storageQuotaExceeded", 500, OperatorError),
        ("googleapi: Error 429: Too Many Requests", 500, RetryableError),
        ("couldn't fetch token: invalid_grant", 500, OperatorError),
        ("dial tcp: connection refused", 500, RetryableError),
        ("something new", 500, RetryableError),
    ],
)
def test_rclones_words_have_a_class(words: str, status: int, kind: type[Exception]) -> None:
    content = json.dumps({"error": words, "status": status, "input": {"fs": "hidden"}}).encode()

    error = _classify("put 'x'", status, content)

    assert type(error) is kind and "hidden" not in str(error)
    assert getattr(error, "space", False) == ("quota" in words.lower() or "space" in words)
    assert getattr(error, "throttle", False) == ("429" in words)


@pytest.mark.realtime
async def test_a_name_that_is_no_text_is_refused(on_disk: RcloneBackend) -> None:
    with pytest.raises(BadRequest):
        await on_disk.stat("\udcff")
