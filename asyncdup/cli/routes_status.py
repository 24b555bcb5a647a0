"""``collection-status``: apart from the other commands, so that it starts fast."""

from __future__ import annotations

import os
from functools import partial

from asyncdup.archive.chains import Collection
from asyncdup.cli.changes import changes_json, file_lines, set_lines
from asyncdup.cli.dispatch import Coroutine, Route, options_of
from asyncdup.cli.machine_log import STATUS
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import Report
from asyncdup.cli.report_status import changes_json_lines, status_json, status_lines
from asyncdup.cli.settings import Settings
from asyncdup.commands.changes import SetChanges, changes
from asyncdup.commands.collection import collection_status


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
    if isinstance(result, Collection):
        if settings.json:
            report.result(status_json(result))
        else:
            report.result(status_lines(result), code=STATUS, extra="\n" + "\n".join(result.status_lines()))
        return 0
    path = settings.file_changed or ""
    if settings.json:
        report.result(changes_json_lines(result, None if settings.show_changes_in_set is not None else os.fsencode(path).strip(b"/")))
    elif settings.show_changes_in_set is None:
        report.result(file_lines(path, result), code=STATUS)
    elif settings.jsonstat:
        report.result(changes_json(result).splitlines(), code=STATUS)
    else:
        report.result(set_lines(result[0]), code=STATUS)
    return 0


ROUTES: dict[str, Route] = {"collection-status": Route(_bind_status, _show_status)}
