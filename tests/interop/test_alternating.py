"""Chains that we and stock duplicity write in turn: each goes on from the other's signatures, both restore every time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from interop.archives import BARE, DAY, PLAIN, SIGNED, START, SYMMETRIC, Archive, Form, Who, run
from interop.trees import IS_ROOT, can_make_devices, edit_again, edit_plain, expected, make_plain, settle, write

from asyncdup.commands.restore import restore
from asyncdup.errors import ChainError

pytestmark = [pytest.mark.interop, pytest.mark.realtime, pytest.mark.slow]

Make = Callable[..., Archive]

WE_FIRST: tuple[Who, ...] = ("us", "stock", "us", "stock")
STOCK_FIRST: tuple[Who, ...] = ("stock", "us", "stock", "us")
WAYS = [(PLAIN, turns, one_cache) for turns in (WE_FIRST, STOCK_FIRST) for one_cache in (True, False)]
WAYS += [(form, turns, turns is WE_FIRST) for form in (BARE.with_prefixes(), SYMMETRIC, SIGNED) for turns in (WE_FIRST, STOCK_FIRST)]


def _way(value: object) -> str:
    if isinstance(value, Form):
        return value.name
    return ("one cache" if value else "a cache each") if isinstance(value, bool) else f"{value[0]} first"  # type: ignore[index]


@pytest.mark.parametrize(("form", "turns", "one_cache"), WAYS, ids=_way)
def test_a_chain_that_both_write_in_turn(form: Form, one_cache: bool, turns: tuple[Who, ...], archive: Make) -> None:
    """Signatures and deltas of one are the other's base; the archive folder may be shared (format, sections 7, 8 and 12)."""
    made = archive(form, one_cache=one_cache)
    for who, edit in zip(turns, (make_plain, edit_plain, edit_again, edit_last), strict=True):
        edit(made.source)
        made.write(who)

    assert len(list(made.target.glob("*duplicity-full.*.manifest*"))) == 1
    assert not list(made.folder.glob("cache*/c/*.part"))
    made.check()
    assert made.verified_by_stock().endswith(" 0 difference(s) found.")


def edit_last(root: Path) -> None:
    """A little more, all over again."""
    write(root / "big", (root / "big").read_bytes()[5000:] + b"its end", mtime=1_500_003_000)
    write(root / "text", b"", mtime=1_500_003_000)
    (root / "becomes-link").unlink()
    settle(root, 1_500_003_001)


CONTINUED = {  # but for symmetric-gpg, each file of which costs 0.2 s to open: gpg's usual price for trying passphrases
    "plain-chain": PLAIN,
    "no-compression": BARE,
    "pubkey-signed": SIGNED,
    "prefixes-jsonstat": PLAIN.with_prefixes(),
    "short-names": PLAIN,
    "odd-names-types": PLAIN,
}


@pytest.mark.parametrize("name", CONTINUED)
def test_a_fixture_is_continued_by_us_and_then_by_stock(name: str, fixture_archive: Make, fixtures: Path, tmp_path: Path) -> None:
    """From signatures of another host, with other block lengths, names and owners than ours."""
    if name == "odd-names-types" and not (IS_ROOT and can_make_devices(tmp_path)):
        pytest.skip("only root may make the fixture's devices")
    made = fixture_archive(name, replace(CONTINUED[name], words=(*CONTINUED[name].words, "--allow-source-mismatch")), with_stock=True)
    for path in sorted((fixtures / name / "expected").glob("*.jsonl")):
        made.time = START if not made.kept else made.time + DAY
        made.kept[made.time] = expected(path)
    run(restore(made.url, made.source, made.options()))

    _edit(made.source, mtime=1_700_500_000)
    made.by_us("incremental", allow_source_mismatch=True, volume_size=200 << 10)
    _edit(made.source, mtime=1_700_500_100)
    made.by_stock("incremental")
    _edit(made.source, mtime=1_700_500_200)
    made.by_us("incremental", allow_source_mismatch=True)

    times = list(made.kept)
    made.kept = {moment: made.kept[moment] for moment in times[-4:]}
    made.check()


def _edit(root: Path, *, mtime: int) -> None:
    """Something at the front of each file, and a new one. Times before those of the backups, and other than those of the tree."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o200:
            status = path.stat()
            path.write_bytes(b"%d\n" % mtime + path.read_bytes())
            path.chmod(status.st_mode & 0o7777)
            os.utime(path, (mtime, mtime))
    write(root / f"new-{mtime}", b"new\n", mtime=mtime)
    settle(root, mtime + 1)


def test_two_fulls_by_either_are_two_chains(archive: Make) -> None:
    made = archive(one_cache=True)
    make_plain(made.source)
    made.write("stock", "full")
    made.write("us", "full")
    edit_plain(made.source)
    made.write("stock", "incremental")
    made.write("us", "incremental")

    assert "Found 1 secondary backup chain(s)." in made.say("collection-status", made.url)
    made.check()


@pytest.mark.parametrize("who", ["us", "stock"])
def test_a_lost_cache_is_fetched_again(who: Who, archive: Make) -> None:
    """Format, section 12."""
    made = archive(SIGNED, one_cache=True)
    make_plain(made.source)
    made.write("us")
    edit_plain(made.source)
    made.write("stock")
    shutil.rmtree(made.cache["us"])
    edit_again(made.source)

    made.write(who, "incremental")

    made.check()


def test_stock_removes_an_old_chain_and_both_go_on(archive: Make) -> None:
    """What is gone from the target goes from the cache, whoever removed it (format, sections 12 and 20)."""
    made = archive()
    make_plain(made.source)
    made.write("us", "full")
    edit_plain(made.source)
    made.write("us", "full")
    old = START
    made.say("remove-all-but-n-full", "1", made.url, "--force")
    del made.kept[old]

    edit_again(made.source)
    made.write("us", "incremental")

    assert not [path for path in (made.cache["us"] / "c").iterdir() if "20231114T221320Z" in path.name]
    made.check()
    with pytest.raises(ChainError):
        made.read_by_us(old)
