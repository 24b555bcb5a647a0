"""Selection: random trees and random lists of rules, given to our walk and to stock duplicity's own selection. The same paths come out.

Stock's module runs in one process that is asked once a case: two hundred of them take seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interop.stock import Stock

from asyncdup.archive.selection import Rule, Selection
from asyncdup.archive.walk import Walker
from asyncdup.errors import UsageError

pytestmark = [pytest.mark.realtime, pytest.mark.interop, pytest.mark.slow]

UNEXPECTED = 30  # a traceback of stock's

_DRIVER = """
import json, os, sys
from duplicity import cli_util, config, dup_time, errors, log, path, selection, util

log.setup()
log.setverbosity(0)
dup_time.setcurtime()

def chosen(source, opts):
    files = [open(value, encoding="utf-8") for option, value in opts if option.endswith("filelist") or option == "--files-from"]
    config.select_opts, config.select_files = opts, files
    select = selection.Select(path.Path(os.fsencode(source)))
    cli_util.parse_selection_args(select, opts, files)
    return [os.fsdecode(b"/".join(each.index)) for each in select.set_iter() if each.type]  # it lists what --files-from names, there or not

for line in sys.stdin:
    source, opts = json.loads(line)
    try:
        answer = [0, chosen(source, [tuple(each) for each in opts])]
    except errors.FatalError as error:
        answer = [int(error.code), []]
    except Exception as error:
        answer = [30, [repr(error)]]
    print(json.dumps(answer), flush=True)
"""


class StocksSelection:
    """Asks stock's selection."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.folder = folder  # that of the tree ``s``
        self._process = subprocess.Popen([python, "-c", _DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True)

    def __call__(self, source: str, rules: list[tuple[str, str]]) -> tuple[int, list[str]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([source, [[f"--{name}", value] for name, value in rules]]) + "\n")
        self._process.stdin.flush()
        code, paths = json.loads(self._process.stdout.readline())
        return code, paths

    def close(self) -> None:
        with self._process:
            pass  # closes its input, which ends it


@pytest.fixture(scope="module")
def by_stock(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StocksSelection]:
    asked = StocksSelection(stock.python, tmp_path_factory.mktemp("selection"))
    try:
        yield asked
    finally:
        asked.close()


def by_us(source: str, rules: list[tuple[str, str]]) -> tuple[int, list[str]]:
    try:
        selection = Selection([Rule(name, os.fsencode(value)) for name, value in rules], os.fsencode(source))
    except UsageError as error:
        return error.exit_code, []
    walker = Walker(os.fsencode(source), selection=selection, skip_if_present=selection.skip_if_present, on_warning=lambda warning: None)
    with walker:
        return 0, [os.fsdecode(found.entry.path) for found in walker]


NAMES = st.sampled_from(["a", "b", "ab", "B", "a.py", ".x", "é", "c d", "a*"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TREES = st.lists(PATHS, min_size=1, max_size=12)
PIECES = st.sampled_from(["a", "b", "ab", "B", "a.py", ".x", "é", "c d", "*", "**", "?", "a*", "*.py", "[ab]", "[!a]", "**b", "a[*]"])
PATTERNS = st.lists(PIECES, min_size=1, max_size=3).map("/".join)
SLASHED = st.tuples(PATTERNS, st.sampled_from(["", "", "/"])).map("".join)
REGEXPS = st.sampled_from(["a", r"\.py$", "/b/", "^s/a", "B", "(a|b)/", "é", "s/[^/]*$"])
VERBS = st.sampled_from(["include", "exclude"])


@st.composite
def rule_lists(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Up to six rules; of a list file the lines. The last one decides whatever the others left open: there we take a file or an empty folder
    on whose path an include lies further down, which stock drops without a word."""
    rules: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["pattern", "pattern", "pattern", "regexp", "list", "files", "filter", "present"]))
        if kind == "pattern":
            prefix = draw(st.sampled_from(["s/", "s/", "s/", "**", "ignorecase:S/"]))
            rules.append((draw(VERBS), prefix + draw(SLASHED)))
        elif kind == "regexp":
            rules.append((draw(VERBS) + "-regexp", draw(REGEXPS)))
        elif kind == "list":
            lines = st.tuples(st.sampled_from(["", "+ ", "- "]), SLASHED).map(lambda line: f"{line[0]}s/{line[1]}")
            rules.append((draw(VERBS) + "-filelist", draw(st.lists(lines, min_size=1, max_size=3))))
        elif kind == "files" and not any(name == "files-from" for name, _ in rules):
            rules.append(("files-from", draw(st.lists(PATHS, min_size=1, max_size=4))))
        elif kind == "filter":
            rules.append(
                (
                    draw(st.sampled_from(["filter-literal", "filter-regexp", "filter-ignorecase", "filter-strictcase", "filter-globbing"])),
                    "",
                )
            )
        elif kind == "present":
            rules.append(("exclude-if-present", draw(NAMES)))
    rules.append(("exclude", draw(st.sampled_from(["s/a", "s/*/b", "s/**"]))))
    if any(name.startswith("filter-") for name, _ in rules):
        rules += [("filter-globbing", ""), ("filter-strictcase", "")]
    return [*rules, ("exclude", "**")]


def plant(folder: Path, files: list[str]) -> None:
    """A tree ``s`` with these files; what would be a file and a folder is a folder."""
    shutil.rmtree(folder / "s", ignore_errors=True)
    (folder / "s").mkdir()
    for name in sorted(files, key=len, reverse=True):
        path = folder / "s" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text("")


def with_files(folder: Path, rules: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """The lines of list files written to files."""
    found = []
    for number, (name, value) in enumerate(rules):
        if isinstance(value, list):
            (folder / f"list{number}").write_text("\n".join(value) + "\n")
            value = str(folder / f"list{number}")
        found.append((name, value))
    return found


@settings(max_examples=250, deadline=None, derandomize=True)
@given(files=TREES, rules=rule_lists())
def test_the_same_paths_are_chosen(files: list[str], rules: list[tuple[str, Any]], by_stock: StocksSelection) -> None:
    folder = by_stock.folder
    plant(folder, files)
    words = with_files(folder, rules)
    with chdir(folder):
        code, paths = by_us("s", words)
    stocks_code, stocks_paths = by_stock("s", words)

    if stocks_code == UNEXPECTED:
        assert code != 0, stocks_paths
    else:
        assert (code, paths) == (stocks_code, stocks_paths)
