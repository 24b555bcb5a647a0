"""docs/engine-rules.md: fills in which tests name each rule. The rules and their wording are the page's own.

usage: python scripts/rules_page.py        (from the root of the repository)
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "engine-rules.md"
_MOST = 3  # tests shown for a rule
_ENGINE = {"S3": "transfer", "T0": "transfer", "T1": "transfer"}  # elsewhere a storage or points in time are meant
_ROW = re.compile(r"\| ([A-Z][0-9]{1,2}) \| (.*) \|(.*)\|")
_NAMED = re.compile(r"\b([A-Z])([0-9]{1,2})(?:-\1([0-9]{1,2}))?\b|\btest_([a-z])([0-9]{1,2})_")


def rules(page: str) -> dict[str, str]:
    """What the last column says, by rule, in the order of the page."""
    return {match[1]: match[3].strip() for match in map(_ROW.fullmatch, page.splitlines()) if match}


def rules_named(text: str) -> set[str]:
    """``G1``, ``G1-G4`` for all of them, ``test_g1_…``."""
    found = set()
    for letter, first, last, small, number in _NAMED.findall(text):
        found |= {f"{letter}{each}" for each in range(int(first), int(last or first) + 1)} if letter else {f"{small.upper()}{number}"}
    return found


def holders(tests: Iterable[Path]) -> dict[str, list[Path]]:
    """The test files that name each rule, those first that name it in the docstring at their head, and fewest others with it."""
    found: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in tests:
        text = path.read_text()
        named, head = rules_named(text), rules_named(text.partition('"""')[2].partition('"""')[0])
        for rule in named:
            if path.parent.name != _ENGINE.get(rule, path.parent.name):
                continue
            found[rule].append((len(head) if rule in head else 100 + len(named), path))
    return {rule: [path for _, path in sorted(paths)] for rule, paths in found.items()}


def filled(page: str, root: Path = ROOT) -> str:
    """The page with its last column as the tests are now. A rule that no test names keeps what is written there."""
    found = holders(path for path in (root / "tests").rglob("test_*.py") if path.name != "test_rules.py")

    def row(match: re.Match[str]) -> str:
        paths = found.get(match[1], [])[:_MOST]
        held = ", ".join(f"`{path.relative_to(root / 'tests')}`" for path in paths) or match[3].strip()
        return f"| {match[1]} | {match[2]} | {held} |"

    return "".join(f"{_ROW.sub(row, line)}\n" for line in page.splitlines())


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
    unheld = [rule for rule, held in rules(PAGE.read_text()).items() if not held.startswith("`")]
    sys.stdout.write(f"no test names {', '.join(unheld)}\n" if unheld else "")
