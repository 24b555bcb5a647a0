"""``check``, ``unlock`` and the commands that remove: what keeps a collection whole and small."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from asyncdup.cli.dispatch import Coroutine, Route, options_of
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import Report
from asyncdup.cli.settings import Settings
from asyncdup.cli.upkeep import check_lines, cleanup_lines, prune_lines, removal_lines, unlock_lines
from asyncdup.cli.upkeep_json import check_json, cleanup_json, prune_json, removal_json, unlock_json
from asyncdup.commands.check import CheckResult, check
from asyncdup.commands.cleanup import CleanupResult, cleanup
from asyncdup.commands.remove import (
    PruneResult,
    RemoveResult,
    prune,
    remove_all_but_n_full,
    remove_all_inc_of_but_n_full,
    remove_older_than,
)
from asyncdup.commands.unlock import UnlockResult, unlock
from asyncdup.errors import UsageError
from asyncdup.units import parse_time


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
    report.result(removal_json(settings.command, result) if settings.json else removal_lines(result))
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
    if settings.json:
        report.result(prune_json(result))
    elif not result.done:
        report.result(prune_lines(result))
    else:
        for line in prune_lines(result):  # done, as cron would: said unless --verbosity is below notice
            report.line(line)
    return 0


def _bind_cleanup(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(cleanup, settings.url, options_of(settings, secrets))


def _show_cleanup(result: CleanupResult, settings: Settings, report: Report) -> int:
    report.result(cleanup_json(result) if settings.json else cleanup_lines(result))
    return 0


def _bind_unlock(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(unlock, settings.url, options_of(settings, secrets))


def _show_unlock(result: UnlockResult, settings: Settings, report: Report) -> int:
    report.result(unlock_json(result) if settings.json else unlock_lines(result))
    return 0


def _bind_check(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    options = options_of(settings, secrets)
    return partial(check, settings.url, options, read_data=settings.read_data, sample=settings.sample, repair=settings.repair)


def _show_check(result: CheckResult, settings: Settings, report: Report) -> int:
    report.result(check_json(result) if settings.json else check_lines(result))
    return result.exit_code


ROUTES: dict[str, Route] = {
    "check": Route(_bind_check, _show_check),
    "cleanup": Route(_bind_cleanup, _show_cleanup),
    "remove-older-than": Route(_bind_older_than, _show_removal),
    "remove-all-but-n-full": Route(_bind_count(remove_all_but_n_full), _show_removal),
    "remove-all-inc-of-but-n-full": Route(_bind_count(remove_all_inc_of_but_n_full), _show_removal),
    "prune": Route(_bind_prune, _show_prune),
    "unlock": Route(_bind_unlock, _show_unlock),
}
