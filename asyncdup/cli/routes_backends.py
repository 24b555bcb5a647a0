"""``backends`` and ``check-backend``: apart from the other commands, since no backup needs the conformance suite that they import."""

from __future__ import annotations

import os
from functools import partial

from asyncdup.cli.dispatch import Coroutine, Route, options_of
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import INFO, Report
from asyncdup.cli.report_backends import BROKEN, backends_json, backends_lines, check_backend_json, check_backend_lines
from asyncdup.cli.settings import Settings
from asyncdup.commands.backends import BackendKind, list_backends
from asyncdup.commands.check_backend import BackendReport, check_backend


def _bind_backends(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    async def found(**_: object) -> list[BackendKind]:
        return list_backends(os.environ)

    return found


def _show_backends(result: list[BackendKind], settings: Settings, report: Report) -> int:
    report.result(backends_json(result) if settings.json else backends_lines(result))
    return 0


def _bind_check_backend(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    def say(name: str, outcome: str) -> None:
        report.line(f"{name}: {outcome}", INFO)

    return partial(check_backend, settings.url, options_of(settings, secrets), speed_only=settings.speed, on_check=say)


def _show_check_backend(result: BackendReport, settings: Settings, report: Report) -> int:
    report.result(check_backend_json(result) if settings.json else check_backend_lines(result))
    return BROKEN if result.broken else 0


ROUTES = {
    "backends": Route(_bind_backends, _show_backends),
    "check-backend": Route(_bind_check_backend, _show_check_backend),
}
