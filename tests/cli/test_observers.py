"""V4 on the command line: ``--trace``, ``--metrics-file`` and the closing summary, with a command that is a fake and with a real backup."""

from __future__ import annotations

import io
import json
import re
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncdup.cli import observers, running
from asyncdup.cli.dispatch import Route
from asyncdup.cli.main import main
from asyncdup.cli.parser import parse
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import PlainScreen
from asyncdup.errors import BackendError
from asyncdup.events import AttemptFinished, AttemptStarted, EventHub
from asyncdup.observe.trace import Trace


class Idle:
    """A control of which nothing is asked."""

    def drain(self) -> None:
        raise AssertionError

    def resume(self, by: str = "api") -> None:
        raise AssertionError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def busy(*, events: EventHub, control: Any, raises: Exception | None = None) -> str:
    """An attempt of five seconds."""
    clock = iter([10.0, 15.0])
    events._clock = lambda: next(clock)
    events.emit(AttemptStarted(op=1, attempt=1, verb="put", name="v", lane="sftp://nas"))
    events.emit(AttemptFinished(op=1, attempt=1, verb="put", name="v", lane="sftp://nas", outcome="ok", seconds=5.0))
    if raises is not None:
        raise raises
    return "done"


def run(*words: str, out: io.StringIO | None = None, raises: Exception | None = None) -> tuple[int, str, str]:
    out, err = out or io.StringIO(), io.StringIO()
    settings = parse(["full", "src", "file:///there", "--no-encryption", *words])
    route = Route(lambda settings, secrets, report: partial(busy, raises=raises), lambda result, settings, report: 0)
    around = running.Surroundings(screen=PlainScreen(out, err), out=out, err=err, control=Idle(), wall=lambda: 1.7e9)
    code = running.run(settings, Secrets(), route, around)
    return code, out.getvalue(), err.getvalue()


SUMMARY = "time: 5.0 s: 100% sending\nheld up most by round trips to the target: a higher --concurrency would help\n"


@pytest.mark.parametrize(
    ("words", "out", "said"),
    [
        ([], Terminal(), SUMMARY),
        ([], io.StringIO(), ""),
        (["-v", "info"], io.StringIO(), SUMMARY),
        (["-v", "warning"], Terminal(), ""),
    ],
    ids=["on a terminal", "cron", "cron with info", "quiet"],
)
def test_a_person_gets_the_summary_and_cron_does_not(words: list[str], out: io.StringIO, said: str) -> None:
    assert run(*words, out=out)[1] == said


def test_a_trace_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("x" * 10_000)
    path.chmod(0o600)

    run(f"--trace={path}")

    assert [each["name"] for each in json.loads(path.read_text()) if each["ph"] == "X" and each["cat"] == "put"] == ["put v"]


def test_a_new_trace_is_its_owners_only(tmp_path: Path) -> None:
    run(f"--trace={tmp_path}/trace")

    assert stat.S_IMODE((tmp_path / "trace").stat().st_mode) == 0o600


@pytest.mark.parametrize("option", ["--trace", "--metrics-file"])
def test_a_file_that_cannot_be_written_is_wrong_use(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["full", str(tmp_path), "file:///there", "--no-encryption", f"{option}={tmp_path}/no/file"]) == 23
    assert option in capsys.readouterr().err


def test_metrics_tell_the_exit_code_of_a_run_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "asyncdup.prom"

    with pytest.raises(BackendError):
        run(f"--metrics-file={path}", raises=BackendError("gone"))

    assert re.search(r"^asyncdup_last_run_exit_code\{.*\} 50$", path.read_text(), re.MULTILINE)


def test_files_that_fail_later_are_told_of_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """V2."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(observers, "write_metrics", full)
    monkeypatch.setattr(Trace, "_take", full)

    code, out, _ = run(f"--metrics-file={tmp_path}/m", f"--trace={tmp_path}/t")

    assert code == 0
    assert [
        line for line in out.splitlines() if "No space left" in line and line.startswith(("--trace", "--metrics-file"))
    ] == out.splitlines()
    assert len(out.splitlines()) == 2


def test_a_real_backup_leaves_both_files(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(bytes(3000))
    words = ["--no-encryption", "-v0", f"--archive-dir={tmp_path}/cache", f"--trace={tmp_path}/trace", f"--metrics-file={tmp_path}/m.prom"]

    assert main(["full", f"{tmp_path}/source", f"file://{tmp_path}/target", *words]) == 0

    names = [each["name"] for each in json.loads((tmp_path / "trace").read_text())]
    assert {"volume 1", "spool bytes", "concurrency limit", "bytes/s"} <= set(names)
    assert sum(name.startswith("put duplicity-full") for name in names) == 3
    text = (tmp_path / "m.prom").read_text()
    assert f'command="full",source="{tmp_path}/source"' in text
    assert re.search(r"^asyncdup_last_run_volumes\{.*\} 1$", text, re.MULTILINE)


def test_what_listens_may_find_its_disk_full_and_no_run_fails_for_it(tmp_path: Path) -> None:
    """V2: what is buffered is written once more at the end, which must not change the outcome."""
    code, out, _ = run("--log-json=/dev/full", "--trace=/dev/full", f"--metrics-file={tmp_path / 'm'}")

    assert code == 0
    told = [line for line in out.splitlines() if "is not complete" in line]
    assert [line.partition(":")[0] for line in told] == ["--log-json", "--trace"] and all("No space left" in line for line in told)
