"""Backups as read-only folders, until somebody unmounts them. Path: ``fuse`` -> ``mount_files``, in FUSE's one thread -> ``mount_archive``, on the
event loop."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Final

import anyio

from asyncdup.archive.chains import Chain
from asyncdup.archive.owners import Owners
from asyncdup.commands.job import job
from asyncdup.commands.mount_archive import Archive
from asyncdup.commands.mount_files import Files
from asyncdup.commands.options import Control, Options
from asyncdup.commands.session import open_session
from asyncdup.commands.signature_files import chains_over_time
from asyncdup.errors import UsageError, in_words, ungrouped
from asyncdup.events import EventHub, Notice
from asyncdup.threads import in_thread

_TICK: Final = 0.2  # seconds between looks at whether it is to end


async def mount(
    url: str,
    directory: str | os.PathLike[str],
    options: Options | None = None,
    *,
    events: EventHub | None = None,
    control: Control | None = None,
) -> None:
    """Mount the backups at ``url`` on ``directory``, an empty folder, and return when it was unmounted, or ``control.drain`` was called.

    What is at the URL is listed once. Names come from signature archives. A volume is fetched when a file that it holds is opened, or asked
    for its size, which stands nowhere else.

    Raises:
        UsageError: ``directory`` is not an empty folder, or there is no FUSE here.
        ChainError: there is no backup.
    """
    options, control = options or Options(), control or Control()
    place = await in_thread(_free_folder, directory)
    serve = _binding()
    async with (
        job("mount", source=url, target=place, options=options, events=events) as hub,
        open_files(url, options, hub=hub, control=control) as files,
    ):
        files.on_ready = lambda: hub.emit(Notice(message=f"mounted on {place}; umount, or Ctrl-C here, ends it"))
        ended = anyio.Event()
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_end_when_told, control, files, place, ended)
                try:
                    await in_thread(serve, files, place)
                finally:
                    ended.set()


def _free_folder(directory: str | os.PathLike[str]) -> str:
    """The path of ``directory``, if something can be mounted there. Raises UsageError."""
    place = os.path.abspath(directory)
    try:
        names = os.listdir(place)
    except OSError as error:
        dead = error.errno == errno.ENOTCONN
        hint = f"what was mounted there has died: fusermount3 -u {place}" if dead else "mount wants a folder that is there and empty"
        raise UsageError(f"cannot mount on {place}: {error.strerror}", hint=hint) from None
    if names:
        raise UsageError(f"cannot mount on {place}: it is not empty", hint="make a folder for it")
    if not os.path.exists("/dev/fuse"):
        raise UsageError("mount needs FUSE, and /dev/fuse is not there", hint="modprobe fuse; a container must be given the device")
    return place


def _binding() -> Callable[[Files, str], None]:
    try:
        serve: Callable[[Files, str], None] = importlib.import_module("asyncdup.commands.fuse").serve
    except ModuleNotFoundError:
        raise UsageError("mount needs the package mfusepy", hint="pip install 'asyncdup[mount]'") from None
    except OSError as error:
        raise UsageError(f"mount needs the FUSE library: {in_words(error)}", hint="apt install fuse3") from None
    return serve


async def _end_when_told(control: Control, files: Files, place: str, ended: anyio.Event) -> None:
    """End the serving thread when the command is drained or cancelled. It looks up only when it is asked something, so it is asked."""
    try:
        while not control.draining and not ended.is_set():
            with anyio.move_on_after(_TICK):
                await ended.wait()
    finally:
        files.end()
        with anyio.CancelScope(shield=True):
            while not ended.is_set():
                with suppress(OSError):
                    await in_thread(os.statvfs, place)
                with anyio.move_on_after(_TICK):
                    await ended.wait()


@asynccontextmanager
async def open_files(url: str, options: Options, *, hub: EventHub, control: Control) -> AsyncIterator[Files]:
    """The backups at ``url``, to be asked for in one thread at a time. Raises ChainError if there is none."""
    async with open_session(url, options, hub=hub, control=control, writing=False) as session:
        _, chains = await chains_over_time(session)
        lineages = [Chain(chain.sets[:count]) for chain in chains for count in range(1, len(chain.sets) + 1)]
        with closing(Archive(session, {lineage.end: lineage for lineage in lineages})) as archive:
            yield Files(archive, hub, Owners(numeric=options.numeric_owner))
