"""What interrupted runs have left: whether this run goes on with one of them, and the removal of the rest (P1, P2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncdup.archive import checkpoint, sync
from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.archive.checkpoint import RunHead, State
from asyncdup.archive.resume import before_cut_file, kept_volumes, try_to_open
from asyncdup.archive.schedule import Action
from asyncdup.backends.base import ObjectInfo
from asyncdup.backends.names import is_temp_name_of
from asyncdup.commands.session import Session
from asyncdup.errors import CodecError
from asyncdup.formats.names import SetId, format_time, parse_names
from asyncdup.threads import in_thread


@dataclass(frozen=True, slots=True)
class Run:
    """The set to be written. ``upto``: the volumes of it that an earlier run has made and that are kept; ``state``: what its journal says.

    ``spooled``: those of them that are not at the target and are sent from their files in the spool of the earlier run (X5).
    """

    head: RunHead
    base: Chain | None
    state: State | None = None
    upto: int = 0
    spooled: frozenset[int] = frozenset()

    @property
    def kept(self) -> list[checkpoint.VolumeNote]:
        """The volumes that are kept, in their order."""
        return [self.state.volumes[number] for number in range(1, self.upto + 1)] if self.state else []

    @property
    def unsent(self) -> list[checkpoint.VolumeNote]:
        """Those of ``kept`` that are sent now."""
        return [note for note in self.kept if note.number in self.spooled]


class Unfinished:
    """The journals of one archive folder. ``look`` first; nothing is removed before ``clear``."""

    def __init__(self, session: Session, action: Action, head_of: Callable[[SetId], RunHead]) -> None:
        self._session = session
        self._action = action
        self._head_of = head_of
        self._states: list[State] = []  # oldest first
        self._writers: set[str] = set()  # dead processes of ours, as we hold the lock
        self._spools: set[Path] = set()  # folders of runs that journals with our prefixes speak of
        self._foreign: set[int] = set()  # ends of sets with other prefixes: other backups, which go on with them

    async def look(self, collection: Collection) -> None:
        """Read the journals. A set that has its manifest at the target is finished, whatever they say."""
        complete = {backup_set.id for backup_set in collection.sets if backup_set.is_complete}
        states = await in_thread(checkpoint.find, self._session.cache.path)
        self._writers = {writer for state in states for writer in state.writers}
        prefixes = repr(self._session.options.prefixes)
        self._foreign = {state.head.end for state in states if state.head.prefixes != prefixes}
        self._spools = {folder for state in states if state.head.prefixes == prefixes for folder in _spools(state)}
        self._states = [state for state in states if state.head.prefixes == prefixes and state.head.set_id not in complete]

    def refuse_emptied_target(self, listing: Mapping[str, ObjectInfo]) -> None:
        """P19. Raises ChainError: backups or volumes are known, and the target holds nothing of them."""
        session, prefixes, now = self._session, self._session.options.prefixes, int(self._session.options.now())
        found = parse_names(listing, prefixes, now)
        sent = max((state.head.end for state in self._states if state.stored), default=None)
        sync.refuse_emptied_target(session.cache, found, prefixes=prefixes, now=now, place=session.backend.description, sent=sent)

    async def resumable(self, listing: Mapping[str, ObjectInfo], collection: Collection) -> Run | None:
        """The run to go on with, if there is one and it is the same as ours.

        Raises:
            CodecError: it is, but for its passphrase.
        """
        session = self._session
        if not self._states or session.options.dry_run:
            return None
        state = self._states[-1]
        head, when = state.head, format_time(state.head.end)
        base = _base_of(head, collection)
        if not self._is_same(head, collection) or (head.type == "inc" and base is None):
            session.notice(f"the unfinished backup of {when} was of another kind: a new one is begun in its place")
            return None
        for folder in _spools(state):
            await in_thread(session.inherited.take, folder)  # before its files are looked at: another run might sweep it
        kept = await kept_volumes(state, listing, session.engine, session.lane)
        run = Run(head, base, state, kept.upto, kept.spooled)
        if not await self._has_same_passphrase(run):
            session.notice(f"the unfinished backup of {when} has another passphrase: a new one is begun in its place")
            return None
        waiting = f", and {len(run.spooled)} wait here to be sent" if run.spooled else ""
        session.notice(f"going on with the backup of {when}: {run.upto - len(run.spooled)} of its volumes are at the target{waiting}")
        return run

    def has_leftovers(self, collection: Collection) -> bool:
        """Whether ``clear`` would remove anything at the target."""
        return bool(collection.unfinished) or any(is_temp_name_of(name, self._writers) for name in collection.temporary)

    async def clear(self, run: Run, collection: Collection) -> None:
        """Remove unfinished sets, whoever left them, but for the volumes that are gone on with; and local copies of what is gone.

        Journals come first: what one speaks of as stored is then never missed (P19).
        """
        session, options = self._session, self._session.options
        folder, journals = session.cache.path, set(self._foreign)
        if run.state is not None:
            await in_thread(checkpoint.rewind, folder, run.state, run.upto, run.spooled)
            journals.add(run.head.end)
        await in_thread(lambda: checkpoint.sweep(folder, keep=journals))
        await in_thread(session.inherited.claim, self._spools, [Path(note.spool) for note in run.unsent])
        for unfinished in collection.unfinished:
            await self._remove(unfinished, run)
        await self._delete([name for name in collection.temporary if is_temp_name_of(name, self._writers)])
        names = [name for backup_set in collection.sets if backup_set.is_complete for name in backup_set.names]
        now = int(options.now())
        found = parse_names(names, options.prefixes, now)
        await in_thread(lambda: sync.drop_stale(session.cache, found, prefixes=options.prefixes, now=now))

    async def take_back(self, run: Run) -> Run:
        """The same run, begun again before the file that the last stored volume ends inside of, since it has changed (P2)."""
        if run.state is None:
            return run
        upto = before_cut_file(run.state, run.upto)
        spooled = frozenset(number for number in run.spooled if number <= upto)
        await in_thread(checkpoint.rewind, self._session.cache.path, run.state, upto, spooled)
        await self._delete([note.name for note in run.kept[upto:]])
        return Run(run.head, run.base, run.state, upto, spooled)

    def _is_same(self, head: RunHead, collection: Collection) -> bool:
        if self._action == "full" and head.type != "full":
            return False
        if collection.latest is not None and head.end <= collection.latest:
            return False  # another machine has been faster: no set is dated before the newest (P12)
        return head == self._head_of(head.set_id)

    async def _has_same_passphrase(self, run: Run) -> bool:
        """Whether the volumes that are to be kept were encrypted with ours. An incremental's is proven by its base."""
        session, encryption = self._session, self._session.options.encryption
        if not run.kept or run.head.type == "inc" or encryption is None or not encryption.symmetric:
            return True
        smallest = min(run.kept, key=lambda note: note.size)
        try:
            codec, here = session.reading_codec(smallest.name), smallest.number in run.spooled
            await try_to_open(smallest, codec, session.engine, session.lane, spooled=here)
        except CodecError as error:
            if session.options.force:
                return False
            raise CodecError(
                f"the unfinished backup of {format_time(run.head.end)} cannot be gone on with: {error}",
                hint="give the passphrase that it was begun with, or --force to begin anew",
            ) from error
        return True

    async def _remove(self, unfinished: BackupSet, run: Run) -> None:
        keep = {note.name for note in run.kept}
        stale = [name for name in unfinished.names if name not in keep]
        if stale and unfinished.id != run.head.set_id:
            self._session.notice(f"the set {unfinished.id} was never finished: its {len(stale)} files are removed")
        volumes = set(unfinished.volumes.values())
        await self._delete(
            [name for name in stale if name not in volumes]
        )  # alone they would belong to no set, and nobody would look for them
        await self._delete([name for name in stale if name in volumes])

    async def _delete(self, names: list[str]) -> None:
        session = self._session
        for op in [await session.engine.submit(session.lane, "delete", name) for name in names]:
            await op.result()


def _base_of(head: RunHead, collection: Collection) -> Chain | None:
    chain, _ = collection.base()
    return chain if head.type == "inc" and chain is not None and chain.end == head.start else None


def _spools(state: State) -> set[Path]:
    """The folders of the runs that made the volumes of ``state``; a volume lies in its run's spool, one folder deeper."""
    return {Path(note.spool).parent.parent for note in state.volumes.values() if note.spool}
