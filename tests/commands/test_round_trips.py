"""How many round trips a command takes (S1): every call to the target costs one, AT_ONCE of them run side by side, nothing else takes time.

What is asserted is the table of docs/distance.md.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from asyncdup.commands.cat import cat
from asyncdup.commands.changes import changes
from asyncdup.commands.check import check
from asyncdup.commands.diff import diff
from asyncdup.commands.find import find
from asyncdup.commands.history import history
from asyncdup.testing import FaultyBackend
from tests.commands.conftest import Stage

AT_ONCE = 4
SETS = 5
FILES = 5  # each is about a volume
PROVEN_LOCK = 3  # list, put, list: nothing is stored before the second listing has shown no other writer
COMMITTED = 3  # signature archive beside the last listing, manifest, removal of the lock


def waves(calls: int) -> int:
    return math.ceil(calls / AT_ONCE)


def change_all(stage: Stage, seed: int) -> None:
    for number in range(FILES):
        stage.write(f"file{number}", random.Random(seed * FILES + number).randbytes(60_000))


class Far:
    """A chain of SETS sets at a target that is one virtual second away."""

    def __init__(self, stage: Stage, backend: FaultyBackend) -> None:
        self.stage = stage
        self.backend = backend
        self.volumes = 0
        stage.defaults = {"concurrency": AT_ONCE}

    async def fill(self) -> None:
        self.backend.inner.latency = 0.0
        for number in range(SETS):
            change_all(self.stage, number)
            self.volumes += (await self.stage.backup()).volumes
        self.backend.inner.latency = 1.0

    async def trips(self, command: Awaitable[object]) -> float:
        """The round trips that it takes; its calls are then those of ``backend``."""
        self.backend.calls.clear()
        began = anyio.current_time()
        await command
        return anyio.current_time() - began

    def fetched(self) -> Counter[str]:
        """How often each object was read."""
        return Counter(self.backend.names("get"))


@pytest.fixture
async def chain(far: tuple[Stage, FaultyBackend]) -> Far:
    found = Far(*far)
    await found.fill()
    return found


def cold(stage: Stage, name: str) -> dict[str, Path]:
    return {"archive_dir": stage.folder / f"cold-{name}"}


async def test_a_command_that_reads_lists_once_and_fetches_side_by_side(chain: Far) -> None:
    """With an empty cache. No object comes twice."""
    stage, url, manifests, signatures = chain.stage, chain.stage.url, waves(SETS), waves(SETS)
    volumes, of_one_file = (
        waves(chain.volumes),
        waves(3 * SETS),
    )  # with the volumes on either side, so that one wrong bound hides nothing (P3)
    several = [b"file%d" % number for number in range(FILES)]
    expected: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
        "collection-status": (lambda: stage.status(**cold(stage, "1")), 1),
        "list-current-files": (lambda: stage.files(**cold(stage, "2")), 1 + signatures),
        "restore": (lambda: stage.restore(**cold(stage, "3")), 1 + manifests + volumes),
        "restore of a file": (lambda: stage.restore("one", path=b"file1", **cold(stage, "4")), 1 + manifests + of_one_file),
        "restore of several": (lambda: stage.restore("some", path=several, **cold(stage, "5")), 1 + manifests + waves(3 * SETS * FILES)),
        "verify": (lambda: stage.verify(**cold(stage, "6")), 1 + manifests + volumes),
        "cat": (lambda: cat(url, "file1", stage.options(**cold(stage, "7")), write=lambda data: None), 1 + manifests + of_one_file),
        "check": (lambda: check(url, stage.options(**cold(stage, "8"))), 1 + manifests),
        "check --read-data": (
            lambda: check(url, stage.options(**cold(stage, "9")), read_data=True),
            1 + manifests + signatures + volumes,
        ),
        "history": (lambda: history(url, "file1", stage.options(**cold(stage, "10"))), 1 + signatures),
        "find": (lambda: find(url, "file1", stage.options(**cold(stage, "11"))), 1 + signatures),
        "diff": (lambda: diff(url, stage.options(**cold(stage, "12")), on_differences=lambda found: None), 1 + signatures),
        "--show-changes-in-set": (lambda: changes(url, stage.options(**cold(stage, "13"))), 1 + manifests),
    }
    for name, (command, most) in expected.items():
        taken = await chain.trips(command())

        assert len(chain.backend.names("list")) == 1, name
        assert taken <= most, name
        assert name == "restore of several" or set(chain.fetched().values()) <= {1}, name


async def test_with_its_cache_a_command_that_reads_signatures_only_lists(chain: Far) -> None:
    stage, url = chain.stage, chain.stage.url

    assert await chain.trips(stage.files()) == 1
    assert await chain.trips(history(url, "file1", stage.options())) == 1
    assert await chain.trips(find(url, "file1", stage.options())) == 1
    assert await chain.trips(diff(url, stage.options(), on_differences=lambda found: None)) == 1


async def test_an_incremental_reads_what_it_stands_on_while_it_takes_the_lock(chain: Far) -> None:
    """P10, P19: the put of the lock and the listing that proves it each take a slot for one round trip, and so does the newest manifest."""
    stage = chain.stage
    change_all(stage, 50)

    warm = await chain.trips(stage.backup("incremental"))
    volumes = len([name for name in chain.backend.names("put") if ".difftar" in name])

    assert warm <= PROVEN_LOCK + waves(volumes) + COMMITTED
    assert sum(chain.fetched().values()) == 1  # the newest manifest, from the target itself

    change_all(stage, 51)
    without_cache = await chain.trips(stage.backup("incremental", **cold(stage, "inc")))

    fetches = SETS + 1 + 1  # signature archives, with that of the incremental above, and one manifest
    assert set(chain.fetched().values()) == {1} and len(chain.fetched()) == fetches
    assert without_cache <= 1 + max(PROVEN_LOCK - 1, waves(fetches + 2)) + waves(volumes) + COMMITTED


async def test_metadata_of_all_chains_come_side_by_side(chain: Far) -> None:
    stage = chain.stage
    await stage.backup("full")
    url = stage.url

    assert await chain.trips(history(url, "file1", stage.options(**cold(stage, "all")))) <= 1 + waves(SETS + 1)
    assert await chain.trips(diff(url, stage.options(**cold(stage, "both")), on_differences=lambda found: None)) <= 1 + waves(SETS + 1)


@pytest.mark.parametrize("at_once", [1, 8])
async def test_a_volume_costs_a_round_trip_divided_by_the_transfers_at_once(far: tuple[Stage, FaultyBackend], at_once: int) -> None:
    """S1, both ways: what more volumes take is that much each, whatever the rest takes."""
    taken: list[tuple[int, float, float]] = []
    stage, backend = far
    backend.inner.latency = 1.0
    for count in (8, 72):
        for number in range(count):
            stage.write(f"file{number:03}", random.Random(number).randbytes(60_000))
        began = anyio.current_time()
        volumes = (await stage.backup("full", concurrency=at_once)).volumes
        stored = anyio.current_time()
        await stage.restore(f"restored{count}", concurrency=at_once)
        taken.append((volumes, stored - began, anyio.current_time() - stored))

    (few, *before), (many, *after) = taken
    for first, second in zip(before, after, strict=True):
        assert (second - first) / (many - few) == pytest.approx(1 / at_once, rel=0.1)
