"""The manual page (man(7) macros), and the same as Markdown for the site, made from the tables in ``options``. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from asyncdup import __version__
from asyncdup.cli.help import command_parts, spelled
from asyncdup.cli.help_topics import TOPICS
from asyncdup.cli.options import OPTIONS, Option

_DATE = "2026-11-22"  # of the page's wording; man(7) wants one, and a clock would make each copy another


def manual() -> str:
    """asyncdup(1): ``asyncdup manual | man -l -``."""
    return "\n".join(_manual()) + "\n"


def reference() -> str:
    """The same facts as a page of the site."""
    return "\n".join(_reference()) + "\n"


def _manual() -> Iterator[str]:
    yield f'.TH ASYNCDUP 1 {_DATE} "asyncdup {__version__}" "User commands"'
    yield from (".SH NAME", "asyncdup \\- backups in the format of duplicity, with all transfers in the background")
    yield from (".SH SYNOPSIS", ".B asyncdup", ".I COMMAND", "[options] ...")
    for words in ("PATH URL", "URL PATH"):
        yield from (".br", ".B asyncdup", f".I {words}")
    yield from (".SH DESCRIPTION", "PATH URL backs up, URL PATH restores. Options may stand anywhere and be cut to a unique prefix.")
    yield ".SH COMMANDS"
    for title, entries in command_parts():
        yield f".SS {_roff(title)}"
        for name, arguments, what in entries:
            yield from (".TP", f".B {_roff(f'{name} {arguments}'.rstrip())}", _roff(what))
    yield ".SH OPTIONS"
    for title, options in _groups():
        yield f".SS {_roff(title)}"
        for option in options:
            yield from (".TP", f".B {_roff(spelled(option))}", _roff(option.help))
    for topic, text in TOPICS.items():
        yield f".SH {topic.upper()}"
        yield from (".nf", *map(_roff, textwrap.dedent(text).strip().splitlines()), ".fi")
    yield from (".SH SEE ALSO", ".BR duplicity (1),", ".BR gpg (1),", ".BR ssh_config (5)")


def _reference() -> Iterator[str]:
    yield "# Commands and options"
    yield ""
    yield "Made from the program's own table by `scripts/reference_page.py`; a test fails when this page is out of date. The same as a manual page:"
    yield "`asyncdup manual | man -l -`. Beside duplicity's: [options.md](options.md)."
    for title, entries in command_parts():
        yield from ("", f"## Commands: {title}", "", "| command | |", "| --- | --- |")
        yield from (f"| `{f'{name} {arguments}'.rstrip()}` | {_cell(what)} |" for name, arguments, what in entries)
    for title, options in _groups():
        yield from ("", f"## Options: {title}", "", "| option | |", "| --- | --- |")
        yield from (f"| `{spelled(option)}` | {_cell(option.help)} |" for option in options)
    for topic, text in TOPICS.items():
        yield from ("", f"## {topic.capitalize()}", "", "```text", *textwrap.dedent(text).strip().splitlines(), "```")


def _groups() -> Iterator[tuple[str, list[Option]]]:
    shown = [option for option in OPTIONS if option.help]
    for title in dict.fromkeys(option.group for option in shown):
        yield title, [option for option in shown if option.group == title]


def _roff(text: str) -> str:
    """``text`` as it is: no macros, no hyphens where dashes were meant."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
