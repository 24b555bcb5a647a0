"""A long thin (or fat) network link on one Linux machine, for programs that are measured at a distance: ``python -m benchmarks.lab --help``.

Two network namespaces, "client" and "server", are joined by a link that a process of ours emulates: delay, rate with a finite queue, random loss
and jitter, each per direction; the link can be cut and mended. Both ends run the kernel's own TCP, so slow start, windows and retransmissions are
real. Needs root, /dev/net/tun and ``ip``; nothing outside the two namespaces is talked to.

``link`` says what a link is like, ``packets`` cuts the kernel's super-packets, ``emulator`` is the process that forwards them, ``namespaces`` makes
the two ends, ``lab`` is what a benchmark uses, ``check`` measures a link against what was asked.
"""

from benchmarks.lab.lab import Lab, available
from benchmarks.lab.link import Link, Way
from benchmarks.lab.namespaces import CLIENT, SERVER, Unavailable

__all__ = ["CLIENT", "SERVER", "Lab", "Link", "Unavailable", "Way", "available"]
