"""What a start costs is decided by what it imports: the set of modules is held, not the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asyncdup.cli.main import _routes
from asyncdup.cli.options import COMMANDS

_CODE = """
import sys
from asyncdup.cli.main import main
code = main(sys.argv[1:])
ours = sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
heavy = sorted({"asyncio", "ssl", "multiprocessing", "email", "http.client", "urllib.request", "argparse", "asyncdup.testing"} & set(sys.modules))
rooms = [name for name in sys.modules if name.startswith(("asyncdup.commands.", "asyncdup.backends.", "asyncdup.cli.routes"))]
sys.stderr.write(" ".join([name for name in ours if not name.startswith("_")] + heavy + rooms))
sys.exit(code)
"""


def loaded(*words: str, home: Path) -> set[str]:
    """What a command line loads: packages outside the standard library, the slow ones within it, commands, routes and backends."""
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *words], capture_output=True, text=True, check=False, timeout=240, env=environment, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["help", "options"], ["manual"], ["completion", "bash"]])
def test_what_only_prints_a_text_loads_nothing_but_asyncdup(words: list[str], tmp_path: Path) -> None:
    assert loaded(*words, home=tmp_path) - {"sitecustomize"} == {"asyncdup"}


@pytest.mark.slow
def test_the_status_of_a_local_target_loads_no_ssh_no_sdk_and_no_rich(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()

    found = loaded("collection-status", f"file://{tmp_path}/target", home=tmp_path)

    assert not found & {"asyncssh", "cryptography", "aiohttp", "aiobotocore", "botocore", "obstore", "fsspec", "rich", "yarl"}
    assert not found & {"multiprocessing", "email", "http.client", "urllib.request", "argparse", "asyncdup.testing"}
    assert "anyio" in found


@pytest.mark.slow
def test_the_status_of_a_local_target_loads_its_own_command_and_backend_only(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()

    found = loaded("collection-status", f"file://{tmp_path}/target", home=tmp_path)

    needed = "changes collection control job options session sockets status workspace"
    assert {name for name in found if name.startswith("asyncdup.commands.")} == {f"asyncdup.commands.{name}" for name in needed.split()}
    assert {name for name in found if name.startswith("asyncdup.cli.routes")} == {"asyncdup.cli.routes_status"}
    needed = "base bodies checksums duplicity duplicity.find local names options oserrors registry urls"
    assert {name for name in found if name.startswith("asyncdup.backends.")} == {f"asyncdup.backends.{name}" for name in needed.split()}


def test_every_command_has_a_route() -> None:
    assert [command.name for command in COMMANDS if command.served and command.name not in _routes(command.name)] == []
