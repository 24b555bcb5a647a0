"""The outermost frame: words in, exit code and lines out (X6), with a command that is a fake."""

from __future__ import annotations

import io
import json
import math
import os
import resource
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncdup import __version__, errors
from asyncdup.cli.dispatch import Route
from asyncdup.cli.main import _screen, main
from asyncdup.cli.parser import parse
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import Report
from asyncdup.cli.settings import Settings
from asyncdup.events import EventHub, Notice, Warning

URL = "file:///there"
MORE_MEMORY = (
    "  raise the limit (ulimit -v; for threads ulimit -u, too) or lower --concurrency or --volsize, and run the same command again"
)


class Idle:
    """A control of which nothing is asked."""

    def drain(self) -> None:
        raise AssertionError

    def resume(self, by: str = "api") -> None:
        raise AssertionError


class Fake:
    """Stands for ``backup``: emits, then returns or raises."""

    def __init__(self, *emits: Any, raises: BaseException | None = None, code: int = 0) -> None:
        self.emits = emits
        self.raises = raises
        self.code = code
        self.settings: Settings | None = None
        self.secrets: Secrets | None = None

    def bind(self, settings: Settings, secrets: Secrets, report: Report) -> Any:
        self.settings, self.secrets = settings, secrets
        return partial(self.run, settings.path, settings.url)

    async def run(self, path: str, url: str, *, events: EventHub, control: Any) -> str:
        for event in self.emits:
            events.emit(event)
        if self.raises is not None:
            raise self.raises
        return f"{path} -> {url}"

    def show(self, result: str, settings: Settings, report: Report) -> int:
        report.result(result)
        return self.code

    def main(self, *words: str) -> int:
        return main(["src", URL, "--no-encryption", *words], routes={"backup": Route(self.bind, self.show)}, control=Idle())


def test_a_command_runs_and_its_result_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(Notice(message="working"))

    assert fake.main() == 0
    assert capsys.readouterr() == ("working\nsrc -> file:///there\n", "")


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (
            errors.ChainError("volume 3 is missing", hint="restore with --time"),
            1,
            ["asyncdup: volume 3 is missing", "  restore with --time"],
        ),
        (errors.LockedError("the folder is in use"), 23, ["asyncdup: the folder is in use"]),
        (errors.InterruptedByOperator("aborted"), 61, ["asyncdup: aborted"]),
        (errors.OperatorError("disk full", space=True), 53, ["asyncdup: disk full"]),
        (FileNotFoundError(2, "No such file or directory", "/x"), 52, ["asyncdup: /x: No such file or directory"]),
        (PermissionError(13, "Permission denied", b"/x\xff"), 51, ["asyncdup: /x\\xff: Permission denied"]),
        (OSError(28, "No space left on device"), 53, ["asyncdup: No space left on device"]),
        (
            MemoryError(),
            30,
            [
                "asyncdup: there is no memory left",
                MORE_MEMORY,
            ],
        ),
        (RuntimeError("can't start new thread"), 30, ["asyncdup: there is no memory left for another thread, or no thread", MORE_MEMORY]),
        (KeyError("x"), 30, ["asyncdup: KeyError: 'x'", "  this is a defect of asyncdup; -v9 shows where it happened"]),
        (ExceptionGroup("", [ExceptionGroup("", [errors.ChainError("inner")])]), 1, ["asyncdup: inner"]),
    ],
)
def test_an_error_is_one_line_with_the_next_step(error: Exception, code: int, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """X6: the exit code is that of the root cause."""
    assert Fake(raises=error).main() == code
    assert capsys.readouterr().err.splitlines() == lines


def test_a_limit_of_memory_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (150 << 20, resource.RLIM_INFINITY))

    assert Fake(raises=MemoryError()).main() == 30
    assert capsys.readouterr().err.splitlines()[0].endswith("left: this process is limited to 150.0 MiB of address space")


def test_notes_and_traceback_are_for_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.BackendError("reset")
    error.add_note("put vol1, 5 attempts")

    Fake(raises=error).main("-v5")
    assert capsys.readouterr().err.splitlines() == ["asyncdup: reset", "  put vol1, 5 attempts"]

    Fake(raises=error).main("-v9")
    assert "Traceback" in capsys.readouterr().err


def test_done_with_warnings_is_62(capsys: pytest.CaptureFixture[str]) -> None:
    """P13."""
    assert Fake(Warning(message="unreadable", path="f")).main() == 62
    assert Fake(Warning(message="unreadable", path="f"), code=1).main() == 1


