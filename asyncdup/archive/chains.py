"""A listing of a target -> backup sets, chains, and what is missing. Pure: names and sizes in, records out (format specification, section 16).

What counts here as stricter than in stock duplicity: a set without a manifest is unfinished, whoever left it. It is named, but neither
restored nor built upon (P1, P6); a set that was built upon one is orphaned, loudly (P3). What is in a cache makes no set complete (P5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asyncdup.backends.base import UNKNOWN_SIZE, ObjectInfo
from asyncdup.errors import ChainError
from asyncdup.formats.names import (
    NO_PREFIXES,
    ParsedName,
    Prefixes,
    SetId,
    format_time,
    manifest_name,
    parse_name,
    parse_names,
    volume_name,
)

TEMPORARY = ".asyncdup-"  # what our own unfinished objects are called (backends.names)
SHOWN = 5  # names in a message; more are counted
IS_IT_RIGHT = "is the URL right? collection-status shows what is there"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSet:
    """The files of one run, as they are at the target.

    Attributes:
        volumes: number -> name. Gaps, and volumes missing at the end, are for ``require`` to find.
        manifest, signatures, jsonstat: names, None if there is no such file.
        encrypted: by the manifest's name, else by the volumes'. In an encrypted set a plain file is a stray, never a volume (P17).
        sizes: stored bytes of each of its names, as far as the listing tells.
        strays: names that belong to the set by their form but have no place in it: duplicates, partial files, foreign suffixes.
    """

    id: SetId
    volumes: Mapping[int, str]
    manifest: str | None
    signatures: str | None
    jsonstat: str | None = None
    encrypted: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    strays: tuple[str, ...] = ()
    prefixes: Prefixes = NO_PREFIXES

    @property
    def start(self) -> int | None:
        """End of the set that this one was built upon; None for a full. Seconds since the epoch."""
        return self.id.start

    @property
    def end(self) -> int:
        """The time that this set restores. Seconds since the epoch."""
        return self.id.end

    @property
    def is_full(self) -> bool:
        """Whether the set stands alone."""
        return self.id.is_full

    @property
    def is_complete(self) -> bool:
        """Whether its manifest is at the target, which is written last (P6). Its volumes may have been lost since: see ``require``."""
        return self.manifest is not None

    @property
    def gaps(self) -> list[int]:
        """Numbers below the highest volume that are missing, as far as names alone tell; ``[1]`` if there are no volumes at all."""
        highest = max(self.volumes, default=1)
        return [number for number in range(1, highest + 1) if number not in self.volumes][:1000]

    @property
    def size(self) -> int:
        """Stored bytes."""
        return sum(self.sizes.values())

    @property
    def names(self) -> list[str]:
        """All its files in the order to delete them: the manifest first, so that a set cut down half-way counts as unfinished."""
        volumes = [self.volumes[number] for number in sorted(self.volumes, reverse=True)]
        heads = [name for name in (self.manifest, *volumes, self.signatures, self.jsonstat) if name]
        return heads + list(self.strays)

    def require(self, numbers: Iterable[int]) -> list[str]:
        """Names of the volumes with these numbers (those of the manifest), in their order.

        Raises:
            ChainError: some are not at the target; it names them.
        """
        numbers = list(numbers)
        missing = [self.volume_name(number) for number in numbers if number not in self.volumes]
        if missing:
            raise ChainError(
                f"{_listed(missing)} of the set {self.id} {_is(missing)} not at the target",
                hint="restore another time with --time, or the rest of this one with --ignore-errors",
            )
        return [self.volumes[number] for number in numbers]

    def volume_name(self, number: int) -> str:
        """What the volume is called here, or would be called if it were there."""
        if (name := self.volumes.get(number)) is not None:
            return name
        suffixes = Counter(name[name.find(".difftar") + 8 :] for name in self.volumes.values() if ".difftar" in name)
        usual = suffixes.most_common(1)[0][0] if suffixes else ""
        return volume_name(self.id, number, usual, self.prefixes)


@dataclass(frozen=True, slots=True)
class Chain:
    """A full set and the incrementals that follow each other, oldest first."""

    sets: tuple[BackupSet, ...]

    @property
    def full(self) -> BackupSet:
        """The set that all others stand on."""
        return self.sets[0]

    @property
    def last(self) -> BackupSet:
        """The newest set: what the next incremental is built upon."""
        return self.sets[-1]

    @property
    def start(self) -> int:
        """Time of the full."""
        return self.full.end

    @property
    def end(self) -> int:
        """Time of the newest set."""
        return self.last.end

    @property
    def has_signatures(self) -> bool:
        """Whether the signature archive of every set is at the target."""
        return all(backup_set.signatures for backup_set in self.sets)

    @property
    def encrypted(self) -> bool:
        """Whether any of its sets is: then every one must be (P17)."""
        return any(backup_set.encrypted for backup_set in self.sets)

    @property
    def sizes(self) -> dict[str, int]:
        """Stored bytes of each name, as far as the listing tells."""
        return {name: size for backup_set in self.sets for name, size in backup_set.sizes.items()}

    @property
    def defects(self) -> list[str]:
        """What names alone show to be missing, as sentences."""
        found = []
        for backup_set in self.sets:
            if gaps := backup_set.gaps:
                found.append(f"{_listed([backup_set.volume_name(number) for number in gaps])} {_is(gaps)} missing")
            if backup_set.signatures is None:
                found.append(f"the signature archive of the set {backup_set.id} is missing")
        return found

    def full_is_due(self, *, older_than: int | None = None, n_inc: int | None = None) -> bool:
        """Whether the next backup should be a full: the last full was made before ``older_than`` (seconds since the epoch), or ``n_inc``
        incrementals stand on it. None: no such limit."""
        if older_than is not None and self.start < older_than:
            return True
        return n_inc is not None and len(self.sets) - 1 >= n_inc


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Everything at a target.

    Attributes:
        sets: all sets, oldest first.
        chains: by the end of their newest set, oldest first; complete sets only.
        forks: complete sets outside the chains whose bases are all there: another set with the same start was taken into the chain.
        orphaned: complete sets that were built upon one that is missing or unfinished.
        unfinished: sets without a manifest.
        orphaned_signatures: signature archives and statistics without a set.
        temporary: objects that a writer of ours was making.
        place: what the target is called in an error; no secret is in it.
    """

    sets: tuple[BackupSet, ...] = ()
    chains: tuple[Chain, ...] = ()
    forks: tuple[BackupSet, ...] = ()
    orphaned: tuple[BackupSet, ...] = ()
    unfinished: tuple[BackupSet, ...] = ()
    orphaned_signatures: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    place: str = "the target"
    _bases: Mapping[SetId, BackupSet | None] = field(default_factory=dict, repr=False)  # of each set that can be restored; None for a full

    @property
    def newest_chain(self) -> Chain | None:
        """The chain with the newest set; of two that end together the one with the newer full."""
        return max(self.chains, key=lambda chain: (chain.end, chain.start), default=None)

    @property
    def latest(self) -> int | None:
        """Time of the newest complete set, in whatever chain. Seconds since the epoch."""
        return max((backup_set.end for backup_set in self.sets if backup_set.is_complete), default=None)

    @property
    def taken_times(self) -> frozenset[int]:
        """Ends of all sets, unfinished ones too: a new set must have another."""
        return frozenset(backup_set.end for backup_set in self.sets)

    def chain_for(self, time: int | None = None) -> Chain:
        """The sets needed to restore ``time`` (seconds since the epoch; None: the newest), as a chain that ends with the newest set at or
        before it. What was left unfinished is passed over; what is complete but has lost its base is not.

        Raises:
            ChainError: no complete set is old enough, or a base of the newest that is has been lost; it names what is missing, and the time
                that can be restored instead.
        """
        complete = [backup_set for backup_set in self.sets if backup_set.is_complete]
        old_enough = [backup_set for backup_set in complete if time is None or backup_set.end <= time]
        if not old_enough:
            raise self._nothing(complete, time)
        newest = max(old_enough, key=lambda backup_set: (backup_set.end, backup_set.is_full))
        if newest.id not in self._bases:
            raise self._broken(newest)
        return Chain(self._lineage(newest))

    def sets_for(self, time: int | None = None) -> tuple[BackupSet, ...]:
        """``chain_for(time).sets``."""
        return self.chain_for(time).sets

    def base(self) -> tuple[Chain | None, list[str]]:
        """What the next incremental is built upon, and why it is not the newest chain as it stands, in sentences.

        None if there is no chain, or if the newest one lacks volumes or signatures. Only the newest set may be left out for want of its
        signatures: a new set with the same start takes its place, also for stock duplicity.
        """
        chain = self.newest_chain
        if chain is None:
            return None, []
        defects = chain.defects
        if len(chain.sets) > 1 and chain.last.signatures is None and not chain.last.gaps:
            shorter = Chain(chain.sets[:-1])
            if not shorter.defects:
                return shorter, defects
        return (chain, []) if not defects else (None, defects)

    def older_than(self, time: int) -> tuple[list[Chain], list[BackupSet]]:
        """Chains that ended before ``time``, newest first, and older sets that must stay because newer ones stand on them.

        The newest chain is never among the former (remove-older-than).
        """
        old = [chain for chain in self.chains if chain.end < time and chain is not self.newest_chain]
        kept = [backup_set for chain in self.chains if chain not in old for backup_set in chain.sets if backup_set.end < time]
        return old[::-1], kept

    def nth_newest_full(self, count: int) -> int | None:
        """Time of the ``count``-th newest full that begins a chain (from 1); None if there are fewer."""
        fulls = sorted((chain.start for chain in self.chains), reverse=True)
        return fulls[count - 1] if 1 <= count <= len(fulls) else None

    def leftovers(self) -> list[str]:
        """Names that serve no restore, in the order to delete them: unfinished and orphaned sets, signatures without a set, temporary objects.

        Whoever deletes them holds the lock of the target: a writer under way looks the same.
        """
        sets = sorted((*self.unfinished, *self.orphaned), key=lambda backup_set: backup_set.end, reverse=True)
        return [name for backup_set in sets for name in backup_set.names] + [*self.orphaned_signatures, *self.temporary]

    def warnings(self) -> list[str]:
        """What a person should know about the target, a sentence each."""
        found = [f"the set {left.id} was never finished and is ignored: {_listed(left.names)}" for left in self.unfinished]
        found += [f"the set {lost.id} cannot be restored: {_why(lost, self.sets)}" for lost in self.orphaned]
        found += [f"{_listed(odd.strays)} {_is(odd.strays)} no part of the set {odd.id}" for odd in self.sets if odd.strays]
        if self.orphaned_signatures:
            found.append(f"there is no set to {_listed(self.orphaned_signatures)}")
        return found

    def status_lines(self) -> list[str]:
        """The chains as stock duplicity's ``collection-status`` says them on the log stream (format specification, section 19)."""
        newest = self.newest_chain
        matched = newest if newest is not None and newest.has_signatures else None
        lines = []
        for number, chain in enumerate(chain for chain in self.chains if chain is not matched):
            lines += [f"chain-no-sig {number}", *map(_status_line, chain.sets)]
        if matched is not None:
            lines += ["chain-complete", *map(_status_line, matched.sets)]
        return [*lines, f"orphaned-sets-num {len(self.orphaned)}", f"incomplete-sets-num {len(self.unfinished)}"]

    def _nothing(self, complete: Sequence[BackupSet], time: int | None) -> ChainError:
        left = f"; {len(self.unfinished)} set(s) were never finished" if self.unfinished else ""
        if not complete:
            return ChainError(f"there is no complete backup at {self.place}{left}", hint=IS_IT_RIGHT)
        oldest = min(backup_set.end for backup_set in complete)
        return ChainError(
            f"no backup is as old as {format_time(time or 0)}; the oldest is of {format_time(oldest)}{left}",
            hint=f"restore it with --time {format_time(oldest)}",
        )

    def _lineage(self, newest: BackupSet) -> tuple[BackupSet, ...]:
        sets = [newest]
        while (base := self._bases[sets[-1].id]) is not None:
            sets.append(base)
        return tuple(reversed(sets))

    def _broken(self, newest: BackupSet) -> ChainError:
        whole = [set_id.end for set_id in self._bases if set_id.end < newest.end]
        hint = f"restore the newest time before it that is whole: --time {format_time(max(whole))}" if whole else None
        return ChainError(f"the set {newest.id} cannot be restored: {_why(newest, self.sets)}", hint=hint)


