"""``list-current-files``, ``cat``, ``history``, ``find`` and ``diff``: the files that backups hold."""

from __future__ import annotations

import os
import sys
from functools import partial

from asyncdup.archive.versions import Difference
from asyncdup.cli.dispatch import Coroutine, Route, moment_of, options_of
from asyncdup.cli.machine_log import FILE_LIST, escaped
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import OutputClosed, Report, output_refused
from asyncdup.cli.report_files import (
    diff_json,
    diff_line,
    difference_json,
    difference_line,
    file_json,
    file_line,
    files_json,
    find_json_lines,
    find_lines,
    history_json,
    history_lines,
)
from asyncdup.cli.settings import Settings
from asyncdup.commands.cat import CatResult, cat
from asyncdup.commands.diff import DiffResult, diff
from asyncdup.commands.entries import KINDS
from asyncdup.commands.files import list_current_files
from asyncdup.commands.find import FoundPath, find
from asyncdup.commands.history import HistoryResult, history
from asyncdup.errors import UsageError
from asyncdup.formats.names import SetId, format_time
from asyncdup.formats.tar import Entry


def _bind_files(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    line = file_json if settings.json else file_line

    def show(entries: list[Entry]) -> None:
        for entry in entries:
            report.result((line(entry),), code=FILE_LIST, extra=_logged(entry) if report.logs else "")

    moment = moment_of(settings.restore_time, options.now)
    return partial(list_current_files, settings.url, options, time=moment, on_entries=show)


def _logged(entry: Entry) -> str:
    return f"{format_time(entry.mtime)} {escaped(os.fsdecode(entry.path) or '.')} {KINDS.get(entry.kind, '')}"


def _show_files(result: SetId, settings: Settings, report: Report) -> int:
    if settings.json:
        report.result(files_json(result))
    return 0


def _bind_cat(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    if settings.log_json == "-":
        raise UsageError("cat writes the file to standard output, where --log-json=- writes, too", hint="name a file: --log-json=FILE")
    options = options_of(settings, secrets)
    return partial(cat, settings.url, settings.path, options, time=moment_of(settings.restore_time, options.now), write=_write_out)


def _write_out(data: bytes) -> None:
    """Bytes as they are. Raises OutputClosed if nobody reads them, AsyncdupError if there is no room for them."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error
    except OSError as error:
        raise output_refused(error, "the file is not whole; do not use it") from error


def _show_cat(result: CatResult, settings: Settings, report: Report) -> int:
    return 0


def _bind_history(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(history, settings.url, settings.path, options_of(settings, secrets))


def _show_history(result: HistoryResult, settings: Settings, report: Report) -> int:
    report.result(history_json(result) if settings.json else history_lines(result))
    return 0


def _bind_find(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    return partial(find, settings.url, settings.pattern, options, time=moment_of(settings.restore_time, options.now))


def _show_find(result: list[FoundPath], settings: Settings, report: Report) -> int:
    if settings.json:
        report.result(find_json_lines(result))
    else:
        report.result(find_lines(result, one_time=settings.restore_time is not None))
    return 0 if result else 1


def _bind_diff(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    start, end = moment_of(settings.diff_from, options.now), moment_of(settings.diff_to or settings.restore_time, options.now)
    line = difference_json if settings.json else difference_line

    def show(found: list[Difference]) -> None:
        report.result(map(line, found))

    return partial(diff, settings.url, options, start=start, end=end, on_differences=show)


def _show_diff(result: DiffResult, settings: Settings, report: Report) -> int:
    report.result(diff_json(result) if settings.json else diff_line(result))
    return 0


ROUTES: dict[str, Route] = {
    "list-current-files": Route(_bind_files, _show_files),
    "cat": Route(_bind_cat, _show_cat),
    "history": Route(_bind_history, _show_history),
    "find": Route(_bind_find, _show_find),
    "diff": Route(_bind_diff, _show_diff),
}
