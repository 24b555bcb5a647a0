"""What a start costs is decided by what it imports: the set of modules is held, not the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
import sys
from asyncdup.cli.main import main
code = main(sys.argv[1:])
ours = sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
heavy = sorted({"asyncio", "ssl", "multiprocessing", "email", "http.client", "urllib.request", "argparse", "asyncdup.testing"} & set(sys.modules))
sys.stderr.write(" ".join([name for name in ours if not name.startswith("_")] + heavy))
sys.exit(code)
"""


def loaded(*words: str, home: Path) -> set[str]:
    """The packages outside the standard library, and the slow ones within it, that a command line loads."""
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *words], capture_output=True, text=True, check=False, timeout=60, env=environment, cwd=home
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
