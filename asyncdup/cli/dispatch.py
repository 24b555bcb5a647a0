"""From a command's name to the coroutine that does it, what it is given, and what is said of its result."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from asyncdup.archive.chains import BackupSet, Chain, Collection
from asyncdup.archive.schedule import Action
from asyncdup.archive.selection import Rule
from asyncdup.backends.options import BackendOptions
from asyncdup.cli.changes import changes_json, file_lines, set_lines
from asyncdup.cli.machine_log import FILE_LIST, STATUS, escaped
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import INFO, Report
from asyncdup.cli.report_status import status_json
from asyncdup.cli.settings import Settings
from asyncdup.cli.upkeep import check_json, check_lines, cleanup_lines, removal_lines, unlock_lines
from asyncdup.codecs import Encryption
from asyncdup.commands.backup import BackupResult, backup
from asyncdup.commands.changes import SetChanges, changes
from asyncdup.commands.check import CheckResult, check
from asyncdup.commands.cleanup import CleanupResult, cleanup
from asyncdup.commands.collection import collection_status
from asyncdup.commands.entries import KINDS
from asyncdup.commands.files import list_current_files
from asyncdup.commands.options import MIB, Options
from asyncdup.commands.remove import RemoveResult, remove_all_but_n_full, remove_all_inc_of_but_n_full, remove_older_than
from asyncdup.commands.restore import RestoreResult, restore
from asyncdup.commands.unlock import UnlockResult, unlock
from asyncdup.commands.verify import VerifyResult, verify
from asyncdup.errors import UsageError
from asyncdup.formats.names import Prefixes, format_time
from asyncdup.formats.tar import Entry
from asyncdup.transfer import RetryPolicy
from asyncdup.transfer.adaptive import MOST
from asyncdup.units import format_local_time, parse_time

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
        full_if_older_than=_time(settings.full_if_older_than, now),
        full_if_n_inc=settings.full_if_n_inc,
        skip_if_no_change=settings.skip_if_no_change,
        copy_links=settings.copy_links,
        files_changed=settings.files_changed,
        jsonstat=settings.jsonstat,
        sync_all=settings.metadata_sync_mode == "full",
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
            concurrency=MOST if settings.concurrency == "auto" else settings.concurrency,
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


def _time(text: str | None, now: Callable[[], float]) -> int | None:
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


# Backups.


def _bind_backup(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(backup, settings.path, settings.url, options_of(settings, secrets), action=cast(Action, settings.command))


def _show_backup(result: BackupResult, settings: Settings, report: Report) -> int:
    if result.jsonstat:
        report.result(result.jsonstat.splitlines())
    if settings.print_statistics:
        report.statistics(result.statistics)
    return 0


# Restores.


def _bind_restore(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    moment = _time(settings.restore_time, options.now)
    return partial(restore, settings.url, settings.path, options, time=moment, path=settings.path_to_restore)


def _show_restore(result: RestoreResult, settings: Settings, report: Report) -> int:
    if result.dry_run:
        report.result(result.volumes)
    return 0


def _bind_verify(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    moment = _time(settings.restore_time, options.now)
    if len(settings.path_to_restore) > 1:
        raise UsageError("verify compares one path with PATH", hint="say --path-to-restore once, or use --include and --exclude")
    path = "".join(settings.path_to_restore)
    return partial(verify, settings.url, settings.path, options, time=moment, path=path, on_difference=report.result)


def _show_verify(result: VerifyResult, settings: Settings, report: Report) -> int:
    report.result(f"Verify complete: {result.compared} file(s) compared, {result.differences} difference(s) found.")
    return 1 if result.differences else 0


# What is there.


def _bind_status(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    index = settings.show_changes_in_set
    if index is not None or settings.file_changed is not None:
        return _bind_changes(settings, secrets)
    return partial(collection_status, settings.url, options_of(settings, secrets))


def _bind_changes(settings: Settings, secrets: Secrets) -> Coroutine:
    """Stock's -1 is Python's: the oldest set, which is the full; but with --jsonstat it means all sets."""
    index = settings.show_changes_in_set
    return partial(changes, settings.url, options_of(settings, secrets), index=None if index == -1 else index)


def _show_status(result: Collection | list[SetChanges], settings: Settings, report: Report) -> int:
    if isinstance(result, Collection) and settings.json:
        report.result(status_json(result))
    elif isinstance(result, Collection):
        report.result(status_lines(result), code=STATUS, extra="\n" + "\n".join(result.status_lines()))
    elif settings.show_changes_in_set is None:
        report.result(file_lines(settings.file_changed or "", result), code=STATUS)
    elif settings.jsonstat:
        report.result(changes_json(result).splitlines(), code=STATUS)
    else:
        report.result(set_lines(result[0]), code=STATUS)
    return 0


def _bind_files(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    moment = _time(settings.restore_time, options.now)

    def show(entries: list[Entry]) -> None:
        for entry in entries:
            path = os.fsdecode(entry.path) or "."
            extra = f"{format_time(entry.mtime)} {escaped(path)} {KINDS.get(entry.kind, '')}" if report.logs else ""
            report.result((f"{format_local_time(entry.mtime)} {path}",), code=FILE_LIST, extra=extra)

    return partial(list_current_files, settings.url, options, time=moment, on_entries=show)


def _show_nothing(result: object, settings: Settings, report: Report) -> int:
    return 0


# Upkeep.


def _bind_older_than(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    return partial(remove_older_than, settings.url, parse_time(settings.time, int(options.now())), options)


def _bind_count(command: Coroutine) -> Callable[[Settings, Secrets, Report], Coroutine]:
    def bind(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
        if not (settings.count.isascii() and settings.count.isdecimal() and 0 < int(settings.count) < 1 << 31):
            raise UsageError(f"{settings.command} wants a whole number from 1, not {settings.count!r}")
        return partial(command, settings.url, int(settings.count), options_of(settings, secrets))

    return bind


def _show_removal(result: RemoveResult, settings: Settings, report: Report) -> int:
    report.result(removal_lines(result))
    return 0


def _bind_cleanup(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(cleanup, settings.url, options_of(settings, secrets))


def _show_cleanup(result: CleanupResult, settings: Settings, report: Report) -> int:
    report.result(cleanup_lines(result))
    return 0


def _bind_unlock(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(unlock, settings.url, options_of(settings, secrets))


def _show_unlock(result: UnlockResult, settings: Settings, report: Report) -> int:
    report.result(unlock_lines(result))
    return 0


def _bind_check(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    return partial(check, settings.url, options, read_data=settings.read_data, sample=settings.sample, repair=settings.repair)


def _show_check(result: CheckResult, settings: Settings, report: Report) -> int:
    report.result(check_json(result) if settings.json else check_lines(result))
    return result.exit_code


def status_lines(collection: Collection) -> Iterator[str]:
    """The chains as a person reads them."""
    newest = collection.newest_chain
    last_full = max((chain.start for chain in collection.chains), default=None)
    yield f"Last full backup: {format_local_time(last_full) if last_full is not None else 'none'}"
    for chain in collection.chains:
        yield ""
        yield from _chain_lines(chain, "newest chain" if chain is newest else "chain")
    yield ""
    yield from collection.warnings() or ["No unfinished or orphaned backup sets found."]


def _chain_lines(chain: Chain, what: str) -> Iterator[str]:
    increments = len(chain.sets) - 1
    volumes = sum(len(each.volumes) for each in chain.sets)
    yield f"{what}: a full backup and {increments} incremental{'' if increments == 1 else 's'}, {volumes} volume{'' if volumes == 1 else 's'}"
    yield f"  {'type':<12} {'time':<25} {'volumes':>7} {'size':>12}"
    for each in chain.sets:
        yield _set_line(each)
    for defect in chain.defects:
        yield f"  {defect}"


def _set_line(each: BackupSet) -> str:
    kind = "full" if each.is_full else "incremental"
    encrypted = "  encrypted" if each.encrypted else ""
    return f"  {kind:<12} {format_local_time(each.end):<25} {len(each.volumes):>7} {each.size:>12,}{encrypted}"


ROUTES: dict[str, Route] = {
    "full": Route(_bind_backup, _show_backup),
    "incremental": Route(_bind_backup, _show_backup),
    "backup": Route(_bind_backup, _show_backup),
    "restore": Route(_bind_restore, _show_restore),
    "verify": Route(_bind_verify, _show_verify),
    "collection-status": Route(_bind_status, _show_status),
    "list-current-files": Route(_bind_files, _show_nothing),
    "check": Route(_bind_check, _show_check),
    "cleanup": Route(_bind_cleanup, _show_cleanup),
    "remove-older-than": Route(_bind_older_than, _show_removal),
    "remove-all-but-n-full": Route(_bind_count(remove_all_but_n_full), _show_removal),
    "remove-all-inc-of-but-n-full": Route(_bind_count(remove_all_inc_of_but_n_full), _show_removal),
    "unlock": Route(_bind_unlock, _show_unlock),
}
