"""All commands by name: those of ``dispatch``, and those that no duplicity has."""

from __future__ import annotations

import sys
from functools import partial

from asyncdup.archive.versions import Difference
from asyncdup.cli import dispatch
from asyncdup.cli.dispatch import Coroutine, Route, options_of
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import OutputClosed, Report
from asyncdup.cli.report_files import (
    diff_json,
    diff_line,
    difference_json,
    difference_line,
    find_json,
    find_lines,
    history_json,
    history_lines,
)
from asyncdup.cli.settings import Settings
from asyncdup.cli.upkeep import prune_lines
from asyncdup.commands.cat import CatResult, cat
from asyncdup.commands.diff import DiffResult, diff
from asyncdup.commands.find import FoundPath, find
from asyncdup.commands.history import HistoryResult, history
from asyncdup.commands.options import Options
from asyncdup.commands.remove import PruneResult, prune
from asyncdup.errors import AsyncdupError, UsageError
from asyncdup.units import parse_time


def _moment(text: str | None, options: Options) -> int | None:
    return None if text is None else parse_time(text, int(options.now()))


def _bind_cat(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    if settings.log_json == "-":
        raise UsageError("cat writes the file to standard output, where --log-json=- writes, too", hint="name a file: --log-json=FILE")
    options = options_of(settings, secrets)
    return partial(cat, settings.url, settings.path, options, time=_moment(settings.restore_time, options), write=_write_out)


def _write_out(data: bytes) -> None:
    """Bytes as they are. Raises OutputClosed if nobody reads them, AsyncdupError if there is no room for them."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error
    except OSError as error:
        raise AsyncdupError(f"standard output takes no more: {error.strerror}", hint="the file is not whole; do not use it") from error


def _show_cat(result: CatResult, settings: Settings, report: Report) -> int:
    return 0


def _bind_history(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(history, settings.url, settings.path, options_of(settings, secrets))


def _show_history(result: HistoryResult, settings: Settings, report: Report) -> int:
    report.result(history_json(result) if settings.json else history_lines(result))
    return 0


def _bind_find(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    return partial(find, settings.url, settings.pattern, options, time=_moment(settings.restore_time, options))


def _show_find(result: list[FoundPath], settings: Settings, report: Report) -> int:
    if settings.json:
        report.result(find_json(result))
    else:
        report.result(find_lines(result, one_time=settings.restore_time is not None))
    return 0 if result else 1


def _bind_diff(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    start, end = _moment(settings.diff_from, options), _moment(settings.diff_to or settings.restore_time, options)
    line = difference_json if settings.json else difference_line

    def show(found: list[Difference]) -> None:
        report.result(map(line, found))

    return partial(diff, settings.url, options, start=start, end=end, on_differences=show)


def _show_diff(result: DiffResult, settings: Settings, report: Report) -> int:
    report.result(diff_json(result) if settings.json else diff_line(result))
    return 0


def _bind_prune(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(
        prune,
        settings.url,
        options_of(settings, secrets),
        daily=settings.keep_daily,
        weekly=settings.keep_weekly,
        monthly=settings.keep_monthly,
        yearly=settings.keep_yearly,
    )


def _show_prune(result: PruneResult, settings: Settings, report: Report) -> int:
    if not result.done:
        report.result(prune_lines(result))
        return 0
    for line in prune_lines(result):  # done, as cron would: said unless --verbosity is below notice
        report.line(line)
    return 0


ROUTES: dict[str, Route] = dispatch.ROUTES | {
    "cat": Route(_bind_cat, _show_cat),
    "history": Route(_bind_history, _show_history),
    "find": Route(_bind_find, _show_find),
    "diff": Route(_bind_diff, _show_diff),
    "prune": Route(_bind_prune, _show_prune),
}
