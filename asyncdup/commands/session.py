"""What every command opens and closes: the backend, the engine, the lock on the archive folder, a private temporary folder.

The order matters: what is opened last is closed first, so nothing is sent once the lock is gone.
"""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from asyncdup.archive import sync
from asyncdup.archive.archive_dir import ArchiveDir, default_base, folder_name
from asyncdup.archive.chains import Chain, Collection, collect
from asyncdup.archive.selection import Selection
from asyncdup.archive.walk import Walker
from asyncdup.backends.base import Backend, ObjectInfo
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.codecs import Codec, codec_for, make_codec
from asyncdup.commands.control import control_socket
from asyncdup.commands.options import Control, Options
from asyncdup.commands.workspace import Inherited, workspace
from asyncdup.errors import AsyncdupError
from asyncdup.events import EventHub, Notice, Warning
from asyncdup.formats.names import ParsedName, parse_name, parse_names
from asyncdup.threads import in_thread
from asyncdup.transfer import Engine, Intervention, Lane, open_engine
from asyncdup.transfer.adaptive import START
from asyncdup.transfer.engine import SPARE
from asyncdup.transfer.suspend import slept
from asyncdup.units import format_size

NO_TEMP_SPACE = 34  # duplicity's exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The parts of a running command."""

    url: str = field(repr=False)  # may hold a password (P15)
    options: Options
    hub: EventHub
    backend: Backend
    engine: Engine
    lane: Lane
    cache: ArchiveDir
    tempdir: Path
    concurrency: int
    inherited: Inherited

    async def listing(self) -> dict[str, ObjectInfo]:
        """The objects at the target, by name."""
        return {info.name: info for info in await self.engine.list(self.lane)}

    def collection(self, listing: dict[str, ObjectInfo]) -> Collection:
        """What the names at the target mean."""
        return collect(listing.values(), prefixes=self.options.prefixes, now=int(self.options.now()), place=self.lane.name)

    async def fetch_to_cache(self, wanted: Sequence[ParsedName], *chains: Chain) -> None:
        """Local copies of those manifests and signature archives of ``chains`` that are not there yet."""
        async with self.arriving(wanted, *chains) as keep:
            await keep()

    def arriving(self, wanted: Sequence[ParsedName], *chains: Chain) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """The same, on their way while the block runs; see ``archive.sync``."""
        sizes = {name: size for chain in chains for name, size in chain.sizes.items()}
        return sync.arriving(self.engine, self.lane, self.cache, wanted, sizes=sizes, codec_of=self.reading_codec, gzip=self.gzip)

    async def fetch_metadata(self, collection: Collection) -> None:
        """Local copies of the manifests and signature archives of all chains."""
        files = [name for chain in collection.chains for each in chain.sets for name in (each.manifest, each.signatures) if name]
        await self.fetch_to_cache(parse_names(files, self.options.prefixes, int(self.options.now())), *collection.chains)

    def writing_codec(self) -> Codec:
        """As the options ask."""
        options = self.options
        return make_codec(
            encryption=options.encryption, compression=options.compression, level=options.compression_level, tempdir=self.tempdir
        )

    @property
    def gzip(self) -> Codec:
        """That of the local signature archives."""
        return make_codec(encryption=None, tempdir=self.tempdir)

    def reading_codec(self, name: str) -> Codec:
        """As the name of the stored file says."""
        parsed = parse_name(name, self.options.prefixes, int(self.options.now()))
        return codec_for(parsed.suffix if parsed else "", self.options.encryption, tempdir=self.tempdir)

    def selection(self, source: bytes, *, restoring: bool = False) -> Selection | None:
        """The include and exclude rules; None if everything is in."""
        options = self.options
        if not options.rules:
            return None
        return Selection(options.rules, source, restoring=restoring, now=int(options.now()))

    def walker(
        self, root: bytes, *, on_warning: Callable[[Warning], None], start_at: bytes | None = None, start_after: bytes | None = None
    ) -> Walker:
        """The local tree as the rules select it."""
        selection = self.selection(root)
        return Walker(
            root,
            selection=None if selection is None or selection.is_empty else selection,
            one_filesystem=selection is not None and selection.one_filesystem,
            exclude_device_files=selection is not None and selection.exclude_device_files,
            skip_if_present=selection.skip_if_present if selection else (),
            copy_links=self.options.copy_links,
            numeric=self.options.numeric_owner,
            start_at=start_at,
            start_after=start_after,
            on_warning=on_warning,
        )

    def notice(self, message: str) -> None:
        """One line for a person."""
        self.hub.emit(Notice(message=message))


