"""Profiles: a TOML file with a source, a target, options, retention and hooks -> the words of a command line. Reads the file, does nothing."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from asyncdup import units
from asyncdup.cli.options import COMMANDS, MAKING, OPTIONS
from asyncdup.cli.parser import is_url, parse
from asyncdup.errors import UsageError

HOOKS = ("before", "after", "failure")
RETENTION = ("keep-daily", "keep-weekly", "keep-monthly", "keep-yearly")
HOOK_TIMEOUT = 3600.0  # seconds; a dump of a database takes long, one that hangs must not keep every later run from starting
_KEYS = ("source", "target", "passphrase-file", "rules", "options", "retention", "hooks", "environment")
_OPTIONS = {option.name: option for option in OPTIONS if option.action not in ("refuse", "help", "version", "accept")}
_RULES = {option.name: option for option in OPTIONS if option.field == "selection"}
_SELECTING = (*MAKING, "verify")  # for the others, rules of a backup would mean other paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the file says, looked at. ``rules``, ``options``, ``retention`` are words of a command line; hooks are commands as words."""

    name: str
    source: str
    target: str = field(repr=False)  # may hold a password (P15)
    passphrase_file: Path | None = None
    rules: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    retention: tuple[str, ...] = ()
    hooks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hook_timeout: float = HOOK_TIMEOUT
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def words(self, command: str, arguments: Sequence[str]) -> list[str]:
        """The command line for ``command``, with what was said after it."""
        known = {each: row for row in COMMANDS for each in (row.name, *row.aliases)}
        if command not in known:
            near = difflib.get_close_matches(command, known, 1)
            raise UsageError(f"{command!r} is no command", hint=f"did you mean {near[0]}?" if near else "asyncdup help lists commands")
        row = known[command]
        rules = self.rules if row.name in _SELECTING else ()
        said = list(arguments)
        given = []
        for name in row.arguments:
            if name == "url" or (name == "path" and row.name in _SELECTING):
                given.append(self.target if name == "url" else self.source)
            elif said and not said[0].startswith("-"):
                given.append(said.pop(0))
            else:
                raise UsageError(f"{row.name} wants {name.upper()}", hint=f"asyncdup run {self.name} {row.name} {name.upper()}")
        return [row.name, *given, *self.options, *rules, *said]


def place_of(name: str, environ: Mapping[str, str]) -> Path:
    """The file of a profile: a path as it is, a mere name below the configuration folder."""
    if "/" in name or name.endswith(".toml"):
        return Path(name).expanduser()
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base, "asyncdup", f"{name}.toml")


def read_profile(name: str, environ: Mapping[str, str]) -> Profile:
    """Raises UsageError, naming file and line or key: no such file, no TOML, something in it that is unknown or wrong, a file that others read."""
    path = place_of(name, environ)
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(1 << 20)
    except OSError as error:
        raise UsageError(f"the profile {path} cannot be read: {error.strerror}", hint=f"asyncdup init {name} makes one") from error
    profile = parse_profile(data, name=name, where=str(path))
    if mode & 0o077 and (profile.environment or "@" in profile.target.partition("://")[2].partition("/")[0].partition(":")[2]):
        raise UsageError(f"{path} may hold secrets, and others than you can read it", hint=f"chmod 600 {path}")
    return profile


