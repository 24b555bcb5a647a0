"""The parsers that are fuzzed: what each is fed, what is made of it, and the limits that hold for all (M5, P9)."""

from __future__ import annotations

import os
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import answers, archives

CORPUS = Path(__file__).parent / "corpus"
CPU = 10.0  # seconds of processor time for an input of 8 KiB: a hang, as the usual one takes a ten-thousandth of one
MEMORY = 8 << 20, 64  # bytes, and bytes for each of the input, that the reading of it may take
CALLS = 20_000, 40  # of functions, and for each byte


@dataclass(frozen=True)
class Target:
    """``read``: gives whether the input was accepted, raises if something is wrong. ``words``, ``mend``: for ``Mutator``."""

    name: str
    read: Callable[[bytes], bool]
    words: tuple[bytes, ...] = ()
    mend: Callable[[bytes], bytes] | None = None

    def corpus(self) -> dict[str, bytes]:
        """By file name: valid inputs, and those that something was wrong with once."""
        return {path.name: path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())}


_TAR = (b"snapshot/", b"diff/", b"deleted/", b"signature/", b"multivol_snapshot/", b"multivol_diff/", b"../", b"/", b"./", b"\0" * 512)
_PAX = (b"30 path=snapshot/", b"20 mtime=1.5\n", b"13 size=3\n", b"12 uid=77\n", b"21 hdrcharset=BINARY\n", b"\xff", b"\x80")
_XML = (b"<Key>", b"</Key>", b"&amp;", b"&#x10ffff;", b"<!DOCTYPE a>", b'<?xml version="1.0" encoding="utf-16"?>', b"]]>", b"<!--", b"\0")
_JSON = (b'"', b"null", b"[]", b"{}", b"Infinity", b"NaN", b"true", b"-1", b"1e300", b"\n", b"\\ud800", b"[" * 3000)

TARGETS = {
    target.name: target
    for target in (
        Target(
            "manifest", archives.read_manifest, (b"Volume 1:\n", b"    Hash SHA1 ", b"Filelist 1\n", b"\\x0a", b'"', b"..", b"  ", b"\n")
        ),
        Target(
            "name", archives.read_name, (b"duplicity-", b".to.", b".vol", b".gz", b".gpg", b".part", b"P-", b"\n", b"3D", b"df.", b"now")
        ),
        Target("tar", archives.read_tar, _TAR + _PAX, archives.mended_tar),
        Target("difftar", archives.read_difftar, _TAR + _PAX, archives.mended_tar),
        Target("sigtar", archives.read_sigtar, _TAR + _PAX, archives.mended_tar),
        Target("signature", archives.read_signature, (b"rs\x016", b"rs\x017", b"rs\x01F", b"rs\x01G", b"\0\0\0\x08", b"\0\0\x02\0")),
        Target("delta", archives.read_delta, (b"rs\x026", b"\x45\0\x10", b"\x41\x02hi", b"\0", b"\x54", b"\x44")),
        Target("gzip", archives.read_gzip, (b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x03\0", b"\0\0\0\0\0\0\0\0"), archives.mended_gzip),
        Target(
            "url", answers.read_url, (b"://", b"@", b":", b"[::1]", b"%2F", b"%00", b"?a=b", b"#", b"//", answers.CANARY.encode(), b"file")
        ),
        Target("profile", answers.read_profile, (b"[hooks]\n", b"[options]\n", b'"', b"true", b"= ", b"\n", b"[]", b"1979-05-27", b"nan")),
        Target("s3", answers.read_s3, _XML),
        Target("webdav", answers.read_webdav, (b"<D:href>", b"<D:status>HTTP/1.1 404 X</D:status>", *_XML)),
        Target("sftp", answers.read_sftp, (b"\0\0\0\x05", b"\x68", b"\x80\0\0\x0f", b"\0\0\0\x01")),
        Target("journal", answers.read_journal, _JSON),
        Target("flag", answers.read_flag, _JSON),
        Target("lock", answers.read_lock, _JSON),
    )
}


@contextmanager
def hang_is_an_error() -> Iterator[None]:
    """An input that takes much of the processor's time ends with an error. In the main thread only."""

    def late(*_: object) -> None:
        raise AssertionError(f"still at work after {CPU} s of processor time")

    before = signal.signal(signal.SIGVTALRM, late)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def within_bounds(target: Target, data: bytes) -> bool:
    """As ``target.read``, with its memory and its calls counted: neither may grow faster than the input."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    target.read(data)  # imports and caches are no one's memory
    tracemalloc.start()
    sys.setprofile(count)
    try:
        accepted = target.read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        sys.setprofile(None)
        tracemalloc.stop()
    assert peak <= MEMORY[0] + MEMORY[1] * len(data), f"{peak} bytes of memory for {len(data)} of input"
    assert calls <= CALLS[0] + CALLS[1] * len(data), f"{calls} calls for {len(data)} bytes of input"
    return accepted


def seed() -> int:
    """From the environment, to have a run again; 0 otherwise."""
    return int(os.environ.get("ASYNCDUP_SEED", "0"))