@asynccontextmanager
async def open_session(
    url: str, options: Options, *, hub: EventHub, control: Control, writing: bool = True, brief: bool = False
) -> AsyncIterator[Session]:
    """Open all; close all.

    ``writing``: volumes will be made, so the archive folder is locked and the disk space for them is looked at. A reader needs no lock (P10).
    ``brief``: little more than a listing will be asked for, one call at a time.
    """
    async with AsyncExitStack() as stack:
        backend = open_backend(url, _backend_options(options, hub, brief=brief))
        stack.push_async_callback(backend.aclose)
        cache = ArchiveDir(options.archive_dir or default_base(options.environ), options.name or folder_name(url))
        if writing:
            await in_thread(cache.lock)
            stack.callback(cache.unlock)
            stack.callback(cache.sweep)  # what a cancelled step has left; a listing of a local folder
            await in_thread(cache.sweep)
        inherited = stack.enter_context(closing(Inherited()))
        tempdir = stack.enter_context(workspace(options.tempdir, cache.path if writing else None))
        wanted = _concurrency(backend, options)
        concurrency = START if wanted == "auto" else wanted
        fits = _room_for(concurrency, options, tempdir, hub) if writing else sys.maxsize
        concurrency = min(concurrency, fits)
        ways: tuple[str, ...] = ()
        if control.socket:  # opened first and closed last, so that it answers until everything has ended
            path = await stack.enter_async_context(control_socket(control, hub, environ=options.environ, now=options.now))
            ways = (f"asyncdup job resume --job={hub.job}",) if path else ()
        intervention = Intervention(
            other_ways=ways,
            flag=options.retry_flag,
            timeout=options.intervention_timeout,
            command=options.on_intervention,
            job=hub.job,
            signals=control.signals,
            environ=options.environ,
        )
        engine = await stack.enter_async_context(
            open_engine(
                concurrency="auto" if wanted == "auto" else concurrency,
                most=max(1, fits),
                policy=options.retry,
                spool_dir=tempdir,
                spool_bytes=options.spool,
                memory_bytes=options.memory,
                upload_limit=options.upload_limit,
                download_limit=options.download_limit,
                request_limit=options.request_limit,
                now=options.now,
                intervention=intervention,
                events=hub,
                asleep=slept,
            )
        )
        control.attach(engine)
        stack.callback(control.detach)
        yield Session(
            url=url,
            options=options,
            hub=hub,
            backend=backend,
            engine=engine,
            lane=engine.lane(backend),
            cache=cache,
            tempdir=tempdir,
            concurrency=concurrency,
            inherited=inherited,
        )


def _backend_options(options: Options, hub: EventHub, *, brief: bool) -> BackendOptions:
    """What the backend has to say becomes an event, too; and it is told how many calls are about to come."""
    given = options.backend

    def notify(message: str) -> None:
        given.notify(message)
        hub.emit(Notice(message=message))

    return replace(given, notify=notify, expected=1 if brief else given.concurrency or START)


def hostname() -> str:
    """As it stands in manifests."""
    return socket.gethostname()


def _concurrency(backend: Backend, options: Options) -> int | Literal["auto"]:
    if options.concurrency is not None:
        return options.concurrency
    return "auto" if backend.supports_concurrency() else 1


def _room_for(wanted: int, options: Options, tempdir: Path, hub: EventHub) -> int:
    """As many transfers as the temporary folder has room for volumes; a notice if that is less than ``wanted`` (S4)."""
    if options.spool is not None or options.dry_run:
        return sys.maxsize
    free = shutil.disk_usage(tempdir).free
    fits = free // options.volume_size - SPARE
    if fits < 0:
        raise AsyncdupError(
            f"{tempdir.parent} has {format_size(free)} free, and one volume of {format_size(options.volume_size)} needs twice its size",
            hint="make room there, choose another folder with --tempdir, or smaller volumes with --volsize",
            exit_code=NO_TEMP_SPACE,
        )
    if fits < wanted:
        hub.emit(Notice(message=f"{tempdir.parent} has {format_size(free)} free: --concurrency is lowered from {wanted} to {fits}"))
    return int(fits)
