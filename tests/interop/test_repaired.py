"""A chain whose signature archives were made anew by check --repair: stock duplicity goes on with it and restores it (P18)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Literal

import pytest
from interop.archives import BARE, PLAIN, SYMMETRIC, Archive, Form, run
from interop.trees import edit_again, edit_plain, make_plain

from asyncdup.commands.check import check

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("form", [PLAIN, BARE, SYMMETRIC], ids=lambda form: form.name)
@pytest.mark.parametrize("writer", ["us", "stock"])
def test_stock_goes_on_with_what_was_rebuilt(writer: Literal["us", "stock"], form: Form, archive: Callable[..., Archive]) -> None:
    here = archive(form)
    make_plain(here.source)
    here.write(writer, "full")
    edit_plain(here.source)
    here.write(writer, "incremental")
    for path in here.target.glob("*.sigtar*"):
        path.unlink()
    for cache in here.cache.values():
        shutil.rmtree(cache, ignore_errors=True)

    found = run(check(here.url, here.options(force=True), repair=True))

    assert found.exit_code == 0
    edit_again(here.source)
    here.write("stock", "incremental")
    assert sum("-inc." in path.name and "manifest" in path.name for path in here.target.iterdir()) == 2
    here.check("us", "stock")
    assert run(check(here.url, here.options(), read_data=True)).findings == ()


def test_an_empty_volume_at_the_end_of_a_set_of_stock_is_no_damage(archive: Callable[..., Archive]) -> None:
    """Stock begins one where the last block fills a volume; its bounds are the root and the last path of the set."""
    here = archive(BARE)
    here.source.mkdir()
    (here.source / "fills one volume").write_bytes(bytes(960_000))
    here.by_stock("full", "--volsize", "1")
    assert max(here.target.glob("*.vol2.*")).read_bytes() == bytes(10_240)

    assert run(check(here.url, here.options(), read_data=True)).findings == ()
    here.check("us")
