"""Which sets a remove command takes away, and in what order their files go. Pure: records in, records out (format specification, section 20).

Only whole chains go, or all incrementals of whole chains; the newest chain never. The order is such that a kill at any moment leaves sets
that restore, or sets without a manifest, which nobody takes for a backup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asyncdup.archive.chains import BackupSet, Chain, Collection


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
