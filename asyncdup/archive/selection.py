"""Include and exclude rules -> a decision for a path (format specification, section 25; compared with duplicity 3.2.1 on random trees).

Pure but for one thing: list files are read while a Selection is made (by a function that may be handed in); ``decide`` touches nothing.
Patterns match the source as it was given + ``/`` + relative path, as text, so that ``?`` is one character; on restore the relative path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from asyncdup.errors import UsageError
from asyncdup.formats.manifest import localdir_of
from asyncdup.units import parse_time

__all__ = ["Decision", "Rule", "Selection"]

MATCHES_NOTHING: Final = 14  # exit codes of duplicity (format specification, section 21)
BROKEN_PATTERN: Final = 15
REDUNDANT: Final = 16
ONLY_DEFAULT_FILTERS: Final = 70
FILTER_AT_THE_END: Final = 71
ABSOLUTE_IN_LIST: Final = 72
EMPTY_LIST: Final = 73

MAX_LIST: Final = 64 << 20  # bytes of a list file


class Decision(Enum):
    """What becomes of a path. SCAN: a folder that is in only if something inside it is, to any depth; go in and see."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    SCAN = "scan"


@dataclass(frozen=True, slots=True)
class Rule:
    """One selection option: its name without dashes, and its value (of a list option, the name of the file) or ``b""``."""

    option: str
    value: bytes = b""


Decide = Callable[[str, bool, int | None], Decision | None]  # text of the path, whether it is a folder, mtime of a regular file
Read = Callable[[bytes], bytes]


def read_list(name: bytes) -> bytes:
    """The content of a list file. Raises UsageError if it cannot be read or is over 64 MiB."""
    try:
        with Path(os.fsdecode(name)).open("rb") as file:
            data = file.read(MAX_LIST + 1)
    except OSError as error:
        raise UsageError(f"the list {os.fsdecode(name)} cannot be read: {error.strerror}") from error
    if len(data) > MAX_LIST:
        raise UsageError(f"the list {os.fsdecode(name)} has more than {MAX_LIST} bytes")
    return data


