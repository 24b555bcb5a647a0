"""Random trees with random edits, backed up by us and by stock duplicity in turn; every restore equals what was there (M6)."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from interop.archives import BARE, PLAIN, SIGNED, SYMMETRIC, Archive
from interop.trees import RandomTree

pytestmark = [pytest.mark.interop, pytest.mark.realtime, pytest.mark.slow]

EXAMPLES = int(os.environ.get("ASYNCDUP_INTEROP_EXAMPLES", "10"))
FORMS = [PLAIN, BARE, PLAIN, SYMMETRIC, PLAIN.with_prefixes(), PLAIN, SIGNED]


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_full_by_us_increment_by_stock_increment_by_us(seed: int, archive: Callable[..., Archive]) -> None:
    """The seed also decides the form, the size of volumes, and whether the archive folder is shared."""
    made = archive(FORMS[seed % len(FORMS)], one_cache=seed % 2 == 0)
    small = {"volume_size": (180 << 10) + 1000 * seed} if seed % 3 else {}
    tree = RandomTree(made.source, seed)
    tree.fill()

    made.by_us("full", **small)
    tree.edit()
    made.by_stock("incremental")
    tree.edit()
    made.by_us("incremental", **small)

    made.check()
    assert made.differences_by_us() == []
