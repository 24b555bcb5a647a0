"""The secrets of a run: from the environment, else from the person at the terminal. They appear in no repr, message or argument list (P15)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from asyncdup.cli.options import MAKING, READING
from asyncdup.cli.settings import Settings
from asyncdup.errors import UsageError

_TRIES = 3
_LISTING = ("list-current-files", "cat", "mount", "history", "find", "diff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Passphrases and the login's password; None = not known, which is right where gpg's agent or a key file serves."""

    passphrase: str | None = field(default=None, repr=False)
    sign_passphrase: str | None = field(default=None, repr=False)
    backend_password: str | None = field(default=None, repr=False)


def find_secrets(settings: Settings, environ: Mapping[str, str], ask: Callable[[str], str] | None) -> Secrets:
    """What the command of ``settings`` needs. ``ask``: prompts a person without echo; None where there is no terminal.

    Raises:
        UsageError: a passphrase is needed and there is nobody to ask, or it was not typed the same way twice.
    """
    password = environ.get("BACKEND_PASSWORD")
    if not settings.encryption:
        return Secrets(backend_password=password)
    passphrase = environ.get("PASSPHRASE")
    if passphrase is None and not settings.use_agent and not _has_key(settings):
        passphrase = _passphrase(settings.command, ask)
    if passphrase == "" and settings.command in MAKING and not _has_key(settings):
        raise UsageError("the passphrase is empty", hint="set PASSPHRASE, or say --no-encryption")
    return Secrets(passphrase=passphrase, sign_passphrase=_sign_passphrase(settings, environ, ask), backend_password=password)


def _has_key(settings: Settings) -> bool:
    return bool(settings.encrypt_keys or settings.hidden_encrypt_keys)


def _passphrase(command: str, ask: Callable[[str], str] | None) -> str | None:
    if command in MAKING:
        return _new_passphrase(_person(ask))
    if command in READING:
        return _person(ask)("passphrase of the backups: ")
    if command in _LISTING and ask is not None:  # needed only where the local copies are gone
        return ask("passphrase of the backups: ")
    return None


def _person(ask: Callable[[str], str] | None) -> Callable[[str], str]:
    if ask is None:
        raise UsageError(
            "encryption is on, and there is neither a passphrase nor a terminal to ask for it",
            hint="set PASSPHRASE in the environment, name a key with --encrypt-key, or say --no-encryption",
        )
    return ask


def _new_passphrase(ask: Callable[[str], str]) -> str:
    """Asked for twice: a slip of the finger would lock the backup for good."""
    for _ in range(_TRIES):
        passphrase = ask("passphrase for the backups: ")
        if passphrase and ask("the same again: ") == passphrase:
            return passphrase
    raise UsageError(f"no passphrase was typed the same way twice in {_TRIES} tries", hint="set PASSPHRASE, or try again")


def _sign_passphrase(settings: Settings, environ: Mapping[str, str], ask: Callable[[str], str] | None) -> str | None:
    """Of the key of --sign-key. An empty answer leaves the key to gpg's agent."""
    if settings.sign_key is None or settings.command not in MAKING:
        return None
    given = environ.get("SIGN_PASSPHRASE")
    if given is None and settings.sign_key in settings.encrypt_keys:
        given = environ.get("PASSPHRASE")  # one key for both has one passphrase (observed: duplicity 3.2.1)
    if given is None and ask is not None and not settings.use_agent:
        given = ask(f"passphrase of the signing key {settings.sign_key}, empty if gpg's agent knows it: ") or None
    return given
