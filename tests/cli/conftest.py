"""A stage for the search for secrets, and the folder of tests on the path, so that ``cli.canary`` is found."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from cli.canary import Stage, echo_server


@pytest.fixture
def echo() -> Iterator[str]:
    with echo_server() as address:
        yield address


@pytest.fixture
def secret_stage(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    folder = tmp_path / "stage"
    folder.mkdir()
    stage = Stage(folder, capfdbinary, monkeypatch)
    for name in set(os.environ) - set(stage.environment()) - {"PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    for name, value in stage.environment().items():
        monkeypatch.setenv(name, value)
    yield stage
    subprocess.run(["gpgconf", "--homedir", str(folder / "home"), "--kill", "all"], check=False, capture_output=True)
    resource.setrlimit(resource.RLIMIT_CORE, limits)