class Selection:
    """The rules of a run, in the order of the command line: the first that includes or excludes a path decides; without any, it is in.

    Args:
        rules: selection options in their order. The three that only a walker can obey are given out as data (below).
        source: the source path as the user gave it.
        restoring: patterns match archive paths; no source is looked at.
        now: seconds since the epoch, for ``exclude-older-than`` with an interval.
        read: returns the content of a list file.

    Attributes:
        skip_if_present: folders that hold one of these names are left out altogether, whatever other rules say.
        exclude_device_files: so are device files.
        one_filesystem: stay on the file system of the source.
        is_empty: whether ``decide`` includes everything, so that it need not be asked.
        needs_mtime: whether ``decide`` wants the mtime of regular files.

    Raises:
        UsageError: with duplicity's exit code: a pattern that can match nothing (14), is broken (15), a last rule that changes nothing (16),
            filters without effect (70, 71), a bad ``files-from`` list (72, 73), an option that is unknown or has no use here (23).
    """

    def __init__(
        self, rules: Iterable[Rule], source: bytes = b"", *, restoring: bool = False, now: int = 0, read: Read = read_list
    ) -> None:
        self.skip_if_present: tuple[bytes, ...] = ()
        self.exclude_device_files = False
        self.one_filesystem = False
        self.needs_mtime = False
        rules = list(rules)
        builder = _Builder(rules, source, restoring, now, read)
        for rule in rules:
            self._take(rule, builder)
        builder.finish()
        self._wanted = builder.wanted
        self._wanted_folders = _parents(builder.wanted) if builder.wanted is not None else frozenset()
        self._rules: Sequence[Decide] = builder.compiled()
        self._prefix = builder.prefix
        self._entered = (b"", True)  # the folder last asked for by ``includes``, and whether a walk would go into it
        self.is_empty = not self._rules and self._wanted is None

    def decide(self, path: bytes, is_dir: bool, mtime: int | None = None) -> Decision:
        """What becomes of ``path`` (components joined by ``/``). The root is always in.

        Whoever asks goes down the tree: below an EXCLUDE nothing is asked. ``mtime``: whole seconds, of a regular file only.
        """
        if not path:
            return Decision.INCLUDE
        if self._wanted is not None and path not in self._wanted and path not in self._wanted_folders:
            return Decision.EXCLUDE
        text = self._prefix + path.decode("utf-8", "surrogateescape")
        scan = False
        for rule in self._rules:
            decision = rule(text, is_dir, mtime)
            if decision is Decision.SCAN:
                scan = True
            elif decision is not None:
                return Decision.SCAN if scan and decision is Decision.EXCLUDE else decision
        return Decision.INCLUDE  # also where an include was in reach: stock drops such files and empty folders without a word

    def includes(self, path: bytes, is_dir: bool, mtime: int | None = None) -> bool:
        """Whether a path met outside a walk is in: its folders are asked first. A folder that is only to be scanned is not in by itself."""
        return self._enters(path[: max(path.rfind(b"/"), 0)]) and self.decide(path, is_dir, mtime) is Decision.INCLUDE

    def _enters(self, folder: bytes) -> bool:
        """Whether a walk would go into ``folder``. The last answer is kept: entries of a folder are asked for one after the other."""
        if folder != self._entered[0]:
            parts = folder.split(b"/")
            ways = (b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
            self._entered = folder, all(self.decide(way, True) is not Decision.EXCLUDE for way in ways)
        return self._entered[1]

    def _take(self, rule: Rule, builder: _Builder) -> None:
        option = rule.option
        if option in _FOR_WALKER:
            builder.note(option)
        if option == "exclude-if-present":
            builder.refuse_on_restore(option)
            self.skip_if_present += (builder.value(rule),)
        elif option == "exclude-device-files":
            self.exclude_device_files = True
        elif option == "exclude-other-filesystems":
            builder.refuse_on_restore(option)
            self.one_filesystem = True
        else:
            self.needs_mtime |= option == "exclude-older-than"
            builder.add(rule)


class _Builder:
    """Rules in their order -> functions that decide. Holds what one option changes for those after it."""

    def __init__(self, rules: Sequence[Rule], source: bytes, restoring: bool, now: int, read: Read) -> None:
        self.wanted: frozenset[bytes] | None = None
        self.prefix = "" if restoring else _prefix(source)
        self._root = None if restoring else _text(localdir_of(source))
        self._now = now
        self._read = read
        self._separator = b"\0" if any(rule.option == "null-separator" for rule in rules) else b"\n"
        self._steps: list[tuple[Decide | _Pattern, str]] = []
        self._mode, self._ignore_case = "globbing", False
        self._filters: list[str] = []
        self._last = ""  # name of the last option that is a rule or a filter
        self._redundant: str | None = None  # the last rule, if it is an include

    def add(self, rule: Rule) -> None:
        option, value = rule.option, rule.value
        action = _ACTIONS.get(option)
        if action is None:
            raise UsageError(f"--{option} is not a selection option")
        if option != "null-separator":
            self._last = option
        action(self, option, value)

    def finish(self) -> None:
        """Refuse what, taken together, cannot be meant."""
        if self._last in _FILTERS:
            raise UsageError(f"--{self._last} has no effect: no selection option follows it", exit_code=FILTER_AT_THE_END)
        if self._filters and all(name in _DEFAULT_FILTERS for name in self._filters):
            raise UsageError(f"--{self._filters[0]} has no effect: it is the default", exit_code=ONLY_DEFAULT_FILTERS)
        if self._redundant is not None:
            raise UsageError(
                f"the last selection rule, {self._redundant}, only includes what would be included anyway",
                hint="follow it with a rule that excludes something, such as --exclude '**'",
                exit_code=REDUNDANT,
            )

    def compiled(self) -> list[Decide]:
        """Neighbours that exclude by patterns are put into one expression: a path is asked once for all of them."""
        done: list[Decide] = []
        waiting: list[_Pattern] = []
        for step, _ in self._steps:
            if isinstance(step, _Pattern) and not step.include:
                waiting.append(step)
                continue
            if waiting:
                done.append(_excluded_by(waiting))
                waiting = []
            done.append(_included_by(step) if isinstance(step, _Pattern) else step)
        if waiting:
            done.append(_excluded_by(waiting))
        return done

    def value(self, rule: Rule) -> bytes:
        if not rule.value:
            raise UsageError(f"--{rule.option} needs a value")
        return rule.value

    def refuse_on_restore(self, option: str) -> None:
        if self._root is None:
            raise UsageError(f"--{option} is not for restoring: the archive does not tell")

    def note(self, option: str) -> None:
        """A rule that the walker obeys stands here. Two of them count as if they stood first."""
        self._last = option
        if option == "exclude-other-filesystems":
            self._redundant = None

    # One method for each kind of option.

    def _pattern(self, option: str, value: bytes) -> None:
        if not value:
            raise UsageError(f"--{option} needs a pattern")
        self._step(option.startswith("include"), _text(value), f"--{option} {_text(value)}")

    def _regexp(self, option: str, value: bytes) -> None:
        if not value:
            raise UsageError(f"--{option} needs an expression")
        self._regexp_step(option.startswith("include"), _text(value), f"--{option} {_text(value)}")

    def _list(self, option: str, value: bytes) -> None:
        for line in self._read(value).split(self._separator):
            line = line.strip()
            if not line or line.startswith(b"#"):
                continue
            include = option.startswith("include")
            if line.startswith((b"+ ", b"- ")):
                include, line = line.startswith(b"+"), line[2:]
            if len(line) > 1 and line[:1] in (b'"', b"'") and line[-1:] == line[:1]:
                line = line[1:-1]
            self._step(include, _text(line), f"{_text(line)} of --{option} {os.fsdecode(value)}")

    def _filter(self, option: str, value: bytes) -> None:
        self._filters.append(option)
        if option in _CASES:
            self._ignore_case = _CASES[option]
        else:
            self._mode = option.removeprefix("filter-")

    def _older_than(self, option: str, value: bytes) -> None:
        limit = parse_time(os.fsdecode(value), self._now)

        def older(text: str, is_dir: bool, mtime: int | None) -> Decision | None:
            return Decision.EXCLUDE if mtime is not None and mtime < limit else None

        self._redundant = None
        self._steps.append((older, option))

    def _files_from(self, option: str, value: bytes) -> None:
        self.refuse_on_restore(option)
        listed = [line for line in self._read(value).split(self._separator) if line]
        if not listed:
            raise UsageError(f"the list {os.fsdecode(value)} names no files", exit_code=EMPTY_LIST)
        for line in listed:
            if line.startswith(b"/"):
                raise UsageError(f"{os.fsdecode(line)} in {os.fsdecode(value)} is not relative to the source", exit_code=ABSOLUTE_IN_LIST)
        self.wanted = frozenset(path for line in listed if (path := _relative(line)) is not None)

    def _nothing(self, option: str, value: bytes) -> None:
        pass

    def _step(self, include: bool, text: str, said: str) -> None:
        if self._mode == "regexp":
            self._regexp_step(include, text, said)
            return
        ignore_case = self._ignore_case
        if self._mode == "globbing" and text[:11].lower() == "ignorecase:":
            ignore_case, text = True, text[11:]
        if self._root is None:
            text = _archive_pattern(text, said)
        pattern = _Pattern(include, text, literal=self._mode == "literal", ignore_case=ignore_case, said=said)
        if self._root is not None and not pattern.could_match_in(self._root):
            raise UsageError(
                f"{said} cannot match anything in the source {self._root}",
                hint="a pattern begins with the source path as it was given, or with **",
                exit_code=MATCHES_NOTHING,
            )
        self._redundant = said if include else None
        self._steps.append((pattern, said))

    def _regexp_step(self, include: bool, text: str, said: str) -> None:
        try:
            search = re.compile(text, re.IGNORECASE if self._ignore_case else 0).search
        except re.error as error:
            raise UsageError(f"{said} is not a regular expression: {error}", exit_code=BROKEN_PATTERN) from error
        found = Decision.INCLUDE if include else Decision.EXCLUDE

        def matches(text: str, is_dir: bool, mtime: int | None) -> Decision | None:
            return found if search(text) else None

        self._redundant = said if include else None
        self._steps.append((matches, said))


_FOR_WALKER = ("exclude-if-present", "exclude-device-files", "exclude-other-filesystems")
_CASES = {"filter-ignorecase": True, "filter-strictcase": False}
_FILTERS = ("filter-globbing", "filter-literal", "filter-regexp", *_CASES)
_DEFAULT_FILTERS = ("filter-globbing", "filter-strictcase")
_ACTIONS: dict[str, Callable[[_Builder, str, bytes], None]] = {
    **dict.fromkeys(("include", "exclude"), _Builder._pattern),
    **dict.fromkeys(("include-regexp", "exclude-regexp"), _Builder._regexp),
    **dict.fromkeys(("include-filelist", "exclude-filelist"), _Builder._list),
    **dict.fromkeys(_FILTERS, _Builder._filter),
    "exclude-older-than": _Builder._older_than,
    "files-from": _Builder._files_from,
    "null-separator": _Builder._nothing,
}


# --- one pattern -------------------------------------------------------------------------------------------------------------------


Match = Callable[[str], re.Match[str] | None]


class _Pattern:
    """A glob or a literal path, as regular expressions for whole paths. A match covers everything below.

    ``body`` matches a path itself; ``above``: folders that may hold a match; ``folder_only``: it ended with a slash.
    """

    def __init__(self, include: bool, text: str, *, literal: bool, ignore_case: bool, said: str) -> None:
        self.include = include
        self.folder_only = len(text) > 1 and text.endswith("/")
        if self.folder_only:
            text = text[:-1]
        if not text or ("//" in text and not literal):
            raise UsageError(f"{said} is not a pattern: a component of it is empty", exit_code=BROKEN_PATTERN)
        body, above = (re.escape(text), _on_the_way(text, re.escape)) if literal else _from_glob(text, said)
        self.body = f"(?i:{body})" if ignore_case else f"(?:{body})"
        self.above = f"(?i:{above})" if ignore_case else above

    def could_match_in(self, root: str) -> bool:
        """Whether the root or anything below it can match."""
        return _included_by(self)(root, True, None) is not None


def _excluded_by(patterns: Sequence[_Pattern]) -> Decide:
    """One function for several patterns that exclude."""
    plain = _any_of([pattern.body + r"(?:/|\Z)" for pattern in patterns if not pattern.folder_only])
    of_folder, of_file = _folder_matches([pattern for pattern in patterns if pattern.folder_only])

    def excluded(text: str, is_dir: bool, mtime: int | None) -> Decision | None:
        if plain is not None and plain(text):
            return Decision.EXCLUDE
        if of_folder is not None and of_file is not None and (of_folder(text + "/") if is_dir else of_file(text)):
            return Decision.EXCLUDE
        return None

    return excluded


def _included_by(pattern: _Pattern) -> Decide:
    whole = re.compile(pattern.body + r"(?:/|\Z)", re.DOTALL).match
    of_folder, of_file = _folder_matches([pattern]) if pattern.folder_only else (None, None)
    above = re.compile(pattern.above, re.DOTALL).fullmatch

    def included(text: str, is_dir: bool, mtime: int | None) -> Decision | None:
        if of_folder is not None and of_file is not None:
            matched = of_folder(text + "/") if is_dir else of_file(text)
        else:
            matched = whole(text)
        if matched:
            return Decision.INCLUDE
        return Decision.SCAN if is_dir and above(text) else None

    return included


def _folder_matches(patterns: Sequence[_Pattern]) -> tuple[Match | None, Match | None]:
    """What matches a folder (its path and a slash) and what a file: one that is below the pattern but does not fit the pattern itself."""
    return (
        _any_of([f"{pattern.body}/" for pattern in patterns]),
        _any_of([rf"(?!{pattern.body}\Z){pattern.body}/" for pattern in patterns]),
    )


def _any_of(expressions: Sequence[str]) -> Match | None:
    return re.compile("|".join(expressions), re.DOTALL).match if expressions else None


def _from_glob(text: str, said: str) -> tuple[str, str]:
    """Expressions for what a glob matches, and for the folders that may hold a match: from the first ``**`` on, all that fit so far."""

    def translated(glob: str) -> str:
        return "".join(_piece(match, said) for match in _GLOB.finditer(glob))

    stars = text.find("**")
    if stars < 0:
        return translated(text), _on_the_way(text, translated)
    head = text[:stars]
    return translated(text), f"{_on_the_way(head, translated)}|{translated(head)}.*"


def _on_the_way(text: str, translated: Callable[[str], str]) -> str:
    """An expression for the folders above ``text``."""
    slashes = [at for at, char in enumerate(text) if char == "/"]
    return "|".join(translated(text[:at] or "/") for at in slashes) or "(?!)"


_GLOB = re.compile(r"\*\*|\*|\?|\[(?P<not>[!^]?)(?P<set>\]?[^\]]*)\]|.", re.DOTALL)


def _piece(match: re.Match[str], said: str) -> str:
    if match["set"] is not None:
        return _character_class(match["set"], negated=bool(match["not"]), said=said)
    simple = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return simple.get(match[0]) or re.escape(match[0])


def _character_class(inside: str, *, negated: bool, said: str) -> str:
    """A class with every character made literal, so that none means more to the expression than to the user."""
    items = []
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            low, high = inside[at], inside[at + 2]
            if low > high:
                raise UsageError(f"{said} is not a pattern: {low}-{high} is no range", exit_code=BROKEN_PATTERN)
            items.append(f"{re.escape(low)}-{re.escape(high)}")
            at += 3
        else:
            items.append(re.escape(inside[at]))
            at += 1
    return f"[{'^' if negated else ''}{''.join(items)}]"


# --- paths -------------------------------------------------------------------------------------------------------------------------


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _prefix(source: bytes) -> str:
    root = _text(localdir_of(source))
    return root if root.endswith("/") else root + "/"


def _archive_pattern(text: str, said: str) -> str:
    """A pattern for archive paths. ``./`` in front is allowed, since list-current-files may have been used as a template."""
    while text.startswith("./"):
        text = text[2:]
    if text.startswith("/") or any(part in (".", "..") for part in text.split("/")):
        raise UsageError(
            f"{said} is not a path inside the archive",
            hint="on restore, patterns match paths as list-current-files shows them: relative, without . and ..",
            exit_code=MATCHES_NOTHING,
        )
    return text


def _relative(line: bytes) -> bytes | None:
    """The archive path of an entry of a files-from list; None if it leads out of the source."""
    parts = [part for part in line.split(b"/") if part not in (b"", b".")]
    return None if b".." in parts else b"/".join(parts)


def _parents(paths: Iterable[bytes]) -> frozenset[bytes]:
    found: set[bytes] = set()
    for path in paths:
        while (at := path.rfind(b"/")) > 0:
            path = path[:at]
            if path in found:
                break
            found.add(path)
    return frozenset(found)


# --- one glob by itself ------------------------------------------------------------------------------------------------------------


def glob_matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether a path of the archive fits ``pattern``: one without a slash is matched with the name alone, as by find(1), else with the whole path.

    Raises:
        UsageError: no pattern, or none that could match a path in an archive.
    """
    said = f"the pattern {pattern.decode('utf-8', 'backslashreplace')!r}"
    text = _archive_pattern(_text(pattern), said).rstrip("/")
    if not text:
        raise UsageError(f"{said} matches nothing", exit_code=MATCHES_NOTHING)
    match = re.compile(_from_glob(text, said)[0], re.DOTALL).fullmatch
    if "/" in text or "**" in text:
        return lambda path: match(_text(path)) is not None
    return lambda path: match(_text(path.rpartition(b"/")[2])) is not None
