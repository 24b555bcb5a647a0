"""Which sets a remove command takes away, and in what order their files go. Pure: records in, records out (format specification, section 20).

Only whole chains go, or all incrementals of whole chains; the newest chain never. The order is such that a kill at any moment leaves sets
that restore, or sets without a manifest, which nobody takes for a backup.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.formats.names import SetId


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What is to go.

    Attributes:
        chains: those concerned, oldest first.
        sets: those that go, in the order in which they go: newest first within a chain.
        dependent: old sets that stay, because newer ones are built upon them.
        active_is_old: the newest chain is older than the time, and stays all the same.
    """

    chains: tuple[Chain, ...] = ()
    sets: tuple[BackupSet, ...] = ()
    dependent: tuple[BackupSet, ...] = ()
    active_is_old: bool = False

    @property
    def names(self) -> list[str]:
        """All files that go."""
        return [name for backup_set in self.sets for name in backup_set.names]

    @property
    def size(self) -> int:
        """Stored bytes that go, as far as the listing tells."""
        return sum(backup_set.size for backup_set in self.sets)


def older_than(collection: Collection, time: int) -> Removal:
    """Chains that ended before ``time`` (seconds since the epoch), but for the newest one."""
    old, dependent = collection.older_than(time)
    newest = collection.newest_chain
    forks = {chain.full.id: _forks(collection, chain) for chain in old}
    # A set that another one has replaced in the chain may be newer than the chain's end: then it is what somebody wants to restore.
    chains = [chain for chain in old if all(fork.end < time for fork in forks[chain.full.id])]
    return Removal(
        chains=tuple(reversed(chains)),
        sets=tuple(backup_set for chain in chains for backup_set in _newest_first([*chain.sets, *forks[chain.full.id]])),
        dependent=tuple(dependent),
        active_is_old=newest is not None and newest.end < time,
    )


def all_but_n_full(collection: Collection, count: int) -> Removal:
    """Chains that ended before the ``count``-th newest full (from 1)."""
    time = collection.nth_newest_full(count)
    removal = Removal() if time is None else older_than(collection, time)
    return Removal(chains=removal.chains, sets=removal.sets)


def all_incrementals_of_but_n_full(collection: Collection, count: int) -> Removal:
    """The incrementals of those chains; fulls stay, and chains that have no others are not concerned."""
    removal = all_but_n_full(collection, count)
    chains = tuple(chain for chain in removal.chains if len(chain.sets) > 1)
    return Removal(chains=chains, sets=tuple(backup_set for backup_set in removal.sets if not backup_set.is_full))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many of the newest days, weeks, months and years that have a backup keep their newest one."""

    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinning:
    """``removal``: what goes, and what stays although no rule names it. ``kept``: what rules name, oldest first, each with their words."""

    removal: Removal
    kept: tuple[tuple[BackupSet, tuple[str, ...]], ...]


def thinned(collection: Collection, keep: Keep) -> Thinning:
    """What goes so that ``keep`` stays.

    What a kept set is built upon stays (``dependent``), and so does the whole newest chain, for the next backup goes on with it. So only whole
    chains go, or the newest sets of one. Days, weeks (from Monday), months and years are local time's. A set that lacks volumes, or is built
    upon one that does, is kept by no rule.
    """
    sets = sorted((*(each for chain in collection.chains for each in chain.sets), *collection.forks), key=_end, reverse=True)
    lineages = {each.id: collection.chain_for(each.end).sets for each in sets}
    whole = [each for each in sets if not any(base.gaps for base in lineages[each.id])]
    words: dict[SetId, tuple[str, ...]] = {}
    for word, count, period in _PERIODS:
        newest_of: dict[tuple[int, ...], BackupSet] = {}
        for each in whole:
            newest_of.setdefault(period(datetime.date.fromtimestamp(each.end)), each)
        for each in list(newest_of.values())[: count(keep)]:
            words[each.id] = (*words.get(each.id, ()), word)
    newest = collection.newest_chain
    staying = {each.id for each in newest.sets} if newest else set()
    staying |= {base.id for each in words for base in lineages[each]} | words.keys()
    going = tuple(each for each in sets if each.id not in staying)
    chains = tuple(chain for chain in collection.chains if any(each in going for each in chain.sets))
    dependent = tuple(each for each in reversed(sets) if each.id in staying and each.id not in words)
    kept = tuple((each, words[each.id]) for each in reversed(sets) if each.id in words)
    return Thinning(removal=Removal(chains=chains, sets=going, dependent=dependent), kept=kept)


def _end(backup_set: BackupSet) -> int:
    return backup_set.end


_PERIODS: tuple[tuple[str, Callable[[Keep], int], Callable[[datetime.date], tuple[int, ...]]], ...] = (
    ("daily", lambda keep: keep.daily, lambda day: (day.year, day.month, day.day)),
    ("weekly", lambda keep: keep.weekly, lambda day: day.isocalendar()[:2]),
    ("monthly", lambda keep: keep.monthly, lambda day: (day.year, day.month)),
    ("yearly", lambda keep: keep.yearly, lambda day: (day.year,)),
)


def steps(sets: Iterable[BackupSet]) -> list[tuple[list[str], list[str]]]:
    """For each set, in this order: names to be deleted one after the other, and then names to be deleted in any order.

    The manifest is first: without it the set is an unfinished one, for us and for stock duplicity. Volumes are last, since by them the next
    backup and ``cleanup`` find what a kill has left.
    """
    found = []
    for backup_set in sets:
        volumes = [backup_set.volumes[number] for number in sorted(backup_set.volumes, reverse=True)]
        heads = [name for name in (backup_set.manifest, backup_set.signatures, backup_set.jsonstat) if name]
        found.append((heads, [*volumes, *backup_set.strays]))
    return found


def _forks(collection: Collection, chain: Chain) -> list[BackupSet]:
    """Complete sets beside ``chain`` that stand on its full."""
    return [fork for fork in collection.forks if collection.chain_for(fork.end).full.id == chain.full.id]


def _newest_first(sets: Sequence[BackupSet]) -> list[BackupSet]:
    return sorted(sets, key=lambda backup_set: backup_set.end, reverse=True)
