"""The lab's own tests: packets are cut right, and where it can be had the link is what was asked for."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.lab import Lab, Link, Way, available
from benchmarks.lab.packets import HEADER, cut, ones_sum, opens_connection, shape_of

ROOT = Path(__file__).parents[2]
IP, TCP, SEGMENT = 20, 32, 1000  # bytes


def super_packet(size: int, *, flags: int = 0x18) -> bytes:
    """As the kernel hands out ``size`` bytes of a TCP stream. Each byte of the payload tells its place."""
    virtio = struct.pack("<BBHHHH", 1, 1 if size > SEGMENT else 0, IP + TCP, SEGMENT, IP, 16)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, (IP + TCP + size) & 0xFFFF, 7, 0, 64, 6, 0, b"\xc6\x12\0\1", b"\xc6\x12\0\2")
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 0xFFFFFF00, 0, TCP // 4 << 4, flags, 100, 0, 0) + bytes(12)
    return virtio + ip + tcp + bytes(at // SEGMENT for at in range(size))


def test_a_super_packet_counts_as_its_segments_on_the_wire() -> None:
    shape = shape_of(super_packet(3500))

    assert (shape.segments, shape.headers) == (4, IP + TCP)
    assert shape.size == 3500 + 4 * (IP + TCP)


@pytest.mark.parametrize(("first", "end"), [(0, 1), (0, 3), (1, 2), (2, 4), (3, 4), (0, 4)])
def test_a_part_of_a_super_packet_is_a_packet_of_its_own(first: int, end: int) -> None:
    whole = super_packet(3500, flags=0x99)
    part = cut(whole, first, end, shape_of(whole))

    header, body = part[: HEADER + IP + TCP], part[HEADER + IP + TCP :]
    length, ident = struct.unpack_from("!HH", header, HEADER + 2)
    (number,) = struct.unpack_from("!I", header, HEADER + IP + 4)
    flags = header[HEADER + IP + 13]
    assert body == whole[HEADER + IP + TCP :][first * SEGMENT : end * SEGMENT]
    assert (length, ident, number) == (IP + TCP + len(body), 7 + first, (0xFFFFFF00 + first * SEGMENT) & 0xFFFFFFFF)
    assert flags & 0x09 == (0x09 if end == 4 else 0), "FIN and PSH are the last segment's"
    assert flags & 0x80 == (0x80 if first == 0 else 0), "CWR is the first one's"
    assert header[1] == (0 if end - first == 1 else 1)
    if (first, end) != (0, 4):  # the whole is passed on as it is
        assert ones_sum(header[HEADER : HEADER + IP]) == 0xFFFF


def test_only_the_first_packet_of_a_connection_opens_it() -> None:
    assert opens_connection(super_packet(0, flags=0x02))
    assert not opens_connection(super_packet(0, flags=0x12))
    assert not opens_connection(super_packet(0, flags=0x10))


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"rate": -1.0}, {"delay": -0.1}])
def test_a_link_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Way(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lab_here() -> None:
    reason = available()
    if reason is not None:
        pytest.skip(f"no lab here: {reason}")


ECHO = """
import socket, sys
with socket.create_server(("198.18.0.2", 7)) as listener:
    while True:
        with listener.accept()[0] as client:
            client.sendall(client.recv(100))
"""
ASK = """
import socket, time
with socket.create_connection(("198.18.0.2", 7), timeout=60) as server:
    began = time.monotonic()
    server.sendall(b"x")
    server.recv(1)
    print(time.monotonic() - began)
"""


@pytest.mark.realtime
@pytest.mark.slow
def test_the_link_has_its_round_trip_is_cut_and_is_mended(lab_here: None) -> None:
    with Lab(Link.of(rtt=0.06, rate=1e6)) as lab:
        lab.start("server", [sys.executable, "-c", ECHO])
        lab.wait_port(7)
        client = lab.start("client", [sys.executable, "-c", ASK], stdout=subprocess.PIPE, text=True)
        assert 0.055 < float(client.communicate()[0]) < 5

        lab.down()
        late = lab.start("client", [sys.executable, "-c", ASK])
        while not lab.statistics().up.lost:  # it asks, and nobody hears it
            time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            late.wait(0.5)
        assert lab.run("client", ["sleep", "600"], timeout=0.1) == -9
        lab.up()
        assert late.wait(60) == 0, "TCP asks again, and gets through"
        counters = lab.statistics().up
        assert counters.connections >= 3 and counters.lost >= 1 and 0 < counters.delivered < counters.bytes
        left = lab.start("server", ["sleep", "600"])

    assert left.returncode is not None, "what runs in the lab ends with it"


@pytest.mark.realtime
@pytest.mark.slow
def test_an_owner_that_is_killed_leaves_no_process_behind(lab_here: None) -> None:
    code = """
import os, signal
from benchmarks.lab import Lab, Link
with Lab(Link()) as lab:
    print(lab.start("server", ["sleep", "600"]).pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    owner = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    process = Path("/proc") / owner.stdout.strip() / "stat"

    assert owner.returncode == -9
    for _ in range(1200):
        if not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the process is still there")
