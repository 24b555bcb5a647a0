"""The two ends of the link: network namespaces without a name or a file, which vanish with their last process."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Side = Literal["client", "server"]
CLIENT, SERVER = "198.18.0.1", "198.18.0.2"  # addresses for benchmarks (RFC 2544)

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_LONGEST_QUEUE = 5000  # packets of the device itself: it must not be what limits
_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """Namespaces or TUN devices are not to be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The kernel's part of both ends. ``congestion``: None = the machine's own; ``tcp_memory``: the largest TCP buffer, None = the machine's."""

    congestion: str | None = "cubic"
    mtu: int = 1500
    tcp_memory: int | None = None


@dataclass(slots=True)
class End:
    """One namespace. ``device``: the TUN descriptor, to be closed once the emulator has it."""

    namespace: int
    device: int

    @property
    def inode(self) -> int:
        """What tells the namespace from others in /proc."""
        return os.fstat(self.namespace).st_ino

    def close(self) -> None:
        """Give the namespace up; it lives on while a process is in it."""
        os.close(self.namespace)


def make_end(side: Side, stack: Stack) -> End:
    """Raises Unavailable."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unavailable("needs root on Linux")
    made: list[End] = []
    failures: list[Exception] = []

    def make() -> None:  # in a thread: the namespace is the thread's, and the caller stays where it is
        try:
            _leave_home()
            end = End(_own_namespace(), -1)
            made.append(end)
            end.device = _tun()
            _configure(side, stack)
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failures:
        for end in made:
            end.close()
            if end.device >= 0:
                os.close(end.device)
        raise failures[0]
    return made[0]


@contextmanager
def inside(end: End) -> Iterator[None]:
    """The calling thread, and what it starts and opens, lives in the namespace for the time of the block."""
    home = _own_namespace()
    try:
        _enter(end.namespace)
        yield
    finally:
        _enter(home)
        os.close(home)


def _leave_home() -> None:
    if _libc.unshare(_CLONE_NEWNET):
        raise Unavailable(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def _own_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _tun() -> int:
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"cannot open /dev/net/tun: {error.strerror}") from error
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"link0", _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
        fcntl.ioctl(device, _TUNSETVNETHDRSZ, struct.pack("i", 10))
        fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    except OSError as error:
        os.close(device)
        raise Unavailable(f"cannot make a TUN device: {error.strerror}") from error
    return device


def _configure(side: Side, stack: Stack) -> None:
    own, peer = (CLIENT, SERVER) if side == "client" else (SERVER, CLIENT)
    with suppress(OSError):
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    _ip("link", "set", "lo", "up")
    _ip("addr", "add", f"{own}/32", "peer", f"{peer}/32", "dev", "link0")
    _ip("link", "set", "link0", "mtu", str(stack.mtu), "txqueuelen", str(_LONGEST_QUEUE), "up")
    tcp = Path("/proc/sys/net/ipv4")
    (tcp / "tcp_no_metrics_save").write_text("1")  # a run must not learn from the one before
    if stack.congestion:  # per route, which needs no permission for the whole machine
        _ip("route", "replace", f"{peer}/32", "dev", "link0", "src", own, "congctl", stack.congestion)
    if stack.tcp_memory:
        for name in ("tcp_rmem", "tcp_wmem"):
            least, default, _ = (tcp / name).read_text().split()
            (tcp / name).write_text(f"{least} {default} {stack.tcp_memory}")


def _ip(*words: str) -> None:
    try:
        done = subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unavailable("ip is not installed (apt install iproute2)") from error
    if done.returncode:
        raise Unavailable(f"ip {' '.join(words)}: {done.stderr.strip()}")
