"""librsync by ctypes: the copy inside python-rsync's wheel or the system's, whichever can be loaded. Only signatures and deltas.

The wheel's module is loaded as a plain shared library and never imported, so that one binding serves both. Calls on more than a few KiB
let other threads run; short ones keep the interpreter's lock, as handing it over costs more than they do.
Every input was checked by ``rdiff`` before it comes here: librsync crashes on a signature that is cut (observed, 2.3.2).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asyncdup.errors import FormatError
from asyncdup.formats.rdiff_pure import HEADER, ROLLSUM_MD4, STRONG_LENGTH

_SYSTEM_NAMES = ("librsync.so.2", "librsync.2.dylib")
_QUIET = 0  # the level of "the system is unusable": nothing that we could meet
_DONE, _BLOCKED = 0, 1
_SHORT = 16384  # bytes of input below which a call keeps the interpreter's lock: 25 us at 700 MiB/s
_ROOM = 65536  # bytes of output fetched at once; a MiB of input gives at most 24 KiB of sums, or itself as literals
# Observed: duplicity 3.2.1, fixture plain-chain, the signature of "I am a file\n".
_KNOWN = (b"I am a file\n", bytes.fromhex("72730136 00000200 00000008 1ffe04f6 c9999b64ba2fbb31"))


class _Buffers(ctypes.Structure):
    _fields_ = [
        ("next_in", ctypes.c_char_p),
        ("avail_in", ctypes.c_size_t),
        ("eof_in", ctypes.c_int),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_size_t),
    ]


class Library:
    """The functions of one loaded librsync (2.x)."""

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        quick: Any = ctypes.PyDLL(path)
        free: Any = ctypes.CDLL(path)
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        _declare(quick.rs_trace_set_level, None, number)(_QUIET)
        self.sig_begin = _declare(quick.rs_sig_begin, pointer, size, size, number)
        self.loadsig_begin = _declare(quick.rs_loadsig_begin, pointer, ctypes.POINTER(pointer))
        self.build_hash_table = _declare(free.rs_build_hash_table, number, pointer)
        self.delta_begin = _declare(quick.rs_delta_begin, pointer, pointer)
        self.free_sumset = _declare(quick.rs_free_sumset, None, pointer)
        self.job_free = _declare(quick.rs_job_free, number, pointer)
        self.job_iter = _declare(free.rs_job_iter, number, pointer, pointer)
        self.job_iter_short = _declare(quick.rs_job_iter, number, pointer, pointer)

    def sign(self, data: bytes, block_len: int) -> bytes:
        """The whole signature of ``data``, at once."""
        size = HEADER.size + (4 + STRONG_LENGTH) * -(-len(data) // block_len)
        out = ctypes.create_string_buffer(size)
        buffers = _Buffers(data, len(data), 1, ctypes.addressof(out), size)
        job = self.sig_begin(block_len, STRONG_LENGTH, ROLLSUM_MD4)
        try:
            iterate = self.job_iter_short if len(data) <= _SHORT else self.job_iter
            status = iterate(job, ctypes.addressof(buffers))
        finally:
            self.job_free(job)
        if status != _DONE or buffers.avail_out:
            raise _failure("a signature", status)
        return out.raw


@cache
def load() -> Library | None:
    """The first librsync that can be loaded and signs as duplicity does; None if there is none."""
    for path, name in _places():
        try:
            library = Library(path, name)
        except (OSError, AttributeError):
            continue
        if library.sign(_KNOWN[0], 512) == _KNOWN[1]:
            return library
    return None


class Signer:
    """The signature of a stream, piece by piece."""

    def __init__(self, library: Library, block_len: int) -> None:
        self._job = _Job(library, library.sig_begin(block_len, STRONG_LENGTH, ROLLSUM_MD4), "a signature")

    def feed(self, data: bytes) -> bytes:
        """Sums of the blocks that are complete."""
        return self._job.run(data)

    def finish(self) -> bytes:
        """The sums of the last, short block."""
        return self._job.end()

    def close(self) -> None:
        """Free its memory; idempotent."""
        self._job.close()


class DeltaWriter:
    """The delta of a stream against a well-formed signature that has at least one block."""

    def __init__(self, library: Library, signature: bytes) -> None:
        self._library = library
        self._sums = ctypes.c_void_p()
        self._job = _Job(library, library.loadsig_begin(ctypes.byref(self._sums)), "a signature")
        try:
            self._job.run(signature)
            self._job.end()
            self._job.close()
            status = library.build_hash_table(self._sums)
            if status != _DONE:
                raise _failure("a signature", status)
            self._job = _Job(library, library.delta_begin(self._sums), "a delta")
        except BaseException:
            self.close()
            raise

    def feed(self, data: bytes) -> bytes:
        """The commands that are certain by now."""
        return self._job.run(data)

    def finish(self) -> bytes:
        """What is left, and the end command."""
        return self._job.end()

    def close(self) -> None:
        """Free its memory; idempotent."""
        self._job.close()
        if self._sums:
            self._library.free_sumset(self._sums)
            self._sums = ctypes.c_void_p()

    def __del__(self) -> None:
        self.close()


class _Job:
    """One of librsync's jobs, fed by hand. Never used by two threads at once."""

    def __init__(self, library: Library, job: int, what: str) -> None:
        self._library = library
        self._job: int | None = job
        self._what = what
        self._room = ctypes.create_string_buffer(_ROOM)
        self._room_at = ctypes.addressof(self._room)
        self._buffers = _Buffers()
        self._buffers_at = ctypes.addressof(self._buffers)

    def run(self, data: bytes) -> bytes:
        """What comes out for ``data``, all of which is taken."""
        return b"".join(self._outputs(data)) if data else b""

    def end(self) -> bytes:
        """What comes out at the end of the input; frees the job."""
        self._buffers.eof_in = 1
        out = b"".join(self._outputs(b""))
        self.close()
        return out

    def close(self) -> None:
        if self._job is not None:
            self._library.job_free(self._job)
            self._job = None

    def __del__(self) -> None:
        self.close()

    def _outputs(self, data: bytes) -> Iterator[bytes]:
        if self._job is None:
            raise ValueError(f"{self._what} was finished or closed before")
        buffers = self._buffers
        buffers.next_in, buffers.avail_in = data, len(data)
        iterate = self._library.job_iter_short if len(data) <= _SHORT else self._library.job_iter
        while True:
            before = buffers.avail_in
            buffers.next_out, buffers.avail_out = self._room_at, _ROOM
            status = iterate(self._job, self._buffers_at)
            made = _ROOM - buffers.avail_out
            if made:
                yield ctypes.string_at(self._room_at, made)
            if status == _DONE or (status == _BLOCKED and not made and not buffers.avail_in and not buffers.eof_in):
                return
            if status != _BLOCKED or (not made and buffers.avail_in == before):
                raise _failure(self._what, status)


def _places() -> Iterator[tuple[str, str]]:
    package = find_spec("pyrsync")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        for path in sorted(Path(folder).glob("backends/*/_rsync*.so")):
            yield str(path), "python-rsync"
    for name in _SYSTEM_NAMES:
        yield name, "librsync"


def _declare(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


def _failure(what: str, status: int) -> FormatError:
    return FormatError(
        f"librsync could not make {what} (its status {status})" if what == "a delta" else f"librsync refuses {what} (its status {status})"
    )
