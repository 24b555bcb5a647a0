"""What a caller may choose, in one frozen record with a default for everything; and the handle by which a running command is steered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from asyncdup.archive.overwrite import Overwrite
from asyncdup.archive.selection import Rule
from asyncdup.backends.options import BackendOptions
from asyncdup.codecs import Encryption
from asyncdup.errors import UsageError
from asyncdup.formats.names import Prefixes
from asyncdup.transfer import Engine, RetryPolicy

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that commands share. Sizes in bytes, times in seconds.

    Attributes:
        encryption: how volumes are encrypted and what is needed to read them; None = not at all.
        compression, compression_level: gzip, and its level (None: the fast one).
        volume_size: stored bytes of a volume, about.
        concurrency: attempts in flight; 0 = every transfer in line with production; ``auto`` = the run looks for the best number;
            None = ``auto`` where the backend supports more than one, else 1.
        retry: what is done about errors that may pass.
        retry_flag: the file by which operator and program talk in mode ``intervention``.
        intervention_timeout: a wait for the operator ends with InterruptedByOperator after so long; 0 = never.
        on_intervention: a command, as words, that is run when such a wait begins.
        spool, memory: bounds on finished volumes on disk (None = concurrency + 2 volumes; with ``auto`` no more than 4 GiB or half of the free disk) and on bytes in flight.
        upload_limit, download_limit: ``512k``, or a timetable, ``08:00,512k 12:00,pause 19:00,off``; ``request_limit``: a second. None = no limit.
        archive_dir, name: the local cache, by default where stock duplicity keeps it.
        tempdir: where volumes are made; None = the system's.
        rules: include and exclude options in their order.
        full_if_older_than: make a full if the last one is older (seconds since the epoch); full_if_n_inc: if so many incrementals stand on it.
        skip_if_no_change: store no incremental that would hold nothing.
        copy_links: store what symlinks point to, not the links.
        files_changed: list the changed files in the manifest; jsonstat: store the statistics of a backup beside it, as stock does.
        sync_all: local copies of the metadata of all chains, not only of the newest.
        count_source: walk through the source before a backup, so that its progress has an end.
        list_entries: an ``EntryDone`` event for each entry stored or restored.
        numeric_owner: owners by number, never by name. restore_ownership: None = owners are set if the process may.
        rename: archive paths and what they are called when restored. ignore_errors: restore what is left without volumes that are lost.
        overwrite: restore into a folder that is not empty, and what happens to what is there: ``never``, ``older`` or ``always`` replaced.
        untrusted: restore no setuid and setgid bits and no device nodes.
        now: the wall clock, in seconds since the epoch.
    """

    encryption: Encryption | None = None
    compression: bool = True
    compression_level: int | None = None
    volume_size: int = 200 * MIB
    max_blocksize: int = 0
    concurrency: int | Literal["auto"] | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    retry_flag: Path | None = None
    intervention_timeout: float = 0.0
    on_intervention: tuple[str, ...] = ()
    spool: int | None = None
    memory: int = 256 * MIB
    upload_limit: str | None = None
    download_limit: str | None = None
    request_limit: float | None = None
    archive_dir: Path | None = None
    name: str | None = None
    tempdir: Path | None = None
    prefixes: Prefixes = field(default_factory=Prefixes)
    rules: tuple[Rule, ...] = ()
    allow_source_mismatch: bool = False
    full_if_older_than: int | None = None
    full_if_n_inc: int | None = None
    skip_if_no_change: bool = False
    copy_links: bool = False
    files_changed: bool = True
    jsonstat: bool = False
    sync_all: bool = False
    count_source: bool = False
    list_entries: bool = False
    numeric_owner: bool = False
    restore_ownership: bool | None = None
    rename: tuple[tuple[bytes, bytes], ...] = ()
    ignore_errors: bool = False
    untrusted: bool = False
    force: bool = False
    overwrite: Overwrite | None = None
    dry_run: bool = False
    backend: BackendOptions = field(default_factory=lambda: BackendOptions(environ=os.environ))
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    now: Callable[[], float] = time.time  # noqa: TID251 - the default of the seam itself


class Control:
    """Steers a running command from outside: a signal handler, another task. Every method may be called at any time, also before and after."""

    def __init__(self, *, signals: bool = False, socket: bool = False) -> None:
        self.signals = signals  # SIGUSR1 calls ``resume``, so that it may be named as a way to
        self.socket = socket  # the command can be steered from outside the process, by ``asyncdup job``
        self.draining = False
        self.engine: Engine | None = None  # while it is open

    def drain(self) -> None:
        """Start nothing new; what is being sent may finish; then the command ends with a state that the same command resumes."""
        self.draining = True
        if self.engine is not None:
            self.engine.drain()

    def resume(self, by: str = "api") -> None:
        """The operator has mended what the command waits for."""
        if self.engine is not None:
            self.engine.resume(by)

    def abort(self, by: str = "api") -> None:
        """End the command as if it had given up, with exit code 61. Raises UsageError while it starts or ends."""
        self._running().abort(by)

    def pause(self, why: str = "api", *, now: bool = False) -> None:
        """As ``Engine.pause``. Raises UsageError while the command starts or ends."""
        self._running().pause(why, now=now)

    def unpause(self, why: str = "api") -> None:
        """Take the pause ``why`` away."""
        if self.engine is not None:
            self.engine.unpause(why)

    def set_concurrency(self, concurrency: int | Literal["auto"], why: str = "api") -> None:
        """As ``Engine.set_concurrency``. Raises UsageError while the command starts or ends."""
        self._running().set_concurrency(concurrency, why)

    def set_rate(self, *, upload: str | None = None, download: str | None = None, requests: float | None = None) -> None:
        """As ``Engine.set_rate``. Raises UsageError for what is no limit, and while the command starts or ends."""
        self._running().set_rate(upload=upload, download=download, requests=requests)

    def attach(self, engine: Engine) -> None:
        """The command's engine is open."""
        self.engine = engine
        if self.draining:
            engine.drain()

    def detach(self) -> None:
        """The command's engine is closed."""
        self.engine = None

    def _running(self) -> Engine:
        if self.engine is None:
            raise UsageError("the run is starting or ending", hint="ask again in a moment")
        return self.engine