def collect(objects: Iterable[ObjectInfo], *, prefixes: Prefixes = NO_PREFIXES, now: int, place: str = "the target") -> Collection:
    """What the objects at a target are. ``now`` (seconds since the epoch): what relative times in names count back from. ``place``: of the target."""
    files: dict[SetId, list[ParsedName]] = {}
    sizes: dict[str, int] = {}
    temporary = []
    for info in objects:
        if info.name.startswith(TEMPORARY):
            temporary.append(info.name)
        elif (parsed := parse_name(info.name, prefixes, now)) is not None:
            files.setdefault(parsed.set, []).append(parsed)
            sizes[info.name] = info.size
    groups = [_backup_set(set_id, found, sizes, prefixes) for set_id, found in files.items()]
    # Oldest first; at the same time a full first, so that it begins its chain before an incremental looks for one.
    groups.sort(key=lambda group: (group.end, not group.is_full, group.start or 0))
    sets = [group for group in groups if group.manifest or group.volumes]
    lone = [name for group in groups if not (group.manifest or group.volumes) for name in group.names]
    complete = [backup_set for backup_set in sets if backup_set.is_complete]
    chains, outside = _chains(complete)
    bases = _bases(chains, complete)
    return Collection(
        sets=tuple(sets),
        chains=chains,
        forks=tuple(other for other in outside if other.id in bases),
        orphaned=tuple(other for other in outside if other.id not in bases),
        unfinished=tuple(backup_set for backup_set in sets if not backup_set.is_complete),
        orphaned_signatures=tuple(lone),
        temporary=tuple(temporary),
        place=place,
        _bases=bases,
    )


