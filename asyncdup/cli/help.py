"""The text of ``asyncdup help [TOPIC]``, made from the tables in ``options`` and ``help_topics``. Pure."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Sequence

from asyncdup.cli.help_topics import TOPICS
from asyncdup.cli.options import ALL, COMMANDS, OPTIONS, Command, Option
from asyncdup.errors import UsageError

_WIDTH = 80
_COLUMN = 30  # where the explanations begin
_MORE = "asyncdup help COMMAND: the options of a command; help options: all of them; help s3"

# What is not in the table, since other options apply to it.
APART = (
    ("job", "ORDER", "ask or tell a run that is under way: pause, resume, ..."),
    ("run", "PROFILE [COMMAND]", "back up, or do COMMAND, as a profile says"),
    ("init", "PROFILE", "write a profile; asks on a terminal what is not said"),
    ("completion", "SHELL", "print the completion for bash, zsh or fish"),
    ("manual", "", "print the manual page: asyncdup manual | man -l -"),
    ("help", "[TOPIC]", "this text, or more of it"),
)
_PARTS = (
    ("make backups", ("backup", "full", "incremental")),
    ("bring them back", ("restore", "verify", "cat", "mount")),
    (
        "look at them",
        ("collection-status", "list-current-files", "history", "find", "diff", "check"),
    ),
    (
        "tidy up",
        ("prune", "remove-older-than", "remove-all-but-n-full", "remove-all-inc-of-but-n-full", "cleanup", "unlock"),
    ),
)
_OTHER = "and"

# What most command lines need; the rest is one word away.
_COMMON = (
    "include",
    "exclude",
    "full-if-older-than",
    "dry-run",
    "restore-time",
    "path-to-restore",
    "force",
    "no-encryption",
    "encrypt-key",
    "sign-key",
    "volsize",
    "concurrency",
    "upload-limit",
    "retry-failure-mode",
    "retry-failure-flag",
    "verbosity",
    "progress",
    "json",
    "help",
    "version",
)
_SYNONYMS = {"selection": "patterns", "exit": "exit-codes", "codes": "exit-codes", "time": "times", "url": "urls"}


def help_text(topic: str = "") -> str:
    """The help on a command, on a topic, or in general.

    Raises:
        UsageError: there is no such topic.
    """
    if not topic:
        return _text(_general())
    for command in COMMANDS:
        if command.served and topic in (command.name, *command.aliases):
            return _text(_about(command))
    topic = _SYNONYMS.get(topic, topic)
    if topic == "options":
        return _text(["all options", *option_lines([option for option in OPTIONS if option.help])])
    if topic in TOPICS:
        return _text([topic, *_topic(TOPICS[topic])])
    of_one = [option for option in OPTIONS if option.help and option.name.startswith(f"{topic}-")]
    if of_one:  # s3, ssl, gpg, retry, file-prefix
        return _text([f"options --{topic}-...", *option_lines(of_one)])
    names = [*ALL, *TOPICS, "options"]
    near = difflib.get_close_matches(topic, names, 1)
    raise UsageError(f"no help on {topic!r}", hint=f"did you mean {near[0]}?" if near else f"topics: {', '.join(names)}")


def command_parts() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """All commands in groups: title, and of each its name, its arguments, and what it does."""
    left = {command.name: command for command in COMMANDS if command.served}
    for title, names in _PARTS:
        yield title, [_entry(left.pop(name)) for name in names if name in left]
    yield _OTHER, [*map(_entry, left.values()), *APART]


def option_lines(options: Sequence[Option]) -> list[str]:
    """Options under the titles of their groups."""
    lines: list[str] = []
    group = ""
    for option in options:
        if option.group != group:
            group = option.group
            lines += ["", group]
        lines += _row(spelled(option), option.help)
    return lines


def spelled(option: Option) -> str:
    """``-t, --restore-time TIME``."""
    names = [alias for alias in option.aliases if alias.startswith("-")] + [f"--{option.name}"]
    return f"{', '.join(names)}{' ' if option.metavar else ''}{option.metavar}"


def _general() -> Iterator[str]:
    yield from ("usage: asyncdup COMMAND [options] ...", "       asyncdup PATH URL     back up", "       asyncdup URL PATH     restore")
    for title, entries in command_parts():
        yield from ("", title)
        for name, arguments, what in entries:
            yield from _row(f"{name} {arguments}".rstrip(), what)
    yield from ("", "options most often used")
    for option in OPTIONS:
        if option.name in _COMMON:
            yield from _row(spelled(option), option.help)
    yield ""
    yield from textwrap.wrap(f"{_MORE}, gpg, retry: some. Topics: {', '.join(TOPICS)}.", _WIDTH, break_on_hyphens=False)


def _about(command: Command) -> Iterator[str]:
    yield f"usage: asyncdup {command.name} [options] {_arguments(command)}".rstrip()
    yield ""
    yield from textwrap.wrap(f"{command.help}.", _WIDTH, break_on_hyphens=False)
    if command.aliases:
        yield f"also written: {', '.join(command.aliases)}"
    yield from option_lines([option for option in OPTIONS if option.help and command.name in option.commands])


def _topic(text: str) -> Iterator[str]:
    """Prose filled to the width, tables as they are."""
    prose: list[str] = []
    for line in [*textwrap.dedent(text).strip().splitlines(), "  "]:
        if "  " not in line:
            prose.append(line)
            continue
        yield from textwrap.wrap(" ".join(prose), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        prose = []
        if line.strip():
            yield f"  {line}"


def _entry(command: Command) -> tuple[str, str, str]:
    return command.name, _arguments(command), command.help


def _arguments(command: Command) -> str:
    return " ".join(name.upper() for name in command.arguments)


def _row(left: str, right: str) -> list[str]:
    first = f"  {left}".ljust(_COLUMN)
    indent = " " * _COLUMN
    rest = textwrap.wrap(right, _WIDTH - _COLUMN, break_on_hyphens=False)
    if not first.endswith("  "):
        return [first.rstrip(), *(indent + line for line in rest)]
    return [first + rest[0], *(indent + line for line in rest[1:])]


def _text(lines: Iterator[str] | Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
