"""docs/engine-rules.md: every rule of the engine and every promise has a test that names it, and the page says which."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rules_page", ROOT / "scripts" / "rules_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_rule_is_named_by_a_test(script: ModuleType) -> None:
    """A rule that the code does not hold says so in its row; only such a one may be without a test."""
    rows = script.rules(script.filled(script.PAGE.read_text()))

    assert [rule for rule, held in rows.items() if not held.startswith(("`", "not held"))] == []


def test_the_page_names_tests_that_are_there_and_name_the_rule(script: ModuleType) -> None:
    rows = script.rules(script.PAGE.read_text())

    assert {f"P{number}" for number in range(1, 20)} <= set(rows)
    for rule, held in rows.items():
        for name in held.replace("`", "").split(", ") if held.startswith("`") else ():
            path = ROOT / "tests" / name
            assert path.is_file(), f"run python scripts/rules_page.py: {name} of {rule} is gone"
            assert rule in script.rules_named(path.read_text()), f"run python scripts/rules_page.py: {name} names {rule} no more"


def test_no_test_names_a_rule_that_is_not_on_the_page(script: ModuleType) -> None:
    """Nor does the code: a number that leads nowhere helps nobody."""
    rows = set(script.rules(script.PAGE.read_text()))
    letters = {rule[0] for rule in rows}
    wrong = [
        f"{path.relative_to(ROOT)}: {rule}"
        for folder in ("asyncdup/transfer", "tests/transfer")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for rule in script.rules_named(path.read_text())
        if rule[0] in letters and rule not in rows
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("(G1-G3, B2)", {"G1", "G2", "G3", "B2"}),
        ("def test_o7_unknown", {"O7"}),
        ("SHA1, x86, P12a", set()),
        ("P3, or P3-P4 of them", {"P3", "P4"}),
    ],
)
def test_how_a_rule_is_named(script: ModuleType, text: str, named: set[str]) -> None:
    assert script.rules_named(text) == named
