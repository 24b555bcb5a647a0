"""A full or incremental backup.

Path: list -> ``chains``, ``schedule`` (or the journal of an unfinished run) -> ``sync`` of old signatures -> ``produce`` -> ``pack`` ->
the engine's writer -> ``commit``.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from asyncdup.archive import checkpoint, schedule
from asyncdup.archive.chains import Chain, Collection
from asyncdup.archive.checkpoint import Journal, RunHead
from asyncdup.archive.commit import Commit
from asyncdup.archive.jsonstat import jsonstat
from asyncdup.archive.lock import TargetLock
from asyncdup.archive.owners import Owners
from asyncdup.archive.pack import Packer
from asyncdup.archive.produce import Change, CutFileChanged, Producer
from asyncdup.archive.reading import parse_manifest
from asyncdup.archive.schedule import Action
from asyncdup.archive.signatures import live_members
from asyncdup.archive.statistics import Statistics
from asyncdup.archive.walk import Walker
from asyncdup.backends.base import Body, ObjectInfo
from asyncdup.backends.urls import redact
from asyncdup.commands.entries import entry_done
from asyncdup.commands.job import job
from asyncdup.commands.jsonstat import keep_jsonstat
from asyncdup.commands.locking import target_lock
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import Session, hostname, open_session
from asyncdup.commands.unfinished import Run, Unfinished
from asyncdup.errors import DependencyFailed, UsageError
from asyncdup.events import EventHub, Scanned, SourceCounted, Warning
from asyncdup.formats import manifest, names, rdiff, volumes
from asyncdup.formats.names import SetId, parse_names
from asyncdup.formats.tar import Entry, key
from asyncdup.threads import in_thread, on_loop
from asyncdup.transfer import Op, Writer

MOST_WAITS = 3  # times for the next second to come
AT_ONCE = 1000  # entries a thread hop, when they are only counted


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """What was made. ``resumed``: volumes of an earlier, interrupted run that were kept; ``warnings``: files not stored as they are.

    ``skipped``: nothing had changed, so nothing was stored; ``jsonstat``: the statistics as JSON, where asked for. ``hard_links``, ``attributes``
    (of ``looked_at`` files): files stored without what the format cannot keep of them (see ``archive.produce.Counts``).
    """

    set_id: SetId
    statistics: Statistics
    volumes: int
    resumed: int = 0
    warnings: int = 0
    dry_run: bool = False
    skipped: bool = False
    jsonstat: str = ""
    hard_links: int = 0
    attributes: int = 0
    looked_at: int = 0


async def backup(
    source: str | os.PathLike[str],
    url: str,
    options: Options | None = None,
    *,
    action: Action = "backup",
    events: EventHub | None = None,
    control: Control | None = None,
) -> BackupResult:
    """Back ``source`` (a directory or one regular file) up to ``url``.

    ``action``: ``full``; ``incremental``, which fails without a chain; ``backup``, which takes what fits. An unfinished run of the same
    source is gone on with. Cancelled or failed, it leaves a state that the same call resumes.

    Raises:
        UsageError, ChainError, LockedError, CodecError: see their classes; nothing was written.
        Exception: the root cause of a transfer that failed for good.
    """
    options = options or Options()
    root = os.fsencode(source)
    async with job(action, source=os.fsdecode(root), target=url, options=options, events=events) as hub:
        await in_thread(_check_source, root)
        async with (
            open_session(url, options, hub=hub, control=control or Control()) as session,
            target_lock(session, action) as lock,
        ):
            return await _Backup(session, lock, root, action).run()


def _check_source(root: bytes) -> None:
    """A slip of the finger is told before anything is written."""
    hint = "name a directory or a file to back up"
    try:
        mode = os.stat(root).st_mode
    except FileNotFoundError:
        raise UsageError(f"{os.fsdecode(root)} does not exist", hint=hint) from None
    except OSError as error:
        raise UsageError(f"the source {os.fsdecode(root)} cannot be read: {error.strerror}") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UsageError(f"the source {os.fsdecode(root)} is neither a folder nor a regular file", hint=hint)
    if not os.access(root, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK):
        raise UsageError(f"the source {os.fsdecode(root)} cannot be read: Permission denied")


class _Backup:
    def __init__(self, session: Session, lock: TargetLock, root: bytes, action: Action) -> None:
        self.session = session
        self.lock = lock
        self.options = session.options
        self.root = root
        self.action: Action = action
        self.started = session.options.now()
        self.warnings = 0
        self.taken: set[str] = set()  # names that are at the target, or may be: a put to any other settles a lost answer by its size (I2)
        self.codec = session.writing_codec()
        self.target_size = volumes.target_size(self.options.volume_size, encrypted=self.codec.encrypted)

    async def run(self) -> BackupResult:
        options = self.options
        if options.dry_run:
            listing = await self.session.listing()
            run, _ = await self._prepare(listing, self.session.collection(listing))
            return await self._dry(run)
        hasty = False  # the lock was not what we hoped: now it comes first
        while True:  # what is prepared, and the first volumes that are made, while the lock is on its way hold if nobody wrote meanwhile
            listing = await self.lock.listing()
            self.taken.update(listing)
            collection = self.session.collection(listing)
            run, unfinished = await self._prepare(listing, collection)
            if (hasty or run.state is not None or unfinished.has_leftovers(collection)) and not await self.lock.hold(listing):
                continue
            hasty = True
            await unfinished.clear(run, collection)
            if options.skip_if_no_change and run.base is not None and run.state is None:
                unchanged = await self._without_change(run)
                if unchanged is not None:
                    if await self.lock.hold(listing):  # and so let go of: its object may still be on its way
                        return unchanged
                    continue
            try:
                return await self._write_all(run, unfinished)
            except DependencyFailed as error:
                await self.lock.excuse(error)
                await in_thread(checkpoint.discard, self.session.cache.path, run.head.end)
                self.warnings = 0

    async def _write_all(self, run: Run, unfinished: Unfinished) -> BackupResult:
        while True:
            try:
                return await self._write(run)
            except CutFileChanged:
                run = await unfinished.take_back(run)
                self.warnings = 0  # it had hardly begun, and what it met it will meet again

    async def _prepare(self, listing: dict[str, ObjectInfo], collection: Collection) -> tuple[Run, Unfinished]:
        """What is to be written, by the target as listed. Nothing is written there."""
        unfinished = Unfinished(self.session, self.action, self._head)
        await unfinished.look(collection)
        if not self.options.force:
            unfinished.refuse_emptied_target(listing)
        run = await unfinished.resumable(listing, collection) or await self._fresh(collection)
        if not self.options.dry_run:
            await self.lock.begin(listing)
        if run.base is not None:
            await self._prepare_base(run.base)
        if self.options.sync_all and not self.options.dry_run:
            await self.session.fetch_metadata(collection)
        return run, unfinished

    async def _fresh(self, collection: Collection) -> Run:
        options = self.options
        for _ in range(MOST_WAITS):  # the clock that we wait by may be a little ahead of the one that is shown
            await anyio.sleep(schedule.wait_for_clock(collection, options.now()))
        plan = schedule.plan(
            self.action,
            collection,
            now=int(options.now()),
            full_if_older_than=options.full_if_older_than,
            full_if_n_inc=options.full_if_n_inc,
        )
        for notice in plan.notices:
            self.session.notice(notice)
        return Run(self._head(plan.id), plan.base)

    def _head(self, set_id: SetId) -> RunHead:
        options, encryption = self.options, self.options.encryption
        keys = (*encryption.recipients, *encryption.hidden_recipients, encryption.sign_key or "") if encryption else ()
        rules = repr([(rule.option, rule.value) for rule in options.rules]) + ("copy-links" if options.copy_links else "")
        return RunHead(
            type=set_id.type,
            start=set_id.start,
            end=set_id.end,
            source=os.fsdecode(manifest.localdir_of(os.path.abspath(self.root))),
            # Another library makes other deltas, and a file that is cut must go on as it began.
            form=" ".join([self.codec.suffix, rdiff.backend(), *keys]),
            prefixes=repr(options.prefixes),
            rules=hashlib.sha256(rules.encode("utf-8", "surrogateescape")).hexdigest() if options.rules or options.copy_links else "",
            hostname=hostname(),
        )

    # Before anything is written.

    async def _prepare_base(self, base: Chain) -> None:
        """Old signatures into the cache; the newest manifest proves source, passphrase and key (P19)."""
        session, options = self.session, self.options
        if base.encrypted != self.codec.encrypted:
            was = "encrypted" if base.encrypted else "not encrypted"
            raise UsageError(
                f"the chain at the target is {was}", hint="an incremental is stored as its chain is; make a full to change that"
            )
        signatures = [backup_set.signatures for backup_set in base.sets if backup_set.signatures]
        proof = await self._ask_for_newest_manifest(base.last.manifest or "")
        async with session.arriving(parse_names(signatures, options.prefixes, int(options.now())), base) as keep:
            last = parse_manifest(await self._newest_manifest(base.last.manifest or "", proof), base.last)
            if not options.allow_source_mismatch:
                localdir = manifest.localdir_of(self.root)
                schedule.check_same_source(last, base.last, hostname=os.fsencode(hostname()), localdir=localdir)
            await keep()

    def _cached(self, name: str) -> Path:
        """The local copy of a manifest or signature archive of the chain; its name has the form, short or long, of that at the target."""
        (parsed,) = parse_names([name], self.options.prefixes, int(self.options.now()))
        return self.session.cache.path / names.cache_name(parsed)

    async def _ask_for_newest_manifest(self, name: str) -> Op[bytes] | None:
        """At the target. With keys alone a backup needs no secret, as long as the local copies are there: then None (format, section 10.1)."""
        session, encryption = self.session, self.options.encryption
        if encryption and not encryption.symmetric and encryption.passphrase is None and await in_thread(self._cached(name).exists):
            return None
        op: Op[bytes] = await session.engine.submit(session.lane, "get", name, max_size=manifest.MAX_SIZE)
        op.observed = True  # its failure comes up where it is waited for
        return op

    async def _newest_manifest(self, name: str, op: Op[bytes] | None) -> bytes:
        """Plain, and a local copy from now on."""
        cached = self._cached(name)
        if op is None:
            return await in_thread(cached.read_bytes)
        text = await self.session.reading_codec(name).unpack(await op.result(), name=name)
        if not await in_thread(cached.exists):
            await in_thread(self.session.cache.write, cached.name, text)
        return text

    # Writing.

    async def _write(self, run: Run) -> BackupResult:
        session, options = self.session, self.options
        if options.count_source:
            await self._count(run)
        folder, set_id = session.cache.path, run.head.set_id
        if run.state is None:
            journal = await in_thread(Journal.begin, folder, run.head)
        else:
            journal = await in_thread(Journal.resume, folder, run.state, run.upto, run.spooled)
        with closing(journal), closing(self._producer(run, journal.sigtar.append, journal.add_lines)) as producer:
            async with Writer(self._submit) as writer:
                packer = Packer(
                    engine=session.engine,
                    writer=writer,
                    codec=self.codec,
                    producer=producer,
                    journal=journal,
                    hub=session.hub,
                    name_of=lambda number: names.volume_name(set_id, number, self.codec.suffix, options.prefixes),
                    volume_size=options.volume_size,
                    target=self.target_size,
                    number=run.upto + 1,
                    spooled=run.unsent,
                )
                packer.notes.update({note.number: note for note in run.kept})
                await packer.run()
            commit = Commit(
                engine=session.engine,
                lane=session.lane,
                cache=session.cache,
                journal=journal,
                codec=self.codec,
                gzip=session.gzip,
                set_id=set_id,
                prefixes=options.prefixes,
                hostname=os.fsencode(hostname()),
                localdir=manifest.localdir_of(self.root),
                tempdir=session.tempdir,
                taken=self.taken,
            )
            await self.lock.check()
            await commit.run(packer.notes, packer.ops)
        result = self._result(run, producer, len(packer.notes), packer.stored_bytes)
        if result.jsonstat:
            await keep_jsonstat(session, set_id, result.jsonstat, self.codec)
        return result

    async def _count(self, run: Run) -> None:
        """How much there is to go through. What cannot be looked at is told of when the backup comes to it."""
        files = size = 0
        with self._walker(run, _ignore) as walker:
            while sizes := await in_thread(lambda: [found.entry.size for found in itertools.islice(walker, AT_ONCE)]):
                files, size = files + len(sizes), size + sum(sizes)
        self.session.hub.emit(SourceCounted(files=files, bytes=size, full=run.base is None))

    async def _submit(self, name: str, body: Body, *, after: Sequence[Op[Any]] = (), **how: Any) -> Op[Any]:
        """A put that waits for the lock."""
        how["absent"] = name not in self.taken
        self.taken.add(name)
        return await self.session.engine.submit(self.session.lane, "put", name, body, after=[*after, *self.lock.proof], **how)

    async def _without_change(self, run: Run) -> BackupResult | None:
        """The result of an incremental that would hold nothing; None as soon as something goes into it, which is then looked at again."""
        warnings: list[Warning] = []
        with closing(self._producer(run, _forget, _forget, on_warning=warnings.append, listing=False)) as producer:
            if await in_thread(producer.next_batch, volumes.PIECE) is not None:
                return None
        for warning in warnings:
            self._warn(warning)
        self.session.notice("nothing has changed since the last backup: no incremental is stored")
        return self._result(run, producer, 0, 0, skipped=True)

    async def _dry(self, run: Run) -> BackupResult:
        """Go through the source as a backup would, and store nothing."""
        with closing(self._producer(run, _forget, _forget)) as producer:
            while await in_thread(producer.next_batch, volumes.PIECE) is not None:
                counts = producer.counts
                self.session.hub.emit(Scanned(files=counts.source_files, bytes=counts.source_size))
        return self._result(run, producer, 0, 0)

    def _producer(
        self,
        run: Run,
        signature_out: Callable[[bytes], None],
        files_out: Callable[[bytes], None],
        *,
        on_warning: Callable[[Warning], None] | None = None,
        listing: bool = True,
    ) -> Producer:
        options = self.options
        on_warning = on_warning or self._warn
        last = run.kept[-1] if run.kept else None
        cut = last.cut if last else None
        sigtars = [self._cached(each.signatures or "") for each in run.base.sets] if run.base else []
        start = b"" if last is None else key(cut.path) if cut else key(last.last.path) + b"\0"
        return Producer(
            self._walker(run, on_warning),
            live_members(sigtars, start=start) if sigtars else iter(()),
            same_owner=Owners(numeric=options.numeric_owner).same,
            signature_out=signature_out,
            files_out=files_out,
            file_line=manifest.file_line if options.files_changed else _no_line,
            on_warning=on_warning,
            now=options.now,
            max_blocksize=options.max_blocksize,
            cut=cut,
            on_entry=self._entry_done if options.list_entries and listing else None,
        )

    def _walker(self, run: Run, on_warning: Callable[[Warning], None]) -> Walker:
        """The source from where ``run`` goes on."""
        last = run.kept[-1] if run.kept else None
        cut = last.cut if last else None
        return self.session.walker(
            self.root,
            on_warning=on_warning,
            start_at=cut.path if cut else None,
            start_after=last.last.path if last and not cut else None,
        )

    def _entry_done(self, what: Change, entry: Entry) -> None:
        """Called in the producer's thread."""
        on_loop(self.session.hub.emit, entry_done(what, entry))

    def _warn(self, warning: Warning) -> None:
        """Called in the producer's thread."""
        self.warnings += 1
        on_loop(self.session.hub.emit, warning)

    def _result(self, run: Run, producer: Producer, made: int, stored: int, *, skipped: bool = False) -> BackupResult:
        counts = producer.counts
        statistics = Statistics(
            start_time=self.started,
            end_time=self.options.now(),
            source_files=counts.source_files,
            source_file_size=counts.source_size,
            new_files=counts.new_files,
            new_file_size=counts.new_size,
            deleted_files=counts.deleted_files,
            changed_files=counts.changed_files,
            changed_file_size=counts.changed_size,
            changed_delta_size=counts.delta_size,
            delta_entries=counts.delta_entries,
            raw_delta_size=counts.raw_delta_size,
            total_destination_size_change=stored,
            errors=self.warnings,
        )
        return BackupResult(
            set_id=run.head.set_id,
            statistics=statistics,
            volumes=made,
            resumed=run.upto,
            warnings=self.warnings,
            dry_run=self.options.dry_run,
            skipped=skipped,
            hard_links=counts.hard_links,
            attributes=counts.attributes,
            looked_at=counts.looked_at,
            jsonstat=self._jsonstat(run, statistics, skipped=skipped) if self.options.jsonstat else "",
        )

    def _jsonstat(self, run: Run, statistics: Statistics, *, skipped: bool) -> str:
        session, sets = self.session, run.base.sets if run.base is not None else ()
        return jsonstat(
            statistics,
            run.head.set_id,
            run.base,
            skipped=skipped,
            concurrency=session.concurrency,
            target=redact(session.url),
            source=os.fsdecode(self.root),
            local=[self._cached(each.jsonstat).name if each.jsonstat and self._cached(each.jsonstat).exists() else None for each in sets],
        )


def _no_line(kind: str, path: bytes) -> bytes:
    """What ``--no-files-changed`` writes of a file."""
    return b""


def _ignore(warning: Warning) -> None:
    """Where the warnings of a walk go that another one repeats."""


def _forget(data: bytes) -> None:
    """Where a dry run's side files go."""
