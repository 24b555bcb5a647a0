"""What stock's ``--ssh-options`` and the user's configuration file say, as far as it must be known before ssh itself is loaded."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asyncdup.errors import UsageError

HostKeys = Literal["yes", "accept-new", "no"]

# Of the ssh program's flags (ssh(1), sftp(1)): those that say the same as a keyword of ssh_config(5) ...
_FLAGS_WITH_VALUE = {
    "-b": "BindAddress",
    "-c": "Ciphers",
    "-i": "IdentityFile",
    "-J": "ProxyJump",
    "-l": "User",
    "-m": "MACs",
    "-p": "Port",
    "-P": "Port",
}
_FLAGS = {"-4": ("AddressFamily", "inet"), "-6": ("AddressFamily", "inet6")}
# ... and those that change nothing that this program does (-C: volumes are compressed already; -A: no agent is ever forwarded).
_IGNORED_FLAGS = frozenset({"-A", "-a", "-C", "-k", "-N", "-q", "-T", "-v", "-vv", "-vvv", "-x"})

# Keywords by which a connection may go to another address, from another one, or through something (ssh_config(5)), wherever they stand.
_ELSEWHERE = re.compile(rb"^[^\w#]*(address|bind|canonical|hostname|include|match|port|proxy)", re.IGNORECASE | re.MULTILINE)
_LARGEST_FILE = 1 << 20  # bytes that are looked at


@dataclass(frozen=True, slots=True)
class SshOptions:
    """What ``--ssh-options`` says.

    Attributes:
        settings: keyword and value of ssh_config(5), in order; the first of a keyword counts, but all of ``IdentityFile``.
        config_file: instead of ``~/.ssh/config`` (``-F``; ``none`` for no file at all: an empty path).
        host_keys: ``StrictHostKeyChecking``. ``ask`` is ``yes``: nobody is ever asked (P14).
    """

    settings: tuple[tuple[str, str], ...] = ()
    config_file: Path | None = None
    host_keys: HostKeys = "yes"

    @property
    def own_file(self) -> Path | None:
        """The file to read, if there is one: the usual one need not be there, one that was named must, by whoever reads it."""
        if self.config_file is None:
            usual = Path("~/.ssh/config").expanduser()
            return usual if usual.is_file() else None
        return None if self.config_file == Path() else self.config_file

    def may_lead_elsewhere(self) -> bool:
        """Whether the place to connect to may be another one than the URL's, or the way there. True if that cannot be seen."""
        words = "".join(f"{key}\n" for key, _ in self.settings).encode()
        try:
            file = self.own_file
            if file is not None:
                with file.open("rb") as stream:
                    words += stream.read(_LARGEST_FILE + 1)
        except OSError:
            return True
        return len(words) > _LARGEST_FILE or _ELSEWHERE.search(words) is not None


def parse_ssh_options(given: Iterable[str]) -> SshOptions:
    """Read the values of ``--ssh-options``, each split into words as a shell would.

    ``-oKey=value``, ``-o Key=value``, ``-o 'Key value'``, ``-i FILE``, ``-p PORT`` and the like. Keywords that asyncssh does not know are
    ignored, as ``ssh`` ignores ``IgnoreUnknown`` ones.

    Raises:
        UsageError: a flag that means nothing here, or one without its value.
    """
    settings: list[tuple[str, str]] = []
    config_file: Path | None = None
    for flag, value in _flags(given):
        if flag == "-F":
            config_file = Path("" if value == "none" else value)
        else:
            settings.append((flag, value))
    checking = [value for key, value in settings if key.lower() == "stricthostkeychecking"]
    return SshOptions(
        settings=tuple(setting for setting in settings if setting[0].lower() != "stricthostkeychecking"),
        config_file=config_file,
        host_keys=_host_keys(checking[0]) if checking else "yes",
    )


def _flags(given: Iterable[str]) -> Iterator[tuple[str, str]]:
    words = iter([word for text in given for word in _split(text)])
    for word in words:
        flag, value = word[:2], word[2:]
        if word in _IGNORED_FLAGS:
            continue
        if word in _FLAGS:
            yield _FLAGS[word]
        elif flag in ("-o", "-F") or flag in _FLAGS_WITH_VALUE:
            value = value or next(words, "")
            if not value or "\n" in value:
                raise UsageError(f"--ssh-options: {flag} needs a value")
            yield _keyword(value) if flag == "-o" else (_FLAGS_WITH_VALUE.get(flag, flag), value)
        else:
            raise UsageError(f"--ssh-options: {word!r} means nothing here", hint="write what ssh_config(5) knows as -oKey=value")


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--ssh-options: {error}") from error


def _keyword(text: str) -> tuple[str, str]:
    cut = min((at for at in (text.find("="), text.find(" ")) if at > 0), default=-1)
    key, value = text[:cut].strip(), text[cut + 1 :].strip().removeprefix("=").strip()
    if cut < 0 or not key.isalnum() or not value:
        raise UsageError(f"--ssh-options: -o{text} is not -oKey=value")
    if key.lower() in ("host", "match", "include"):
        raise UsageError(f"--ssh-options: {key} belongs in a file; name it with -F FILE")
    return key, value


def _host_keys(value: str) -> HostKeys:
    match value.lower():
        case "yes" | "ask":
            return "yes"
        case "accept-new":
            return "accept-new"
        case "no" | "off":
            return "no"
    raise UsageError(f"--ssh-options: StrictHostKeyChecking={value} is none of yes, accept-new, no")
