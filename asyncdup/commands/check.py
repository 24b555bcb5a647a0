"""Whether the backups at a target are whole: their structure; with ``read_data`` every byte of them, and the signatures against the data.

Path: list -> ``chains`` -> manifests -> findings; then, chain by chain, as a restore that writes nothing and signs what it would have written.
A chain in which that fails is read again volume by volume, so that everything that is damaged in it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from asyncdup.archive import check as rules
from asyncdup.archive import sync
from asyncdup.archive.archive_dir import ArchiveDir
from asyncdup.archive.assemble import Assembly, Needed
from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.archive.check import Finding
from asyncdup.archive.consume import Merger
from asyncdup.archive.reading import needed_volumes, parse_manifest
from asyncdup.archive.resign import SignatureComparer
from asyncdup.archive.signatures import live_members, read_members
from asyncdup.codecs import PlainCodec
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.repair import DAMAGE, bring_back_local_copies, rebuild_signatures, without_signatures
from asyncdup.commands.session import Session, open_session
from asyncdup.errors import ChainError, CodecError, NotFound
from asyncdup.events import EventHub
from asyncdup.formats.difftar import Bound, DifftarReader
from asyncdup.formats.manifest import Manifest, VolumeRecord
from asyncdup.formats.names import SetId
from asyncdup.threads import in_thread
from asyncdup.transfer import ReadItem, ReadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What was looked at and found.

    Attributes:
        sets: complete backup sets; ``volumes``: that they have.
        read: volumes that were fetched and verified; ``sampled``: which part of them, in words.
        repaired: what was rebuilt, a sentence each.
        repairable: what ``force`` would rebuild at the target, likewise.
    """

    findings: tuple[Finding, ...]
    sets: int
    volumes: int
    read: int = 0
    sampled: str = ""
    repaired: tuple[str, ...] = ()
    repairable: tuple[str, ...] = ()

    @property
    def damage(self) -> list[Finding]:
        """Findings that are more than remarks."""
        return [finding for finding in self.findings if finding.damage]

    @property
    def exit_code(self) -> int:
        """0, 1, or 21 as for a restore that meets bytes which are not those that were stored."""
        return 21 if any(finding.content for finding in self.damage) else 1 if self.damage else 0


