"""``full``, ``incremental``, ``backup``, ``restore`` and ``verify``: what moves data."""

from __future__ import annotations

from functools import partial
from typing import cast

from asyncdup.archive.compare import Mismatch
from asyncdup.archive.schedule import Action
from asyncdup.cli.dispatch import Coroutine, Route, moment_of, options_of
from asyncdup.cli.json_output import item_line, path_named, record_line
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import Report
from asyncdup.cli.report_sets import id_json
from asyncdup.cli.settings import Settings
from asyncdup.commands.backup import BackupResult, backup
from asyncdup.commands.restore import RestoreResult, restore
from asyncdup.commands.verify import VerifyResult, verify
from asyncdup.errors import UsageError
from asyncdup.units import counted, format_duration, format_size


def _bind_backup(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(backup, settings.path, settings.url, options_of(settings, secrets), action=cast(Action, settings.command))


def _show_backup(result: BackupResult, settings: Settings, report: Report) -> int:
    if result.jsonstat:
        report.result(result.jsonstat.splitlines())
    if settings.print_statistics:
        report.statistics(result.statistics)
    unkept = unkept_line(result)
    if unkept:
        report.line(unkept)
    return 0


def unkept_line(result: BackupResult) -> str:
    """What the format could not take along, so that nobody learns it from a restore; "" if there was nothing."""
    found = []
    if result.hard_links:
        found.append(f"hard links ({counted(result.hard_links, 'file')}, each of which becomes a file of its own)")
    if result.attributes:
        found.append(f"extended attributes or ACLs ({result.attributes:,} of {counted(result.looked_at, 'file')} looked at)")
    return f"duplicity's format has no place for {' and '.join(found)}" if found else ""


def _bind_restore(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    moment = moment_of(settings.restore_time, options.now)
    return partial(restore, settings.url, settings.path, options, time=moment, path=settings.path_to_restore)


def _show_restore(result: RestoreResult, settings: Settings, report: Report) -> int:
    if result.dry_run:
        report.result(result.volumes)
    else:
        restored = f"{result.entries:,} {'file or folder' if result.entries == 1 else 'files and folders'}, {format_size(result.size)}"
        report.line(f"restored: {restored} in {format_duration(result.seconds)}")
    return 0


def _bind_verify(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    moment = moment_of(settings.restore_time, options.now)
    if len(settings.path_to_restore) > 1:
        raise UsageError("verify compares one path with PATH", hint="say --path-to-restore once, or use --include and --exclude")
    path = "".join(settings.path_to_restore)

    def show(found: Mismatch) -> None:
        report.result(item_line(path_named(found.path) | {"difference": found.message}) if settings.json else found.line)

    return partial(verify, settings.url, settings.path, options, time=moment, path=path, on_difference=show)


def _show_verify(result: VerifyResult, settings: Settings, report: Report) -> int:
    if settings.json:
        counts = {"compared": result.compared, "differences": result.differences}
        report.result(record_line("verify", {"backup": id_json(result.set_id)} | counts))
    else:
        report.result(f"Verify complete: {result.compared} file(s) compared, {result.differences} difference(s) found.")
    return 1 if result.differences else 0


ROUTES: dict[str, Route] = {
    "full": Route(_bind_backup, _show_backup),
    "incremental": Route(_bind_backup, _show_backup),
    "backup": Route(_bind_backup, _show_backup),
    "restore": Route(_bind_restore, _show_restore),
    "verify": Route(_bind_verify, _show_verify),
}
