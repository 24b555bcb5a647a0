"""``--concurrency auto`` (A1-A7): its decisions one by one, and what comes of them over simulated links. No clock, seeded noise."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from statistics import mean

import pytest

from asyncdup.transfer.adaptive import MOST, PATIENCE, START, Controller, Window

SEEDS = range(5)
MINUTES = 10 * 60.0


@dataclass(frozen=True)
class Link:
    """A way to a backend. Rates in MB/s, times in seconds.

    Attributes:
        capacity: of all transfers together; ``each``: of one, by its window or its losses.
        size: MB of an object; ``trips``: round trips of each in which nothing moves.
        throttle: transfers at once from which on the backend complains, and does a third less.
        noise: standard deviation of a window's goodput, relative.
        penalty: share of goodput that transfers beyond those needed cost.
        changes: (since, capacity, each).
    """

    name: str
    capacity: float
    rtt: float
    each: float
    size: float = 25.0
    trips: float = 3.0
    throttle: int = 0
    noise: float = 0.02
    penalty: float = 0.0
    changes: tuple[tuple[float, float, float], ...] = ()

    def __str__(self) -> str:
        return self.name

    @cache  # noqa: B019 - a handful of links
    def goodput(self, transfers: int, version: int = 0) -> float:
        _, capacity, each = self.changes[version - 1] if version else (0.0, self.capacity, self.each)
        if self.throttle and transfers > self.throttle:
            return self.goodput(self.throttle) * 0.7
        alone = self.size / (self.size / each + self.trips * self.rtt)
        return min(capacity, transfers * alone) * (1 - self.penalty * max(0.0, 1 - capacity / alone / transfers))

    def version(self, now: float) -> int:
        return sum(now >= since for since, _, _ in self.changes)

    @cache  # noqa: B019 - a handful of links
    def best(self, version: int) -> tuple[float, int]:
        """The best goodput of any fixed number, and the least number that comes within 2 % of it."""
        most = max(self.goodput(number, version) for number in range(1, MOST + 1))
        return most, next(number for number in range(1, MOST + 1) if self.goodput(number, version) >= 0.98 * most)


LINKS = [
    Link("LAN", 110, 0.001, 100),
    Link("NAS over WLAN", 30, 0.005, 25),
    Link("DSL upwards", 1.2, 0.03, 5),
    Link("20 ms", 25, 0.02, 12),
    Link("100 ms", 25, 0.1, 8),
    Link("100 ms, small objects", 25, 0.1, 8, size=0.25),
    Link("300 ms", 25, 0.3, 3),
    Link("600 ms, satellite", 5, 0.6, 0.8),
    Link("100 ms with loss", 25, 0.1, 0.6),
    Link("200 ms with loss", 12, 0.2, 0.3),
    Link("S3 nearby", 600, 0.01, 40, size=8),
    Link("S3 far away", 100, 0.15, 6, size=8, trips=1),
    Link("S3, small objects", 100, 0.05, 40, size=0.06, trips=1),
    Link("too many cost", 50, 0.05, 10, penalty=0.3),
    Link("noise", 25, 0.1, 4, noise=0.08),
    Link("36 needed", 25, 0.1, 0.7, noise=0.04),
    Link("a slower path later", 25, 0.1, 4, changes=((200, 6, 4), (400, 25, 4))),
    Link("a faster path later", 6, 0.1, 4, changes=((200, 40, 4),)),
]
THROTTLED = [
    Link("throttled above 3", 50, 0.03, 10, throttle=3),
    Link("throttled above 8", 100, 0.05, 5, throttle=8),
    Link("throttled above 20", 200, 0.1, 6, throttle=20),
]


def transfer(link: Link, seed: int) -> tuple[float, float]:
    """Ten minutes over a link: goodput as a share of the best, and transfers at once as a multiple of those needed."""
    rng, controller = random.Random(seed), Controller(rtt=link.rtt)
    now = moved = best = used = needed = 0.0
    before = controller.limit
    while now < MINUTES:
        seconds, limit, version = controller.window, controller.limit, link.version(now)
        rate = link.goodput(limit, version) * max(0.1, rng.gauss(1, link.noise))
        if limit != before:  # the transfers of before still run
            rate = (rate + link.goodput(before, version)) / 2
        before = limit
        moved += rate * seconds
        used += limit * seconds
        most, least = link.best(version)
        best += most * seconds
        needed += least * seconds
        now += seconds
        if link.throttle and limit > link.throttle:
            controller.throttled()
        controller.judge(Window(seconds, int(rate * 1e6 * seconds)))
    return moved / best, used / needed


@pytest.mark.parametrize("link", LINKS, ids=str)
def test_a_link_is_filled(link: Link) -> None:
    """A2-A4: at least nine tenths of what the best fixed number of transfers moves, the search included."""
    assert (
        mean(transfer(link, seed)[0] for seed in SEEDS) >= 0.87 if link.changes else min(transfer(link, seed)[0] for seed in SEEDS) >= 0.9
    )


@pytest.mark.parametrize("link", THROTTLED, ids=str)
def test_a_backend_that_throttles_is_used_as_far_as_it_goes(link: Link) -> None:
    """A5."""
    assert min(transfer(link, seed)[0] for seed in SEEDS) >= 0.55


def test_few_more_transfers_run_than_are_needed() -> None:
    assert mean(transfer(link, seed)[1] for link in [*LINKS, *THROTTLED] for seed in SEEDS) <= 1.3
    assert max(transfer(link, seed)[1] for link in LINKS if link.best(0)[1] > 1 for seed in SEEDS) <= 1.6


class Driver:
    """A controller and a link without noise: windows of whatever length, 1 MB/s for each transfer up to ``capacity``."""

    def __init__(self, capacity: float, **given: float) -> None:
        self.controller = Controller(**given)  # type: ignore[arg-type]
        self.capacity = capacity
        self.seen = [self.controller.limit]

    def run(self, windows: int, *, held_up: bool = False) -> int:
        for _ in range(windows):
            seconds = self.controller.window
            moved = min(self.capacity, self.controller.limit) * 1e6 * seconds
            limit = self.controller.judge(Window(seconds, int(moved), held_up))
            if limit != self.seen[-1]:
                self.seen.append(limit)
        return self.controller.limit


def test_windows_follow_the_round_trip() -> None:
    """A1: shorter ones while searching."""
    assert [Controller(rtt=rtt).window for rtt in (0.0, 0.1, 0.6)] == [1.0, 1.0, 2.4]
    steady = Driver(4, rtt=0.5)
    steady.run(20)
    assert steady.controller.window == 4.0


def test_the_first_window_after_a_change_is_not_judged() -> None:
    """A1."""
    controller = Controller()
    for _ in range(PATIENCE):
        controller.judge(Window(1.0, 0))
    assert controller.judge(Window(1.0, 8_000_000)) == 16
    assert controller.judge(Window(1.0, 0)) == 16
    assert controller.judge(Window(1.0, 16_000_000)) == 32


def test_a_short_run_stays_where_it_began() -> None:
    """A2: it would pay for a search and have nothing of it."""
    driver = Driver(100.0)
    driver.run(PATIENCE)
    assert driver.seen == [START]
    driver.run(1)
    assert driver.seen == [START, 2 * START]


def test_it_doubles_while_that_is_worth_it_and_then_tries_the_middle_once() -> None:
    """A2: 8, 16, 32; thirty-two bring too little over sixteen, nor do twenty-four."""
    driver = Driver(16.5)
    driver.run(PATIENCE + 10)

    assert driver.seen == [8, 16, 32, 24, 16]


def test_of_small_objects_there_are_more_at_once_until_anything_was_judged() -> None:
    """A2: four MiB together, within the bounds; for as long as they are small. Later the search knows better."""
    assert [Controller().found_size(size) for size in (128 << 10, 64 << 10, 1 << 10, 1 << 20)] == [32, 64, 64, 8]
    assert Controller(most=10).found_size(64 << 10) == 10
    assert Controller(start=16).found_size(1 << 20) == 16

    controller = Controller()
    assert (controller.found_size(64 << 10), controller.found_size(1 << 20)) == (64, 8)
    for _ in range(PATIENCE):
        assert controller.judge(Window(1.0, 8_000_000)) == 8
    assert controller.judge(Window(1.0, 8_000_000)) == 16
    assert controller.found_size(1000) == 16


def test_a_few_fewer_are_kept_if_nothing_is_lost_and_a_few_more_if_they_gain() -> None:
    """A3: from sixteen, where eleven are enough, down to twelve and at once on, but not to nine; when there is more to be had, up again."""
    driver = Driver(11.0)
    driver.run(60)
    assert driver.seen[:8] == [8, 16, 32, 24, 16, 12, 9, 12]
    assert driver.controller.limit == 12

    driver.capacity = 100.0
    driver.run(60)
    assert driver.controller.limit == MOST


def test_each_refusal_doubles_the_rest_before_the_next_try() -> None:
    """A3: a link that needs exactly what runs is left alone for longer and longer."""
    driver = Driver(4.0)
    driver.run(30)
    early = len(driver.seen)
    driver.run(300)

    assert len(driver.seen) - early <= 20


def test_another_path_is_searched_anew() -> None:
    """A4: two windows of less than seven tenths."""
    driver = Driver(8.0)
    driver.run(PATIENCE + 14)
    driver.capacity = 2.0
    driver.run(200)

    assert driver.controller.limit in (2, 3)


def test_a_throttle_cuts_at_once_and_once_in_four_windows() -> None:
    """A5: to seven tenths; nine tenths of where it was are the most for thirty windows."""
    driver = Driver(100.0)
    driver.run(PATIENCE + 8)
    assert driver.controller.limit == 64

    assert driver.controller.throttled() == 44
    assert driver.controller.throttled() == 44
    driver.run(4)
    assert driver.controller.throttled() == 30
    assert max(driver.seen[driver.seen.index(64) + 1 :], default=0) <= 57


def test_after_a_throttle_the_ceiling_rises_again() -> None:
    """A5: by a quarter every thirty windows."""
    driver = Driver(100.0, most=10)
    driver.run(PATIENCE + 8)
    driver.controller.throttled()
    driver.run(29)
    assert max(driver.seen[driver.seen.index(10) + 1 :]) <= 9
    driver.run(100)
    assert driver.controller.limit == 10


def test_what_something_else_held_up_proves_nothing() -> None:
    """A6."""
    driver = Driver(1.0)
    driver.run(100, held_up=True)

    assert driver.seen == [START]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 64, 1000])
def test_it_stays_within_its_bounds(most: int) -> None:
    """A7."""
    driver = Driver(1000.0, most=most)
    driver.run(300)
    for _ in range(20):
        driver.controller.throttled()
        driver.run(4)

    assert 1 <= min(driver.seen) and max(driver.seen) <= min(most, MOST)
    assert max(driver.seen) == min(most, MOST)


def test_nothing_arriving_is_no_reason_to_do_anything_wild() -> None:
    driver = Driver(0.0)
    driver.run(200)

    assert max(driver.seen) <= 2 * START