async def check(
    url: str,
    options: Options | None = None,
    *,
    read_data: bool = False,
    sample: float | None = None,
    repair: bool = False,
    events: EventHub | None = None,
    control: Control | None = None,
) -> CheckResult:
    """Look at the backups at ``url``.

    Args:
        read_data: fetch and verify every volume, and the signature archives against them.
        sample: per cent of the volumes to be fetched and verified, another part every day.
        repair: bring the local copies of the newest chain back; with ``options.force`` make signature archives that are missing or damaged
            at the target anew before. Nothing else is changed there.

    Raises:
        ChainError: there is no complete backup at all.
        CodecError: no manifest can be opened: the passphrase or the key is another one.
        LockedError: ``repair``, and another run holds the archive folder, or writes to the target.
    """
    options = options or Options()
    async with (
        job("check", source=url, target="", options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        listing = await session.listing()
        collection = session.collection(listing)
        checking = _Check(session, collection)
        checking.findings += rules.structure(collection, listing, options.prefixes)
        if not collection.chains and not any(finding.damage for finding in checking.findings):
            collection.chain_for()  # says what there is instead
        await checking.read_manifests()
        sampled = ""
        if read_data:
            await checking.read_chains()
        elif sample is not None:
            chosen, sampled = rules.sample(checking.volumes(), sample, int(options.now()))
            await checking.read_volumes(chosen)
        repaired, repairable = await _repaired(checking, read_data) if repair else ([], [])
        complete = [backup_set for backup_set in collection.sets if backup_set.is_complete]
        return CheckResult(
            findings=tuple(checking.findings),
            sets=len(complete),
            volumes=sum(len(backup_set.volumes) for backup_set in complete),
            read=checking.read,
            sampled=sampled,
            repaired=tuple(repaired),
            repairable=tuple(repairable),
        )


@dataclass(slots=True)
class _Check:
    """One look at a collection.

    Attributes:
        manifests: those that could be read.
        described: for each volume that is there, its set, and what the manifest says of it.
        spoilt: names of signature archives that cannot be read, or, of a whole chain, that do not fit its data.
    """

    session: Session
    collection: Collection
    findings: list[Finding] = field(default_factory=list)
    manifests: dict[SetId, Manifest] = field(default_factory=dict)
    described: dict[str, tuple[BackupSet, VolumeRecord]] = field(default_factory=dict)
    spoilt: set[str] = field(default_factory=set)
    read: int = 0

    def damaged(self, name: str, error: object) -> None:
        """Bytes of ``name`` are not what they must be. What is found twice is said once."""
        finding = Finding(kind="damaged", name=name, message=str(error), content=True)
        if finding not in self.findings:
            self.findings.append(finding)

    def bounded(self, name: str, bounds: tuple[Bound, Bound] | None) -> None:
        """The volume ``name`` was read, from the first to the last of its entries."""
        backup_set, record = self.described[name]
        for message in rules.wrong_bounds(record, bounds):
            self.damaged(backup_set.manifest or "", message)

    def mended(self, sets: set[SetId]) -> None:
        """The signature archives of ``sets`` are whole again: what was found of them holds no longer."""
        names = {each.signatures or str(each.id) for each in self.collection.sets if each.id in sets}
        self.findings = [each for each in self.findings if each.name not in names or each.kind not in ("missing", "damaged")]

    async def read_manifests(self) -> None:
        """All of them, several at a time. Raises CodecError if none can be opened."""
        session = self.session
        complete = [backup_set for backup_set in self.collection.sets if backup_set.is_complete]
        requests = [ReadRequest(each.manifest or "", each.sizes.get(each.manifest or "")) for each in complete]
        refused: CodecError | None = None
        async with session.engine.read_ordered(session.lane, requests, errors="yield", hedge=True) as results:
            for backup_set in complete:
                result = await anext(results)
                try:
                    if result.item is None:
                        raise result.error or NotFound(result.name)
                    text = await session.reading_codec(result.name).unpack(await in_thread(result.item.path.read_bytes), name=result.name)
                    manifest = await in_thread(parse_manifest, text, backup_set)
                except DAMAGE as error:
                    refused = error if isinstance(error, CodecError) else refused
                    self.damaged(result.name, error)
                    continue
                self.manifests[backup_set.id] = manifest
                self.described |= {
                    name: (backup_set, manifest.volumes[number])
                    for number, name in backup_set.volumes.items()
                    if number in manifest.volumes
                }
                self.findings += rules.of_manifest(backup_set, manifest)
        if not self.manifests and refused is not None:
            raise refused

    def volumes(self, sets: Sequence[BackupSet] | None = None) -> list[Needed]:
        """Those of ``sets`` (None: of all) that are there and that a readable manifest names."""
        chosen = self.collection.sets if sets is None else sets
        return [
            volume
            for index, backup_set in enumerate(chosen)
            if (manifest := self.manifests.get(backup_set.id)) is not None
            for volume in rules.volumes_of(index, backup_set, manifest)
        ]

    async def read_chains(self) -> None:
        """Every byte of every set."""
        seen: set[SetId] = set()
        for chain in self.collection.chains:
            seen |= {backup_set.id for backup_set in chain.sets}
            if not await self._chain_is_whole(chain):
                await self.read_volumes(self.volumes(chain.sets))
        await self.read_volumes(self.volumes([backup_set for backup_set in self.collection.sets if backup_set.id not in seen]))

    async def read_volumes(self, volumes: Sequence[Needed]) -> None:
        """Each by itself: its hash, its compression or encryption, the form of the archive in it."""
        session = self.session
        requests = [ReadRequest(each.name, each.size, rules.digests_of(each), in_place=True) for each in volumes]
        async with session.engine.read_ordered(session.lane, requests, errors="yield", hedge=True) as results:
            for _ in volumes:
                result = await anext(results)
                try:
                    if result.item is None:
                        raise result.error or NotFound(result.name)
                    await self._decode(result.item)
                except DAMAGE as error:
                    self.damaged(result.name, error)
                self.read += 1

    async def _decode(self, item: ReadItem) -> None:
        reader = DifftarReader(where=item.name)
        async with self.session.reading_codec(item.name).open(item.path, name=item.name) as chunks:
            async for chunk in chunks:
                await in_thread(reader.feed, chunk)
        reader.end_volume()
        self.bounded(item.name, reader.bounds)

    async def _chain_is_whole(self, chain: Chain) -> bool:
        """Read the chain as a restore does, and compare what comes out with the signatures. False: it cannot be read to its end."""
        if any(backup_set.id not in self.manifests for backup_set in chain.sets):
            return False
        session = self.session
        sigtars = await self.read_signatures(chain)
        try:
            needed = needed_volumes(chain, [self.manifests[backup_set.id] for backup_set in chain.sets])
        except ChainError:
            return False  # said already: some are missing
        sink = SignatureComparer(live_members(sigtars) if sigtars else None, self._on_difference(chain.last, chain.sets))
        superseded = self._superseded(chain, sigtars)
        unread = [iter(sorted(self.manifests[backup_set.id].volumes)) for backup_set in chain.sets]

        def on_volume(index: int, bounds: tuple[Bound, Bound] | None) -> None:
            self.bounded(chain.sets[index].volumes[next(unread[index])], bounds)

        problems: list[str] = []
        merger = Merger(
            sink,
            len(chain.sets),
            on_volume=on_volume,
            on_superseded=(lambda index, entry: superseded[index].file(entry)) if superseded else None,
            tempdir=session.tempdir,
            on_problem=lambda path, message: problems.append(f"{path.decode('utf-8', 'replace')}: {message}"),
        )
        with ExitStack() as stack:
            stack.enter_context(closing(merger))
            for comparer in (sink, *superseded):
                stack.enter_context(closing(comparer))
            codecs = [session.reading_codec(backup_set.volume_name(1)) for backup_set in chain.sets]
            try:
                await Assembly(session.engine, session.lane, codecs, merger, session.hub, needed).run()
            except DAMAGE:
                return False
        for comparer in superseded:
            comparer.finish()
        for problem in problems:
            self.damaged(str(chain.last.id), problem)
        self.read += len(needed)
        return True

    def _superseded(self, chain: Chain, sigtars: Sequence[Path]) -> list[SignatureComparer]:
        """For each set, what compares the files that later sets have, too, if its signature archive is bare: any other has a checksum."""
        are_bare = [isinstance(self.session.reading_codec(each.signatures or ""), PlainCodec) for each in chain.sets]
        if not sigtars or not any(are_bare):
            return []
        return [
            SignatureComparer(read_members(path) if is_bare else None, self._on_difference(each, [each]), in_part=True)
            for each, path, is_bare in zip(chain.sets, sigtars, are_bare, strict=True)
        ]

    def _on_difference(self, named: BackupSet, spoilt: Sequence[BackupSet]) -> Callable[[str], None]:
        def differs(message: str) -> None:
            self.damaged(named.signatures or str(named.id), message)
            self.spoilt |= {each.signatures for each in spoilt if each.signatures}

        return differs

    async def read_signatures(self, chain: Chain) -> list[Path]:
        """Local copies of the chain's signature archives, from the target itself; none if one is missing or damaged."""
        session = self.session
        folder = ArchiveDir(session.tempdir, f"check-{chain.start}")
        await in_thread(folder.create)
        names = [backup_set.signatures for backup_set in chain.sets if backup_set.signatures]
        paths = []
        requests = [ReadRequest(name, chain.sizes.get(name)) for name in names]
        async with session.engine.read_ordered(session.lane, requests, errors="yield", hedge=True) as results:
            for number, name in enumerate(names):
                result = await anext(results)
                path = folder.path / f"{number}.gz"
                try:
                    if result.item is None:
                        raise result.error or NotFound(result.name)
                    await sync.transcode(result.item.path, session.reading_codec(name), path, session.gzip, name=name)
                except DAMAGE as error:
                    self.damaged(name, error)
                    self.spoilt.add(name)
                    continue
                paths.append(path)
        return paths if len(paths) == len(chain.sets) else []


async def _repaired(checking: _Check, have_signatures_been_read: bool) -> tuple[list[str], list[str]]:
    """Mend what can be made again from what is whole: what was, and what ``force`` would mend, as sentences."""
    session, collection = checking.session, checking.collection
    if not have_signatures_been_read:
        for chain in collection.chains:
            await checking.read_signatures(chain)
    lost = without_signatures(collection, checking.spoilt)
    described = {each.id: f"the signature archive of the set {each.id}, from its volumes" for each in lost}
    if not session.options.force or session.options.dry_run:
        return await bring_back_local_copies(session, collection, checking.spoilt), list(described.values())
    rebuilt = await rebuild_signatures(session, described.keys()) if lost else []
    checking.mended({each.id for each in rebuilt})
    again = session.collection(await session.listing()) if rebuilt else collection
    return [described[each.id] for each in rebuilt] + await bring_back_local_copies(session, again, ()), []
