"""``mount``: backups as folders."""

from __future__ import annotations

from functools import partial

from asyncdup.cli.dispatch import Coroutine, Route, options_of
from asyncdup.cli.passphrases import Secrets
from asyncdup.cli.report import Report
from asyncdup.cli.settings import Settings
from asyncdup.commands.mount import mount


def _bind_mount(settings: Settings, secrets: Secrets, report: Report) -> Coroutine:
    return partial(mount, settings.url, settings.path, options_of(settings, secrets))


def _show_mount(result: None, settings: Settings, report: Report) -> int:
    return 0


ROUTES: dict[str, Route] = {"mount": Route(_bind_mount, _show_mount)}