def partial_files(names: Iterable[str], *, prefixes: Prefixes = NO_PREFIXES, now: int) -> dict[SetId, list[str]]:
    """The ``.part`` files in an archive folder by set: runs of stock duplicity that were killed there."""
    found: dict[SetId, list[str]] = {}
    for parsed in parse_names(names, prefixes, now):
        if parsed.partial:
            found.setdefault(parsed.set, []).append(parsed.name)
    return found


# --- one set -----------------------------------------------------------------------------------------------------------------------


def _backup_set(set_id: SetId, files: list[ParsedName], sizes: Mapping[str, int], prefixes: Prefixes) -> BackupSet:
    proper = [file for file in files if file.is_proper]
    manifests = [file for file in proper if file.kind == "manifest"]
    encrypted = any(file.encrypted for file in manifests or [file for file in proper if file.kind == "volume"])
    # A plain file beside encrypted ones may have been put there by somebody without the key (P17).
    fitting = [file for file in proper if file.encrypted == encrypted or file.kind == "jsonstat"]
    suffixes = Counter(file.suffix for file in fitting if file.kind == "volume")
    by_place: dict[tuple[str, int | None], ParsedName] = {}
    for file in sorted(fitting, key=lambda file: (-suffixes[file.suffix], file.short, file.name)):
        by_place.setdefault((file.kind, file.number), file)
    used = {file.name for file in by_place.values()}
    one = {kind: file.name for (kind, _), file in by_place.items()}
    return BackupSet(
        id=set_id,
        volumes={number: file.name for (_, number), file in by_place.items() if number is not None},
        manifest=one.get("manifest"),
        signatures=one.get("signatures"),
        jsonstat=one.get("jsonstat"),
        encrypted=encrypted,
        sizes={file.name: sizes[file.name] for file in files if sizes[file.name] != UNKNOWN_SIZE},
        strays=tuple(sorted(file.name for file in files if file.name not in used)),
        prefixes=prefixes,
    )


