"""What a command is to the command line: a route, from what was typed to the coroutine, and from its result to what is said.

The routes themselves are in ``routes_...``, one module for the commands that share what they import.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from asyncdup.archive.selection import Rule
from asyncdup.backends.options import BackendOptions
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import INFO, Report
from asyncdup.cli.settings import Settings
from asyncdup.codecs import Encryption
from asyncdup.commands.options import MIB, Options
from asyncdup.formats.names import Prefixes
from asyncdup.transfer import RetryPolicy
from asyncdup.units import parse_time

STOCK_RETRIES, STOCK_DELAY = 5, 30.0  # stock duplicity's, where only one of the two options is given

Coroutine = Callable[..., Awaitable[Any]]


class Route(NamedTuple):
    """How one command is run: ``await bind(settings, secrets, report)(events=hub, control=control)``, then ``show(result, settings, report)``.

    Attributes:
        bind: the command's coroutine with its arguments. Raises UsageError.
        show: says the result and returns the exit code; 0 becomes 62 if there were warnings (P13).
    """

    bind: Callable[[Settings, Secrets, Report], Coroutine]
    show: Callable[[Any, Settings, Report], int]


def options_of(settings: Settings, secrets: Secrets) -> Options:
    """What the command line says, as the commands take it. Raises UsageError."""
    now = _clock(settings)
    return Options(
        encryption=_encryption(settings, secrets),
        compression=settings.compression,
        compression_level=settings.compression_level,
        volume_size=settings.volsize,
        max_blocksize=settings.max_blocksize,
        concurrency=settings.concurrency,
        retry=_retry(settings),
        retry_flag=_path(settings.retry_failure_flag),
        intervention_timeout=settings.intervention_timeout,
        on_intervention=settings.on_intervention,
        spool=settings.spool,
        memory=settings.memory or 256 * MIB,
        upload_limit=settings.upload_limit,
        download_limit=settings.download_limit,
        request_limit=settings.request_limit,
        archive_dir=_path(settings.archive_dir),
        name=settings.name,
        tempdir=_path(settings.tempdir),
        prefixes=Prefixes(
            settings.file_prefix,
            settings.file_prefix_archive,
            settings.file_prefix_manifest,
            settings.file_prefix_signature,
            settings.file_prefix_jsonstat,
        ),
        rules=_rules(settings),
        allow_source_mismatch=settings.allow_source_mismatch,
        full_if_older_than=moment_of(settings.full_if_older_than, now),
        full_if_n_inc=settings.full_if_n_inc,
        skip_if_no_change=settings.skip_if_no_change,
        copy_links=settings.copy_links,
        files_changed=settings.files_changed,
        jsonstat=settings.jsonstat,
        sync_all=settings.metadata_sync_mode == "full",
        count_source=settings.progress,
        list_entries=settings.verbosity >= INFO,
        numeric_owner=settings.numeric_owner,
        restore_ownership=settings.restore_ownership,
        rename=tuple((os.fsencode(old), os.fsencode(new)) for old, new in settings.rename),
        ignore_errors=settings.ignore_errors,
        untrusted=settings.untrusted_archive,
        overwrite=settings.overwrite,
        force=settings.force,
        dry_run=settings.dry_run,
        backend=BackendOptions(
            timeout=settings.timeout,
            concurrency=None if settings.concurrency == "auto" else settings.concurrency,
            ssh_options=settings.ssh_options,
            password=secrets.backend_password,
            environ=os.environ,
            tempdir=_path(settings.tempdir),
            backend_concurrency=settings.backend_concurrency,
            settings={name.replace("-", "_"): value or True for name, value in settings.backend_settings},
        ),
        now=now,
    )


def _clock(settings: Settings) -> Callable[[], float]:
    if settings.current_time is None:
        return time.time  # noqa: TID251 - the edge where the wall clock is handed in
    fixed = float(settings.current_time)
    return lambda: fixed


def moment_of(text: str | None, now: Callable[[], float]) -> int | None:
    """Seconds since the epoch that a time on the command line means. Raises UsageError."""
    return None if text is None else parse_time(text, int(now()))


def _rules(settings: Settings) -> tuple[Rule, ...]:
    rules = [Rule(option, os.fsencode(value)) for option, value in settings.selection]
    return (Rule("null-separator"), *rules) if settings.null_separator and rules else tuple(rules)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _encryption(settings: Settings, secrets: Secrets) -> Encryption | None:
    if not settings.encryption:
        return None
    return Encryption(
        passphrase=secrets.passphrase,
        sign_passphrase=secrets.sign_passphrase,
        recipients=settings.encrypt_keys,
        hidden_recipients=settings.hidden_encrypt_keys,
        sign_key=settings.sign_key,
        gpg_binary=settings.gpg_binary,
        gpg_options=settings.gpg_options,
    )


def _retry(settings: Settings) -> RetryPolicy:
    mode, timeout = settings.retry_failure_mode, settings.timeout
    if settings.num_retries is None and settings.backend_retry_delay is None:
        return RetryPolicy(mode=mode, stall_timeout=timeout, response_timeout=2 * timeout)
    retries = STOCK_RETRIES if settings.num_retries is None else settings.num_retries
    delay = STOCK_DELAY if settings.backend_retry_delay is None else settings.backend_retry_delay
    return RetryPolicy.fixed(retries, delay, mode=mode, timeout=timeout)
