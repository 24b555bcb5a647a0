"""Compare a backup with the tree. Every volume is fetched and checked, and by default the content of every file compared.

Path: as a restore, with ``compare`` in the place of ``tree``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from asyncdup.archive.assemble import Assembly
from asyncdup.archive.compare import Mismatch, TreeComparer
from asyncdup.archive.consume import Merger
from asyncdup.archive.reading import needed_volumes, read_manifests
from asyncdup.commands.job import job
from asyncdup.commands.options import Control, Options
from asyncdup.commands.reader import TEMPDIR_HINT, Problems, chain_to_read, selected
from asyncdup.commands.session import open_session
from asyncdup.events import EventHub
from asyncdup.formats.names import SetId
from asyncdup.threads import on_loop


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """``compared``: entries on either side; ``differences``: of them those that differ."""

    set_id: SetId
    compared: int
    differences: int


async def verify(
    url: str,
    tree: str | os.PathLike[str],
    options: Options | None = None,
    *,
    time: int | None = None,
    path: str | bytes = b"",
    on_difference: Callable[[Mismatch], None] = lambda found: None,
    events: EventHub | None = None,
    control: Control | None = None,
) -> VerifyResult:
    """Compare the backup of ``time`` (None: the newest), or ``path`` in it, with ``tree``. ``on_difference`` is told of each path that differs.

    Raises:
        RestoreError: parts of the archive could not be read; its ``problems`` names the entries.
        ChainError, FormatError, IntegrityError, CodecError: the archive cannot be read that far.
    """
    options = options or Options()
    root = os.fsencode(tree)
    prefix = os.fsencode(path).strip(b"/")
    async with (
        job("verify", source=url, target=os.fsdecode(root), options=options, events=events) as hub,
        open_session(url, options, hub=hub, control=control or Control(), writing=False) as session,
    ):
        chain = await chain_to_read(session, time)
        manifests = await read_manifests(session.engine, session.lane, chain.sets, session.reading_codec)
        needed = needed_volumes(chain, manifests, prefix)
        problems = Problems(hub)
        walker = session.walker(root, on_warning=partial(on_loop, hub.emit))
        comparer = TreeComparer(
            walker, compare_data=True, numeric_owner=options.numeric_owner, on_difference=partial(on_loop, on_difference)
        )
        select = selected(session.selection(root))
        merger = Merger(comparer, len(chain.sets), prefix=prefix, select=select, tempdir=session.tempdir, on_problem=problems.add)
        with closing(merger), walker:
            codecs = [session.reading_codec(backup_set.volume_name(1)) for backup_set in chain.sets]
            await Assembly(session.engine, session.lane, codecs, merger, hub, needed).run()
        if problems.lines:
            problems.full[session.tempdir] += merger.without_room
            message = f"{len(problems.lines)} entries of the backup could not be read"
            raise problems.error(message, hint=None, room_hint=TEMPDIR_HINT, exit_code=1)
        return VerifyResult(set_id=chain.last.id, compared=comparer.compared, differences=comparer.differences)
