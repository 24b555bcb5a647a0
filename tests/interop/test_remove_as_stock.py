"""The remove commands beside stock duplicity's, on copies of the same target: the same files are left (format specification, section 20)."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.archives import PLAIN, START, Archive, Form, run
from interop.stock import Stock
from interop.trees import listing, remove, write

from asyncdup.commands.cleanup import cleanup
from asyncdup.commands.remove import remove_all_but_n_full, remove_all_inc_of_but_n_full, remove_older_than

pytestmark = pytest.mark.realtime

DAY = 86_400
FORMS = {"plain": PLAIN, "prefixes": PLAIN.with_prefixes()}


def collection(folder: Path, stock: Stock, seed: int, form: Form) -> Archive:
    """Up to four chains with up to three increments each, a day between two sets."""
    rng = random.Random(seed)
    made = Archive(folder, stock, form)
    for _ in range(rng.randrange(1, 5)):
        for place in range(rng.randrange(1, 5)):
            write(made.source / f"file{rng.randrange(3)}", rng.randbytes(200))
            made.by_us("incremental" if place else "full")
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def by_stock(made: Archive, *words: str) -> None:
    made.say(*words[:1], *words[1:2], made.url, "--current-time", str(made.time + DAY), *words[2:])


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("seed", "form"), [(1, "plain"), (2, "plain"), (3, "prefixes"), (4, "plain")])
def test_the_same_files_are_left(seed: int, form: str, force: bool, stock: Stock, tmp_path: Path) -> None:
    made = collection(tmp_path / "a", stock, seed, FORMS[form])
    rng = random.Random(seed)
    pristine = tmp_path / "pristine"
    shutil.copytree(made.target, pristine)
    time = START + rng.randrange(-1, 14) * DAY + rng.choice((0, 1, DAY // 2))
    count = rng.randrange(1, 4)
    more = ("--force",) if force else ()
    options = made.options(force=force)
    for name, argument, ours in (
        ("remove-older-than", time, remove_older_than),
        ("remove-all-but-n-full", count, remove_all_but_n_full),
        ("remove-all-inc-of-but-n-full", count, remove_all_inc_of_but_n_full),
    ):
        result = run(ours(made.url, argument, options))
        after_ours = names(made.target)
        assert set(names(pristine)) - set(after_ours) == (set(result.removal.names) if force else set())
        _again(made, pristine)
        by_stock(made, name, str(argument), *more)
        assert names(made.target) == after_ours, f"{name} {argument}"
        _again(made, pristine)


def _again(made: Archive, pristine: Path) -> None:
    remove(made.target)
    shutil.copytree(pristine, made.target)


def test_what_stays_restores_by_both(stock: Stock, tmp_path: Path) -> None:
    made = collection(tmp_path, stock, 11, PLAIN)
    write(made.source / "last", b"last")
    made.by_us("full")

    run(remove_all_inc_of_but_n_full(made.url, 1, made.options(force=True)))
    run(remove_all_but_n_full(made.url, 2, made.options(force=True)))

    assert made.read("us") == made.read("stock") == listing(made.source)


LEFT: dict[str, Callable[[Archive], list[Path]]] = {
    "an unfinished full": lambda made: sorted(made.target.glob("*full*manifest"))[-1:],
    "an unfinished increment": lambda made: sorted(made.target.glob("*inc*manifest"))[-1:],
    "an orphan": lambda made: [path for path in made.target.iterdir() if f"{_first_full(made)}." in path.name and "full" in path.name],
}


def _first_full(made: Archive) -> str:
    first = min(path.name for path in made.target.glob("duplicity-full.*.manifest"))
    return first.split(".")[1]


@pytest.mark.parametrize("what", LEFT)
def test_cleanup_leaves_what_stock_leaves_in_the_end(what: str, stock: Stock, tmp_path: Path) -> None:
    """Stock may need to be run twice: sets that its first run has made orphans go with the second."""
    made = Archive(tmp_path / "a", stock)
    for action in ("full", "incremental", "full", "incremental"):
        write(made.source / action, str(made.time).encode())
        made.by_us(action)
    if what == "an unfinished full":
        made.by_us("full")
    for path in LEFT[what](made):
        path.unlink()
    shutil.copytree(made.target, pristine := tmp_path / "pristine")
    remove(made.cache["us"])

    listed = run(cleanup(made.url, made.options()))
    assert names(made.target) == names(pristine)
    done = run(cleanup(made.url, made.options(force=True)))
    ours = names(made.target)
    _again(made, pristine)
    for _ in range(2):
        made.say("cleanup", made.url, "--force")

    assert set(listed.names) == set(done.names) == set(names(pristine)) - set(ours) != set()
    kept = {name for name in names(made.target) if "signatures" not in name}
    assert kept == {name for name in ours if "signatures" not in name}


def test_stock_neither_minds_our_lock_nor_takes_it_away(stock: Stock, tmp_path: Path) -> None:
    """Format, section 2.1: the name means nothing to it."""
    made = collection(tmp_path, stock, 7, PLAIN)
    lock = made.target / "asyncdup-lock-0011"
    lock.write_text("{}")

    made.say("cleanup", made.url, "--force")
    by_stock(made, "remove-all-but-n-full", "1", "--force")
    assert "orphaned or incomplete" in made.say("collection-status", made.url)

    assert made.read("stock") == made.read("us")
    assert lock.exists()
