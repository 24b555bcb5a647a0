"""Names and prefixes mean here what they mean in stock duplicity 3.2.1, asked for by running it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from asyncdup.cli.options import OPTIONS
from asyncdup.cli.parser import parse
from asyncdup.errors import UsageError

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SHOWN = re.compile(r"^  (?:-\w, )?--([a-z0-9-]+)", re.MULTILINE)


def stock_python() -> str:
    named = os.environ.get("ASYNCDUP_STOCK")
    for candidate in (Path(named) if named else None, Path(".stock/bin/python")):
        if candidate is not None and candidate.exists():
            return str(candidate)
    pytest.skip("no stock duplicity")


def run_stock(*words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PASSPHRASE": "x", "COLUMNS": "120"}
    command = [stock_python(), "-m", "duplicity", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=240, stdin=subprocess.DEVNULL, check=False)


def test_stock_shows_no_option_that_we_do_not_know() -> None:
    known = {name for option in OPTIONS if not option.ours for name in (option.name, *option.aliases)}

    shown = set(SHOWN.findall(run_stock("--help").stdout)) | set(SHOWN.findall(run_stock("--help-restore").stdout))

    assert len(shown) > 100
    assert shown - known == set()


@pytest.mark.parametrize(
    "prefix", ["--incl", "--num", "--no", "--comp", "--fil", "--ti", "--con", "--re", "--s3-use-g", "--he", "--lo", "--m"]
)
def test_a_prefix_that_is_ambiguous_in_stock_is_so_here_with_the_same_names(prefix: str) -> None:
    told = re.search(r"could match (.*)", run_stock("backup", prefix, "/nonexistent", "file:///nonexistent").stderr)
    assert told is not None

    with pytest.raises(UsageError) as caught:
        parse(["backup", prefix, "/nonexistent", "file:///nonexistent"])

    assert sorted(told[1].split(", ")) == sorted((caught.value.hint or "").removeprefix("it could be ").split(", "))


@pytest.mark.parametrize(
    "prefix", ["--no-e", "--restore-o", "--vol=3", "--compress", "--nam=x", "--dry", "--exclude-ot", "--full-if-o=3D", "--mem"]
)
def test_a_prefix_that_is_unique_in_stock_is_taken_here(prefix: str) -> None:
    """A missing source is the error that stock then comes to. ``--mem`` is no prefix of stock's, so it may be one of ours."""
    said = run_stock("backup", prefix, "/nonexistent", "file:///nonexistent").stderr

    if prefix == "--mem":
        assert "does not exist" not in said
        assert parse(["backup", prefix, "1M", "/nonexistent", "file:///nonexistent"]).memory == 1 << 20
    else:
        assert "does not exist" in said
        assert parse(["backup", prefix, "/nonexistent", "file:///nonexistent"]).command == "backup"
