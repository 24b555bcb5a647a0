"""X2: what ``asyncdup job`` understands, and how a job's status reads."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from asyncdup.cli.help import help_text
from asyncdup.cli.job import status_lines
from asyncdup.cli.main import main
from asyncdup.cli.orders import ORDERS, Order, parse_order
from asyncdup.errors import UsageError


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("job status", Order({"cmd": "status"})),
        ("job status --json", Order({"cmd": "status"}, json=True)),
        ("job --job=abc events", Order({"cmd": "events"}, "abc")),
        ("job pause --job abc", Order({"cmd": "pause"}, "abc")),
        ("job pause --now", Order({"cmd": "pause", "now": True})),
        ("job resume", Order({"cmd": "resume"})),
        ("resume", Order({"cmd": "resume"})),
        ("resume --job=a", Order({"cmd": "resume"}, "a")),
        ("job drain", Order({"cmd": "drain"})),
        ("job abort", Order({"cmd": "abort"})),
        ("job set-concurrency 12", Order({"cmd": "set-concurrency", "concurrency": 12})),
        ("job set-concurrency auto", Order({"cmd": "set-concurrency", "concurrency": "auto"})),
        ("job set-rate 512k", Order({"cmd": "set-rate", "upload": "512k", "download": "512k"})),
        ("job set-rate up=1M down=off requests=2.5", Order({"cmd": "set-rate", "upload": "1M", "download": "off", "requests": 2.5})),
        ("job set-rate 1M requests=off", Order({"cmd": "set-rate", "upload": "1M", "download": "1M", "requests": 0.0})),
        ("job set-rate up=08:00,512k 12:00,pause", Order({"cmd": "set-rate", "upload": "08:00,512k 12:00,pause"})),
    ],
)
def test_x2_orders_are_understood(words: str, order: Order) -> None:
    assert parse_order(words.split()) == order


@pytest.mark.parametrize(
    "words", ["", "backup a file:///b", "job file:///b", "resume file:///b", "file:///b job", "job --help", "job status -h"]
)
def test_what_is_no_order_is_left_to_the_other_commands(words: str) -> None:
    assert parse_order(words.split()) is None


@pytest.mark.parametrize(
    "words",
    [
        "job",
        "job stat",
        "job --json",
        "job status now",
        "job status --now",
        "job status --job",
        "job pause --job=",
        "job --now pause",
        "job drain --now",
        "resume it",
        "job set-concurrency",
        "job set-concurrency 0",
        "job set-concurrency -1",
        "job set-concurrency many",
        "job set-rate",
        "job set-rate fast",
        "job set-rate left=1M",
        "job set-rate requests=-1",
        "job set-rate requests=often",
    ],
)
def test_x2_what_is_no_order_to_a_job_is_wrong_use(words: str) -> None:
    with pytest.raises(UsageError):
        parse_order(words.split())


def test_the_help_names_every_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(order in help_text("job") for order in ORDERS)
    assert "job ORDER" in help_text()
    assert main(["job", "--help"]) == 0
    assert "set-concurrency" in capsys.readouterr().out


def test_wrong_use_is_exit_23_and_no_such_job_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "explode"]) == 23
    assert main(["job", "status", "--job=nobody-has-this-id"]) == 1
    assert "nobody-has-this-id is not running" in capsys.readouterr().err


def test_an_order_needs_neither_the_event_loop_nor_ssh() -> None:
    code = (
        "import sys; from asyncdup.cli.main import main; code = main(['job', 'status', '--job=nobody-has-this-id'])\n"
        "loaded = {'anyio', 'asyncio', 'asyncssh', 'asyncdup.transfer'} & set(sys.modules); sys.exit(str(loaded) if loaded else code)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)

    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def record(**changes: Any) -> dict[str, Any]:
    lane = {"name": "sftp://nas", "trouble": "", "gate": "RUNNING", "pauses": [], "running": 3, "waiting": 1, "concurrency": 4}
    return {
        "job": "abc",
        "pid": 7,
        "action": "backup",
        "source": "/home/u",
        "target": "sftp://nas",
        "since": 100.0,
        "now": 175.0,
        "state": "running",
        "volumes": {"made": 9, "stored": 5, "read": 0, "needed": 0},
        "bytes": {"stored": 5 << 20, "read": 0, "moved": 6 << 20},
        "rate": 1.5 * (1 << 20),
        "remaining": 245.0,
        "lanes": [lane],
        "spool": {"files": 4, "bytes": 4 << 20},
        "limits": {"upload": "512k", "download": "off", "requests": 5},
    } | changes


def test_x2_the_status_of_a_backup() -> None:
    assert list(status_lines(record())) == [
        "job abc (process 7): backup /home/u sftp://nas; running, begun 1m15s ago",
        "  volumes: 9 made, 5 stored, 5.0 MiB",
        "  moved: 6.0 MiB, 1.5 MiB/s now, about 4m05s to go",
        "  sftp://nas: RUNNING; 3 of 4 slots busy, 1 waiting",
        "  spool: 4 files, 4.0 MiB",
        "  limits: upload 512k, requests 5/s",
    ]


def test_x2_the_status_of_what_waits_and_of_a_restore() -> None:
    episode = {"id": "x#1", "since": 1.0, "error": "disk\x1b[2J full", "hint": "make room", "resume": ["rm /flag", "asyncdup job resume"]}
    lane = record()["lanes"][0] | {"gate": "WAITING", "pauses": ["command", "timetable"], "trouble": "reset", "episode": episode}
    volumes = {"made": 0, "stored": 0, "read": 2, "needed": 8}

    lines = list(
        status_lines(
            record(state="waiting", remaining=None, rate=0.0, lanes=[lane], volumes=volumes, limits={"upload": "off", "requests": 0})
        )
    )

    assert lines[1:3] == ["  volumes: 2 of 8 read, 0 B", "  moved: 6.0 MiB, 0 B/s now"]
    assert lines[3:9] == [
        "  sftp://nas: WAITING, paused (command, timetable); 3 of 4 slots busy, 1 waiting",
        "    reset",
        "    WAITING for you: disk\\x1b[2J full",
        "    make room",
        "    to go on: rm /flag",
        "    to go on: asyncdup job resume",
    ]
    assert lines[-1] == "  limits: none"
    assert list(status_lines({name: value for name, value in record(state="starting", lanes=[]).items() if name != "spool"}))[
        -1
    ].startswith("  moved")
