"""Secrets from the keyring of the user's session (``--keyring``), under the names of the environment variables that hold them otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final, Protocol, cast

from asyncdup.backends.urls import redact
from asyncdup.errors import UsageError

SERVICE: Final = "asyncdup"
NAMES: Final = ("PASSPHRASE", "SIGN_PASSPHRASE", "BACKEND_PASSWORD")


class Keyring(Protocol):
    """The one function of the package ``keyring`` that is used."""

    def get_password(self, service_name: str, username: str) -> str | None: ...


def with_keyring(environ: Mapping[str, str], url: str, keyring: Keyring | None = None) -> dict[str, str]:
    """``environ``, and what the keyring has of the names that are not in it.

    What is kept for ``url`` (service ``asyncdup URL``, without its password) comes before what is kept for all (service ``asyncdup``).

    Raises:
        UsageError: the package ``keyring`` is not installed, or it can reach no keyring.
    """
    keyring = keyring or _package()
    found = dict(environ)
    for name in NAMES:
        for service in (f"{SERVICE} {redact(url)}", SERVICE):
            if name not in found and (secret := _ask(keyring, service, name)) is not None:
                found[name] = secret
    return found


def _package() -> Keyring:
    try:
        return cast(Keyring, importlib.import_module("keyring"))
    except ImportError:
        raise UsageError("--keyring needs the package keyring", hint="pip install 'asyncdup[keyring]'") from None


def _ask(keyring: Keyring, service: str, name: str) -> str | None:
    try:
        return keyring.get_password(service, name)
    except Exception as error:
        raise UsageError(
            f"the keyring does not answer: {type(error).__name__}: {error}".rstrip(": "),
            hint="is it unlocked, and is this a session that has one? Without --keyring, PASSPHRASE and BACKEND_PASSWORD are read",
        ) from error
