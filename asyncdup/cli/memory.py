"""How the process of a command keeps its memory. A library must not decide that for its application, so nothing else calls this."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress

# Parameters of glibc's mallopt. Source: malloc.h, mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_KEPT = 64 << 20  # bytes, well above all buffers together
_AT_ONCE = 8 << 20  # bytes of address space asked for at a time


def keep_buffers() -> None:
    """Let freed buffers serve the next piece. By default glibc gives those of a MiB back to the kernel each time, and the page faults to get
    them again cost 5 % of a full backup and of a restore. Where address space is limited (``ulimit -v``) all threads share one heap: each of
    their own would reserve 64 MiB of it. Elsewhere than with glibc nothing happens."""
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_TOP_PAD, _AT_ONCE)
        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            mallopt(_ARENA_MAX, 1)