# --- how sets hang together --------------------------------------------------------------------------------------------------------


def _chains(complete: Sequence[BackupSet]) -> tuple[tuple[Chain, ...], list[BackupSet]]:
    """Chains as stock duplicity puts them together, and the sets that found no place. ``complete``: oldest first."""
    chains: list[list[BackupSet]] = []
    outside: list[BackupSet] = []
    for backup_set in complete:
        if backup_set.is_full:
            chains.append([backup_set])
        elif not _placed(backup_set, chains, outside):
            outside.append(backup_set)
    ordered = sorted((Chain(tuple(sets)) for sets in chains), key=lambda chain: (chain.end, chain.start))
    return tuple(ordered), outside


def _placed(backup_set: BackupSet, chains: list[list[BackupSet]], outside: list[BackupSet]) -> bool:
    if backup_set.start is None or backup_set.end <= backup_set.start:
        return False
    for sets in chains:
        if sets[-1].end == backup_set.start:
            sets.append(backup_set)
            return True
        if sets[-1].start == backup_set.start:  # made anew: of two sets with the same start the later one counts
            outside.append(sets.pop())
            sets.append(backup_set)
            return True
    return False


def _bases(chains: Iterable[Chain], complete: Sequence[BackupSet]) -> dict[SetId, BackupSet | None]:
    """What each set that can be restored was built upon; sets that cannot be are not in it. ``complete``: oldest first."""
    bases: dict[SetId, BackupSet | None] = {}
    by_end: dict[int, BackupSet] = {}
    for chain in chains:  # where two sets end together, what is built upon them belongs to the one in a chain, as for stock duplicity
        for base, backup_set in zip((None, *chain.sets), chain.sets, strict=False):
            bases[backup_set.id] = base
            by_end.setdefault(backup_set.end, backup_set)
    for backup_set in complete:
        base = by_end.get(backup_set.start) if backup_set.start is not None and backup_set.start < backup_set.end else None
        if backup_set.id not in bases and base is not None:
            bases[backup_set.id] = base
            by_end.setdefault(backup_set.end, backup_set)
    return bases


def _why(lost: BackupSet, sets: Sequence[BackupSet]) -> str:
    """What is missing below ``lost``, following its bases down."""
    by_end: dict[int, list[BackupSet]] = {}
    for backup_set in sets:
        by_end.setdefault(backup_set.end, []).append(backup_set)
    while lost.start is not None and lost.end > lost.start:
        bases = by_end.get(lost.start)
        if not bases:
            return f"no set of {format_time(lost.start)}, upon which {lost.id} was built, is at the target"
        lost = next((base for base in bases if base.is_complete), bases[0])
        if not lost.is_complete:
            return f"{manifest_name(lost.id, '.gpg' if lost.encrypted else '', lost.prefixes)} is not at the target"
    return f"the times of the set {lost.id} make no sense"


def _status_line(backup_set: BackupSet) -> str:
    encryption = "enc" if backup_set.encrypted else "noenc"
    return f" {backup_set.id.type} {format_time(backup_set.end)} {len(backup_set.volumes)} {encryption}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _is(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"
