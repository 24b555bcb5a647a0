"""One run of gpg: how it is started, fed, ended and judged. Blocking, for threads; only ``running`` is asynchronous.

Passphrases go through a pipe, never in an argument (P15); what gpg says goes to files without a name, so nobody need read along.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from asyncdup.codecs.base import PIECE, Encryption, write_all
from asyncdup.environment import without_secrets
from asyncdup.errors import CodecError
from asyncdup.threads import settled, start_in_thread, thread_result

_COMMON = ("--batch", "--no-tty", "--no-secmem-warning", "--no-armor", "--no-auto-key-locate")
_MAX_REPORT = 1 << 20  # bytes of a status or error report that are looked at
_NOISE = "is not considered for normal use"  # gpg's note on --no-literal
_BREATH = 0.0005  # seconds: gpg moves 8 KiB at a time, and who followed it at that pace would spend more time than it on system calls
_IN_MEMORY = getattr(os, "memfd_create", None)
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)


@dataclass(frozen=True, slots=True)
class Call:
    """What to run. ``stdin``, ``stdout``: descriptors, or None for a pipe to or from us."""

    command: Sequence[str]
    passphrase: str | None = field(default=None, repr=False)
    stdin: int | None = None
    stdout: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: exit code, status lines (keyword, then arguments) and what it said to people."""

    code: int
    status: tuple[tuple[str, ...], ...]
    complaints: tuple[str, ...]

    def has(self, keyword: str) -> bool:
        """Whether there is such a status line."""
        return any(line[0] == keyword for line in self.status)

    def first(self, keyword: str) -> tuple[str, ...] | None:
        """The arguments of the first such status line."""
        return next((line[1:] for line in self.status if line[0] == keyword), None)


class GpgEnded(Exception):
    """gpg takes no more input; ``process`` says why."""

    def __init__(self, process: Process) -> None:
        super().__init__("gpg ended early")
        self.process = process


