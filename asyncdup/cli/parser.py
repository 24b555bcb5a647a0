"""Words of a command line -> frozen ``Settings``. Pure: no I/O, no clock, no environment.

A small parser of our own instead of argparse: stock's prefixes must stay what they are in stock while our own options are added, an unknown
option must name its neighbour, and include and exclude options must keep their order among each other.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from asyncdup.cli.options import ALL, COMMANDS, DROPPED, OPTIONS, Command, Option
from asyncdup.cli.settings import Settings
from asyncdup.errors import UsageError
from asyncdup.units import counted

_URL = re.compile(r"[\w+]+://")  # what duplicity takes for a URL (format specification, section 26)
_NUMBER = re.compile(r"-\d+$|-\d*\.\d+$")

_COMMANDS = {word: command for command in COMMANDS for word in (command.name, *command.aliases)}
_OPTIONS = {name: option for option in OPTIONS for name in (option.name, *option.aliases) if name[0] != "-"}
_LETTERS = {alias: option for option in OPTIONS for alias in option.aliases if alias.startswith("-")}


def parse(words: Sequence[str]) -> Settings:
    """Read a command line without the program's name.

    Raises:
        UsageError: wrong use, exit code 23; its hint says what would be right.
    """
    return _Reading(words).settings()


def is_url(word: str) -> bool:
    """Whether ``word`` is a URL, by duplicity's rule; anything else is a local path."""
    return _URL.match(word) is not None


