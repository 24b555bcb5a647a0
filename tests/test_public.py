"""The public names: they are those of the documents, each resolves, says what it is, and costs nothing before it is used."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asyncdup

ROOT = Path(__file__).parents[1]


def documented() -> list[str]:
    text = (ROOT / "docs" / "embedding.md").read_text()
    rows = text[text.index("## All public names") :].splitlines()
    return [name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def for_type_checkers() -> dict[str, str]:
    """Name -> module, as the imports under TYPE_CHECKING say."""
    tree = ast.parse(Path(asyncdup.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "else it is no re-export"
            found[alias.name] = node.module or ""
    return found


def test_the_documents_name_what_is_public() -> None:
    assert sorted(documented()) == sorted(asyncdup.__all__)


def test_type_checkers_see_what_is_public() -> None:
    homes = {name: f"asyncdup.{home}".rstrip(".") for name, home in asyncdup._HOME_OF.items()}

    assert for_type_checkers() == homes


@pytest.mark.parametrize("name", asyncdup.__all__)
def test_a_public_name_says_what_it_is(name: str) -> None:
    value = getattr(asyncdup, name)
    text = value.__doc__ or ""

    assert text.strip()
    assert not text.startswith(f"{name}("), "that is what dataclasses write by themselves"
    if inspect.isclass(value):
        for member, function in vars(value).items():
            if not member.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                assert function.__doc__ or name in ("Backend", "Body", "BlockingBackend"), f"{name}.{member} has no docstring"


def test_dir_shows_every_name() -> None:
    assert set(asyncdup.__all__) <= set(dir(asyncdup))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'bakcup'"):
        asyncdup.bakcup  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_loads_next_to_nothing() -> None:
    heavy = "{'asyncio', 'anyio', 'asyncssh', 'rich', 'dataclasses'}"
    code = f"import sys; before = set(sys.modules); import asyncdup; print(sorted({heavy} & (set(sys.modules) - before)))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"


def test_the_package_is_typed() -> None:
    assert (Path(asyncdup.__file__).parent / "py.typed").exists()
