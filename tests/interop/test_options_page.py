"""docs/options.md says what is: of every option that stock's parser knows, and of our table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from interop.stock import Stock

pytestmark = [pytest.mark.realtime, pytest.mark.interop]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("options_page", ROOT / "scripts" / "options_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_options_is_not_stale(script: ModuleType, stock: Stock) -> None:
    page = script.page(script.ask(str(stock.python)))

    assert (ROOT / "docs" / "options.md").read_text() == page, "python scripts/options_page.py .stock/bin/python > docs/options.md"
    assert page.count("| `--") > 130


def test_an_option_that_nobody_has_judged_fails_the_page(script: ModuleType, stock: Stock) -> None:
    found = script.ask(str(stock.python))
    found["options"].append("brand-new")

    with pytest.raises(SystemExit, match="brand-new"):
        script.page(found)


def test_refused_options_have_a_reason(script: ModuleType, stock: Stock) -> None:
    rows = [line.split(" | ") for line in script.page(script.ask(str(stock.python))).splitlines() if line.startswith("| `--")]

    assert all(why.strip(" |") for _, verdict, why in rows if verdict == "refused")
    assert {verdict for _, verdict, _ in rows} == {"same", "ours", "accepted", "handed on", "refused"}