class _Reading:
    """One pass over the words. ``values`` holds what was given, by field of Settings."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = iter(words)
        self.values: dict[str, Any] = {"notices": ()}
        self.positionals: list[str] = []
        self.asked = ""  # "help" or "version": whoever asks for it is served first, whatever else was said
        self.topic = ""

    def settings(self) -> Settings:
        for word in self.words:
            if word == "--":
                self.positionals += self.words
            elif _is_positional(word):
                self.positionals.append(word)
            else:
                self.take(*_resolve(word))
        defaults = {option.field: option.default for option in reversed(OPTIONS) if option.field}
        return _settings(self.arguments(), defaults | self.values)

    def take(self, option: Option, attached: str | None) -> None:
        """One option, with the value that was attached to it by ``=``, if any."""
        if option.action == "refuse":
            raise UsageError(f"--{option.name} is not supported", hint=option.why)
        if not option.metavar:
            if attached is not None:
                raise UsageError(f"--{option.name} takes no value")
            self.keep(option, option.const)
            return
        text = self.next_value(option) if attached is None else attached
        try:
            value = option.convert(text)
            self.keep(option, value if option.action != "pair" else (value, option.convert(self.next_value(option))))
        except ValueError as error:
            raise UsageError(f"--{option.name} wants {error}, not {text!r}") from None
        except UsageError as error:
            raise UsageError(f"--{option.name}: {error}", hint=error.hint) from None

    def next_value(self, option: Option) -> str:
        text = next(self.words, None)
        if text is None or not _is_value(text):
            hint = None if text is None else f"a value that begins with - is written --{option.name}={text}"
            raise UsageError(f"--{option.name} wants a value: {option.metavar}", hint=hint)
        return text

    def keep(self, option: Option, value: Any) -> None:
        values = self.values
        match option.action:
            case "set":
                values[option.field] = value
            case "append" | "pair":
                values[option.field] = (*values.get(option.field, ()), value)
            case "extend":
                values[option.field] = values.get(option.field, ()) + value
            case "select":
                values[option.field] = (*values.get(option.field, ()), (option.name, value if option.metavar else ""))
            case "encrypt-sign":
                values["encrypt_keys"] = (*values.get("encrypt_keys", ()), value)
                values["sign_key"] = value
            case "help" | "version":
                self.asked = self.asked or option.action
                self.topic = value if isinstance(value, str) else self.topic
            case _ if option.why:
                values["notices"] += (option.why,)

    def arguments(self) -> dict[str, Any]:
        """The fields that do not come from options: what to do, and with what."""
        words = self.positionals
        if self.asked or (words[:1] == ["help"] and not any(map(is_url, words))):
            topics = [self.topic] if self.topic else [word for word in words if word != "help"]
            return _none_of("version" if self.asked == "version" else "help") | {"topic": topics[0] if topics else ""}
        if words and words[0] in _COMMANDS:
            return _spoken(_COMMANDS[words[0]], words[0], words[1:])
        return _implied(words)


def _settings(arguments: dict[str, Any], values: dict[str, Any]) -> Settings:
    """Put both together, after a look at what contradicts itself."""
    if arguments["command"] == "restore" and values["path_to_restore"] and values["selection"]:
        raise UsageError(
            "--path-to-restore and include or exclude options exclude each other", hint="say both as --include and --exclude '**'"
        )
    notices = values.pop("notices")
    if arguments["command"] == "verify" and values["rename"]:
        notices += ("--rename has no effect on verify: paths are compared where they were backed up from",)
    if values["retry_failure_mode"] != "intervention":
        notices += tuple(
            f"--{name.replace('_', '-')} has no effect with --retry-failure-mode={values['retry_failure_mode']}"
            for name in ("retry_failure_flag", "intervention_timeout", "on_intervention")
            if values[name]
        )
    if not values["encryption"] and (values["encrypt_keys"] or values["hidden_encrypt_keys"] or values["sign_key"]):
        notices += ("--no-encryption is given: backups are stored in plain, the keys are not used",)
    return Settings(**arguments, **values, notices=notices)


def _none_of(command: str) -> dict[str, Any]:
    return {"command": command, "topic": "", "path": "", "url": "", "implied": False, "time": "", "count": "", "pattern": ""}


def _spoken(command: Command, word: str, words: list[str]) -> dict[str, Any]:
    """A command and its arguments, checked for number and kind."""
    if not command.served:
        raise UsageError(f"{command.name} is not in this version of asyncdup yet", hint="duplicity works on the same archives")
    wanted = " ".join(name.upper() for name in command.arguments)
    if len(words) != len(command.arguments):
        folder = f"; a folder of that name is written ./{word}" if len(words) == 1 and is_url(words[0]) else ""
        raise UsageError(f"{command.name} wants {wanted}, and got {_count(words)}", hint=f"asyncdup {command.name} {wanted}{folder}")
    if "" in words:
        raise UsageError(f"{command.name} wants {wanted}, and one of them is empty")
    for name, text in zip(command.arguments, words, strict=True):
        if is_url(text) != (name == "url"):
            raise UsageError(f"{command.name} wants {wanted}, and {_shown(text)} is no {name}", hint=_turned(command, words))
    return _none_of(command.name) | dict(zip(command.arguments, words, strict=True))


def _implied(words: list[str]) -> dict[str, Any]:
    """No command: ``PATH URL`` is a backup, ``URL PATH`` a restore."""
    if not words:
        raise UsageError("nothing to do", hint="asyncdup backup PATH URL, asyncdup restore URL PATH, or asyncdup help")
    kinds = [is_url(word) for word in words]
    if "" in words:
        raise UsageError("an argument is empty", hint="asyncdup backup PATH URL, asyncdup restore URL PATH, or asyncdup help")
    if kinds == [False, True]:
        return _none_of("backup") | {"path": words[0], "url": words[1], "implied": True}
    if kinds == [True, False]:
        return _none_of("restore") | {"url": words[0], "path": words[1], "implied": True}
    if kinds[0]:
        raise UsageError(
            f"a URL and then {_count(words[1:])} say no command", hint="asyncdup URL PATH restores; asyncdup help lists commands"
        )
    near = difflib.get_close_matches(words[0], ALL, 1)
    hint = f"did you mean {near[0]}?" if near else "asyncdup PATH URL backs up; a URL is written scheme://place"
    raise UsageError(f"{_shown(words[0])} is no command", hint=hint)


def _turned(command: Command, words: list[str]) -> str:
    kinds = {is_url(word) for word in words}
    if len(words) == 2 and kinds == {True, False}:
        return f"the other way round: asyncdup {command.name} {' '.join(name.upper() for name in command.arguments)}"
    return "a URL is written scheme://place, a local one file:///folder"


def _count(words: list[str]) -> str:
    return counted(len(words), "argument")


def _shown(word: str) -> str:
    """``word`` for a message. Of a URL only the scheme: the rest may hold a password (P15)."""
    return f"{word.partition('://')[0]}://..." if is_url(word) else repr(_without_login(word))


def _without_login(word: str) -> str:
    """Whatever stands before an ``@`` may be the login of a URL that was mistyped (P15)."""
    _, at, rest = word.rpartition("@")
    return f"***@{rest}" if at else word


def _is_positional(word: str) -> bool:
    return not word.startswith("-") or word == "-"


def _is_value(word: str) -> bool:
    """Whether ``word`` may follow an option as its value although it begins with a dash: a number, or more than one word (as in argparse)."""
    if _is_positional(word) or _NUMBER.match(word):
        return True
    return " " in word and word != "--" and not any(True for _ in _candidates(word.partition("=")[0].removeprefix("--")))


def _resolve(word: str) -> tuple[Option, str | None]:
    """The option that ``word`` names, and the value attached to it."""
    if not word.startswith("--"):
        letter = _LETTERS.get(word[:2])
        if letter is None:
            raise UsageError(f"unknown option {word[:2]}", hint="asyncdup help lists the options")
        return letter, word[2:].removeprefix("=") if word[2:] else None
    name, equals, value = word[2:].partition("=")
    return _find(name), value if equals else None


def _find(name: str) -> Option:
    """An option by its name or by a prefix. Stock's options come first: what names one of them there names it here, whatever we add."""
    if name in _OPTIONS:
        return _OPTIONS[name]
    if name in DROPPED:
        raise UsageError(f"--{name} was dropped in duplicity 2.0", hint=DROPPED[name])
    names = list(_candidates(name))
    if len(names) == 1:
        return _OPTIONS[names[0]]
    if names:
        raise UsageError(f"--{name} is ambiguous", hint=f"it could be {', '.join(f'--{each}' for each in sorted(names))}")
    near = difflib.get_close_matches(name, [each for each, option in _OPTIONS.items() if option.action != "refuse"] + list(DROPPED), 1)
    raise UsageError(
        f"unknown option --{_without_login(name)}", hint=f"did you mean --{near[0]}?" if near else "asyncdup help lists the options"
    )


def _candidates(prefix: str) -> Iterator[str]:
    names = [name for name in _OPTIONS if prefix and name.startswith(prefix)]
    stock = [name for name in names if not _OPTIONS[name].ours]
    yield from stock or names