def parse_profile(data: bytes, *, name: str, where: str) -> Profile:
    """The text of a profile. Raises UsageError."""
    try:
        text = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is no TOML: {error}", hint="asyncdup help run shows a profile") from error
    reading = _Reading(where, text)
    reading.only(text, _KEYS, "")
    source = os.path.expanduser(reading.text("source"))
    target = reading.text("target")
    if not os.path.isabs(source):
        reading.fail("source", f"wants an absolute path, not {source!r}")
    if not is_url(target):
        reading.fail("target", "wants a URL: scheme://place")
    hooks = reading.table("hooks", (*HOOKS, "timeout"))
    profile = Profile(
        name=name,
        source=source,
        target=target,
        passphrase_file=Path(os.path.expanduser(reading.text("passphrase-file"))) if "passphrase-file" in text else None,
        rules=reading.rules(),
        options=reading.options(),
        retention=tuple(f"--{key}={value}" for key, value in reading.table("retention", RETENTION).items()),
        hooks={key: reading.command(f"hooks.{key}", value) for key, value in hooks.items() if key in HOOKS},
        hook_timeout=reading.duration("hooks.timeout", hooks["timeout"]) if "timeout" in hooks else HOOK_TIMEOUT,
        environment={key: reading.word(f"environment.{key}", value) for key, value in reading.table("environment").items()},
    )
    reading.try_out(["backup", source, target, *profile.options, *profile.rules], "[options] or rules")
    reading.try_out(["prune", target, *profile.retention], "[retention]")
    return profile


class _Reading:
    """Looks at one file's values; every error names the file and the key."""

    def __init__(self, where: str, text: dict[str, Any]) -> None:
        self.where = where
        self.all = text

    def fail(self, key: str, wanted: str, hint: str | None = None) -> NoReturn:
        raise UsageError(f"{self.where}: {key} {wanted}", hint=hint)

    def only(self, table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known there: {', '.join(known)}"
                self.fail(f"{place}{key}", "is unknown", hint)

    def word(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or "\0" in value:
            self.fail(key, "wants a text in quotes")
        return str(value)

    def text(self, key: str) -> str:
        if not self.all.get(key):
            self.fail(key, "is missing or empty")
        return self.word(key, self.all[key])

    def table(self, key: str, known: Sequence[str] | None = None) -> dict[str, Any]:
        table = self.all.get(key, {})
        if not isinstance(table, dict):
            self.fail(key, f"wants a table: [{key}]")
        if known is not None:
            self.only(table, known, f"{key}.")
        return dict(table)

    def command(self, key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(each, str) and each and "\0" not in each for each in value):
            self.fail(key, 'wants a command as a list of words, as no shell reads it: ["systemctl", "stop", "db"]')
        return tuple(value)

    def duration(self, key: str, value: Any) -> float:
        try:
            seconds = units.parse_duration(str(value))
        except (ValueError, UsageError):
            seconds = 0.0
        if not seconds:
            self.fail(key, f"wants seconds above zero, or 10m, not {value!r}")
        return seconds

    def rules(self) -> tuple[str, ...]:
        listed = self.all.get("rules", [])
        if not isinstance(listed, list):
            self.fail("rules", 'wants a list: ["exclude **/.cache", "include /home/me/docs"]')
        words = []
        for number, rule in enumerate(listed, 1):
            kind, _, value = self.word(f"rules, number {number},", rule).partition(" ")
            if kind not in _RULES or bool(_RULES[kind].metavar) is not bool(value.strip()):
                known = ", ".join(_RULES)
                self.fail(f"rules, number {number},", f"wants a kind of rule and what it is about, not {rule!r}", f"kinds: {known}")
            words.append(f"--{kind}={value.strip()}" if value.strip() else f"--{kind}")
        return tuple(words)

    def options(self) -> tuple[str, ...]:
        table = self.table("options")
        self.only(table, [name for name in _OPTIONS if name not in _RULES], "options.")
        words: list[str] = []
        for key, value in table.items():
            words += [self._option(key, each) for each in (value if isinstance(value, list) else [value])]
        return tuple(words)

    def _option(self, key: str, value: Any) -> str:
        if not _OPTIONS[key].metavar:
            if value is not True:
                self.fail(f"options.{key}", "is a switch: true, or leave it out")
            return f"--{key}"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            self.fail(f"options.{key}", f"wants a value: {_OPTIONS[key].metavar}")
        return f"--{key}={value}"

    def try_out(self, words: Sequence[str], place: str) -> None:
        """Values are looked at by the parser of the command line."""
        try:
            parse(words)
        except UsageError as error:
            raise UsageError(f"{self.where}: {place}: {error}", hint=error.hint) from None