def test_remarks_on_the_command_line_are_notices(capsys: pytest.CaptureFixture[str]) -> None:
    Fake().main("--asynchronous-upload")

    assert "no effect" in capsys.readouterr().out


def test_wrong_use_is_23(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["src", URL, "--nix"]) == 23
    assert capsys.readouterr().err.startswith("asyncdup: unknown option --nix\n")


def test_a_missing_passphrase_is_found_before_anything_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASSPHRASE", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    assert Fake().main("--encryption") == 23
    assert "PASSPHRASE" in capsys.readouterr().err


def test_the_passphrase_reaches_the_command_and_nothing_else(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """P15."""
    monkeypatch.setenv("PASSPHRASE", "geheim")
    fake = Fake(raises=RuntimeError("x"))

    fake.main("--encryption", "-v9", "--log-json=-")

    assert fake.secrets is not None and fake.secrets.passphrase == "geheim"
    assert "geheim" not in "".join(capsys.readouterr())


def test_log_json_on_standard_output_has_it_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    Fake(Notice(message="working")).main("--log-json=-")

    out, err = capsys.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["Notice"]
    assert err == "working\nsrc -> file:///there\n"


def test_log_json_adds_to_a_file_of_its_owner(tmp_path: Path) -> None:
    log = tmp_path / "log"

    for _ in range(2):
        Fake(Notice(message="working")).main(f"--log-json={log}")

    assert len(log.read_text().splitlines()) == 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_written_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Fake().main(f"--log-json={tmp_path}/no/log") == 23
    assert "--log-json" in capsys.readouterr().err


def test_no_core_file_can_hold_a_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """P15. What the limit was before does not matter: often it is 0 already."""
    asked: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", asked.__setitem__)

    Fake().main()

    assert asked[resource.RLIMIT_CORE][0] == 0


def test_help_and_version_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["help", "restore"]) == 0
    assert capsys.readouterr().out.startswith(f"asyncdup {__version__}\nusage: asyncdup restore")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "out", "err", "term", "interval"),
    [
        ([], Terminal(), Terminal(), "xterm", 0.25),
        ([], io.StringIO(), Terminal(), "xterm", 0.25),
        (["--log-json=-"], Terminal(), io.StringIO(), "xterm", math.inf),
        ([], Terminal(), Terminal(), "dumb", math.inf),
        (["-v0"], Terminal(), Terminal(), "xterm", math.inf),
        ([], io.StringIO(), io.StringIO(), "xterm", math.inf),
        (["--progress"], io.StringIO(), io.StringIO(), "xterm", 3.0),
        (["--progress", "--progress-rate=9"], io.StringIO(), io.StringIO(), "xterm", 9.0),
    ],
)
def test_a_progress_line_where_a_terminal_can_draw_one(
    words: list[str], out: io.StringIO, err: io.StringIO, term: str, interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)

    assert _screen(parse(["src", URL, *words]), out, err).interval == interval


def test_no_answer_at_the_prompt_is_wrong_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def end_of_input(prompt: str) -> str:
        raise EOFError

    monkeypatch.delenv("PASSPHRASE", raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", end_of_input)

    assert Fake().main("--encryption") == 23
    assert "no passphrase was typed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("word", ["--version", "--help", "--nix"])
def test_version_help_and_typing_errors_load_nothing_heavy(word: str) -> None:
    code = (
        "import sys\nfrom asyncdup.cli.main import main\n"
        f"main([{word!r}])\n"
        "heavy = {'asyncio', 'anyio', 'rich', 'asyncssh', 'ssl', 'asyncdup.events', 'argparse', 'aiobotocore'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)

    assert (done.returncode, done.stderr if word != "--nix" else "") == (0, "")


@pytest.mark.slow
def test_a_result_that_standard_output_has_no_room_for_is_said_to_be_in_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())

    assert Fake().main() == 53
    assert capsys.readouterr().err.splitlines()[0] == "asyncdup: standard output takes no more: No space left on device"


def test_a_reader_who_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom test_main import *\n"
        "fake = Fake()\nfake.show = lambda result, settings, report: report.result(str(n) for n in range(100000)) or 0\n"
        "sys.exit(fake.main())"
    )
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code, os.path.dirname(__file__)], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.read(read, 10)
    os.close(read)

    _, err = process.communicate(timeout=240)

    assert (process.returncode, err) == (141, "")


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-"])
def test_without_standard_streams_it_works_in_silence(closed: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    words = f"full {tmp_path}/source file://{tmp_path}/target --no-encryption --archive-dir {tmp_path}/cache"

    command = ["/bin/sh", "-c", f"exec {sys.executable} -m asyncdup {words} {closed}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "target").iterdir())) == 3