class Process:
    """A running gpg. ``start`` it in a thread; ``kill`` works from anywhere and makes every blocking method end."""

    def __init__(self, encryption: Encryption, call: Call, tempdir: Path) -> None:
        self._report = unnamed_file(tempdir, small=True)
        self._status = unnamed_file(tempdir, small=True)
        self._input: FileIO | None = None
        self._output: FileIO | None = None
        theirs: list[int] = []  # descriptors that only gpg needs
        try:
            stdin, stdout = call.stdin, call.stdout
            if stdin is None:
                stdin, self._input = self._pipe_in(theirs)
            if stdout is None:
                stdout, self._output = self._pipe_out(theirs)
            options = ["--status-fd", str(self._status.fileno())]
            passed = [self._status.fileno()]
            if call.passphrase is not None:
                passed.append(_passphrase_pipe(call.passphrase, theirs))
                options += ["--pinentry-mode", "loopback", "--passphrase-fd", str(passed[-1])]
            self._process = subprocess.Popen(
                [encryption.gpg_binary, *_COMMON, *options, *encryption.gpg_options, *call.command],
                stdin=stdin,
                stdout=stdout,
                stderr=self._report,
                pass_fds=passed,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us: a drain lets the volume at hand be finished
            )
        except BaseException:
            self._close_files()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def write(self, data: bytes) -> None:
        """Raises GpgEnded if gpg takes no more."""
        assert self._input is not None, "its input is a file"
        try:
            write_all(self._input, data)
        except BrokenPipeError:
            raise GpgEnded(self) from None

    def exchange(self, data: bytes) -> bytes:
        """Give it ``data``, and take what it has put out meanwhile: who only wrote would wait for one that waits to be read.

        Only for a process with pipes to and from us. Raises GpgEnded if gpg takes no more.
        """
        assert self._input is not None and self._output is not None, "its input or output is a file"
        os.set_blocking(self._input.fileno(), False)
        os.set_blocking(self._output.fileno(), False)
        moves = select.poll()
        moves.register(self._input, select.POLLOUT)
        moves.register(self._output, select.POLLIN)
        view, parts = memoryview(data), []
        while True:
            try:
                view = view[self._input.write(view) or 0 :]
            except BrokenPipeError:
                raise GpgEnded(self) from None
            parts.append(self._output.read(PIECE) or b"")
            if not view:
                return b"".join(parts)
            moves.poll()
            time.sleep(_BREATH)

    def rest(self) -> bytes:
        """All that it still puts out, once there is no more input."""
        assert self._output is not None, "its output is a file"
        os.set_blocking(self._output.fileno(), True)
        return b"".join(iter(lambda: self.read(PIECE), b""))

    def end_input(self) -> None:
        """There is no more input."""
        if self._input is not None:
            self._input.close()

    def read(self, size: int) -> bytes:
        """``size`` bytes of output; fewer at its end."""
        assert self._output is not None, "its output is a file"
        parts = []
        while size and (part := self._output.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def outcome(self) -> Outcome:
        """Wait for its end."""
        code = self._process.wait()
        status = [line.split(" ")[1:] for line in _lines(self._status) if line.startswith("[GNUPG:] ")]
        said = [line.removeprefix("gpg: ") for line in _lines(self._report) if _NOISE not in line]
        return Outcome(code, tuple(tuple(line) for line in status if line), tuple(said))

    def kill(self) -> None:
        """End it, if it has not."""
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """Wait for its end and let go of everything."""
        self._process.wait()
        self._close_files()

    def _close_files(self) -> None:
        for file in (self._input, self._output, self._report, self._status):
            if file is not None:
                file.close()

    @staticmethod
    def _pipe_in(theirs: list[int]) -> tuple[int, FileIO]:
        reading, writing = os.pipe()
        theirs.append(reading)
        return reading, FileIO(_widened(writing), "wb")

    @staticmethod
    def _pipe_out(theirs: list[int]) -> tuple[int, FileIO]:
        reading, writing = os.pipe()
        theirs.append(writing)
        return writing, FileIO(_widened(reading), "rb")


@asynccontextmanager
async def running(encryption: Encryption, call: Call, tempdir: Path) -> AsyncGenerator[Process, None]:
    """A gpg that is ended, by force if need be, and reaped when the block ends.

    Raises:
        CodecError: there is no such program.
    """
    starting = start_in_thread(_start, encryption, call, tempdir)
    try:
        yield await thread_result(starting)
    finally:
        await settled(starting)
        if starting.exception() is None:
            starting.result().kill()
            await settled(start_in_thread(starting.result().close))


def run_short(encryption: Encryption, call: Call, tempdir: Path) -> tuple[Outcome, bytes]:
    """Run gpg to its end, its standard input being given by ``call``; its outcome and its output (at most 1 MiB of it)."""
    process = _start(encryption, call, tempdir)
    try:
        output = process.read(PIECE)
        return process.outcome(), output
    finally:
        process.kill()
        process.close()


def failure(outcome: Outcome, what: str) -> CodecError:
    """Why gpg could not ``what``, in one line."""
    cause, hint = _cause(outcome)
    return CodecError(f"gpg could not {what}: {cause}", hint=hint)


_CAUSES = (  # observed: GnuPG 2.2.40; "{}" is the last word of the status line
    ("MISSING_PASSPHRASE", "there is no passphrase", "set PASSPHRASE"),
    ("CANCELED_BY_USER", "there is no passphrase", "set PASSPHRASE"),
    ("INV_RECP", "it cannot encrypt to the key {}", "import the key, or give another one"),
    ("INV_SGNR", "it cannot sign with the key {}", "import the secret key, or give another one"),
    ("BADMDC", "the data are damaged", "fetch them again"),
    ("NODATA", "the data are damaged, or not encrypted at all", "fetch them again"),
    ("NO_SECKEY", "the secret key {} is not in the keyring", "import the secret key"),
)
_BAD_PASSPHRASE, _NO_PINENTRY = 11, 85  # of libgpg-error, in the lower half of a code
_PINENTRY = 5  # its upper byte says which part of GnuPG reports: the program that asks a person, and there was nobody


def _cause(outcome: Outcome) -> tuple[str, str | None]:
    if any(_error_code(line) == _BAD_PASSPHRASE for line in outcome.status):
        return "the passphrase is wrong", "check PASSPHRASE, or SIGN_PASSPHRASE for a signing key"
    if any(_error_code(line) == _NO_PINENTRY or _error_source(line) == _PINENTRY for line in outcome.status):
        return "there is no passphrase for the key, and nobody who could be asked", "set PASSPHRASE, or SIGN_PASSPHRASE for a signing key"
    for keyword, cause, hint in _CAUSES:
        arguments = outcome.first(keyword)
        if arguments is not None:
            return cause.format(*arguments[-1:]) if arguments else cause, hint
    return outcome.complaints[-1][:200] if outcome.complaints else f"it ended with code {outcome.code}", None


def _error_code(line: Sequence[str]) -> int:
    return _error(line) & 0xFFFF


def _error_source(line: Sequence[str]) -> int:
    return _error(line) >> 24 & 0x7F


def _error(line: Sequence[str]) -> int:
    if line[0] not in ("ERROR", "FAILURE") or len(line) < 3:
        return 0
    digits = line[2].partition("_")[0]
    return int(digits) if digits.isdecimal() else 0


def unnamed_file(tempdir: Path, small: bool = False) -> FileIO:
    """A file that only who holds its descriptor can read, and that goes with it. A ``small`` one is in memory, where the system has such
    files: what gpg says of a volume must not be lost because the disk of ``tempdir`` is full."""
    if small and _IN_MEMORY is not None:
        return FileIO(_IN_MEMORY("asyncdup"), "r+b")
    descriptor, path = tempfile.mkstemp(dir=tempdir)
    os.unlink(path)
    return FileIO(descriptor, "r+b")


def _start(encryption: Encryption, call: Call, tempdir: Path) -> Process:
    try:
        return Process(encryption, call, tempdir)
    except FileNotFoundError as error:
        if error.filename != encryption.gpg_binary:
            raise
        hint = "install GnuPG (the package gnupg of most systems), or name the program with --gpg-binary"
        raise CodecError(f"there is no program {encryption.gpg_binary}", hint=hint) from None


def _passphrase_pipe(passphrase: str, theirs: list[int]) -> int:
    reading, writing = os.pipe()
    theirs.append(reading)
    try:
        os.write(writing, passphrase.encode("utf-8", "surrogateescape") + b"\n")  # fits into the pipe: MAX_PASSPHRASE
    finally:
        os.close(writing)
    return reading


def _environment() -> dict[str, str]:
    return without_secrets(os.environ) | {"LC_ALL": "C", "LANGUAGE": "C"}


def _widened(descriptor: int) -> int:
    """Fewer and larger hand-overs; where the system does not allow it, smaller ones do as well."""
    if _SET_PIPE_SIZE is not None:
        try:
            fcntl.fcntl(descriptor, _SET_PIPE_SIZE, PIECE)
        except OSError:
            pass
    return descriptor


def _lines(file: FileIO) -> list[str]:
    file.seek(0)
    # Only a line feed ends a line: the name of a key may hold anything else that str.splitlines would split at.
    return [line.decode("utf-8", "replace") for line in file.read(_MAX_REPORT).split(b"\n") if line]
