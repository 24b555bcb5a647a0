"""docs/options.md: every command and option of stock duplicity beside ours, from its parser and our table.

usage: python scripts/options_page.py PYTHON > docs/options.md
PYTHON is one that has stock duplicity, such as .stock/bin/python; this one must have asyncdup.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asyncdup.cli.options import COMMANDS, DROPPED, OPTIONS, Option

_ASK = """
import json
from duplicity import cli_data as data
from duplicity import __version__
words = lambda kind: [name.replace("_", "-") for name in vars(kind) if not name.startswith("_")]
print(json.dumps({
    "version": __version__,
    "commands": words(data.DuplicityCommands()) or words(data.DuplicityCommands),
    "options": sorted(name[2:] for name in data.all_options),
    "dropped": sorted(name[2:] for name in data.removed_options | data.changed_options),
}))
"""

# What is not quite as in stock. Everything else that is served is the same.
_COMMANDS = {
    "verify": "always compares the data; stock compares nothing without `--compare-data`. Rules hold for both sides; stock takes what they exclude for missing",
    "restore": "exit code 30, on a full disk 53, if any entry is not restored as archived; a time before the first backup is an error, stock gives the first full",
    "collection-status": "other words for people; the same records for programs (`--log-fd`)",
    "cleanup": "an unfinished backup that can be gone on with stays",
    "remove-older-than": "other words; the same files",
    "remove-all-but-n-full": "other words; the same files",
    "remove-all-inc-of-but-n-full": "other words; the same files",
}
_OPTIONS = {
    "backend-retry-delay": "without it the delay grows, with jitter; 30 s if only `--num-retries` is given",
    "concurrency": "without it, or `auto`, the best number is looked for where the backend can more than one; 0 sends in line with production; for reading, too",
    "copy-links": "a link that leads nowhere, or to a folder that it is in, is stored as a link; stock drops the first and follows the second",
    "file-changed": "paths as they are, not as Python or the manifest quotes them",
    "force": "needed also to go on with a target that has been emptied",
    "ignore-errors": "what is lost is named, exit code 30, and a file with a part missing is not written; stock writes it shorter and ends with 0",
    "include": "a file or an empty folder on the way to an include, which no rule decides, is taken; stock drops it without a word",
    "jsonstat": "`TotalDestinationSizeChange` has the bytes; stock always says null",
    "log-fd": "the same records, codes and extras; the texts are ours",
    "log-file": "the same records, codes and extras; the texts are ours",
    "num-retries": "without it, attempts for 15 minutes",
    "progress": "a line of our own; on a terminal it is there without being asked for. The source is counted, not compared, so an incremental has no estimated end",
    "rename": "restores under the other name; without effect on verify",
    "restore-ownership": "failing to restore an owner is then an error",
    "s3-kms-grant": "accepted; has an effect with duplicity's backend class only",
    "s3-multipart-max-procs": "accepted; parts count in `--concurrency`",
    "show-changes-in-set": "names as they are, not quoted; a set that is not there is exit code 23, not a traceback",
    "time-separator": "`:` only",
    "timeout": "60 s without it, for what does not move at all",
}


def ask(python: str) -> dict[str, Any]:
    """What stock's own parser knows: version, commands, options, and those that it dropped."""
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def page(stock: Mapping[str, Any]) -> str:
    """The page. Raises SystemExit for an option or a remark that has no place in it."""
    ours = {option.name: option for option in OPTIONS} | {alias: option for option in OPTIONS for alias in option.aliases}
    unknown = [name for name in stock["options"] if name not in ours and name not in stock["dropped"]]
    stale = [name for name in _OPTIONS if name not in stock["options"]] + [name for name in _COMMANDS if name not in stock["commands"]]
    if unknown or stale:
        raise SystemExit(f"not in our table: {unknown}; remarks on what stock does not have: {stale}")
    rows = [(name, *_verdict(ours[name])) for name in stock["options"] if name in ours]
    return "\n".join(_lines(stock, rows)) + "\n"


def _verdict(option: Option) -> tuple[str, str]:
    if option.action == "refuse":
        return "refused", option.why
    if option.name in _OPTIONS:
        return "ours", _OPTIONS[option.name]
    if option.action == "accept" and option.name != "time-separator":
        return "accepted", option.why.partition(" has no effect: ")[2] or "it is the default, or what always happens"
    if option.field == "backend_settings" and not option.help:
        return "handed on", "to duplicity's own backend class, where one is used"
    return "same", ""


def _lines(stock: Mapping[str, Any], rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    counts = {kind: sum(verdict == kind for _, verdict, _ in rows) for kind in ("same", "ours", "accepted", "handed on", "refused")}
    yield "# Options: duplicity's and ours"
    yield ""
    yield f"Every command and option of stock duplicity {stock['version']}, from its own parser, and what becomes of it here. Made by"
    yield "`scripts/options_page.py`; a test fails when this page is out of date. Unique prefixes of options work as in duplicity, and mean the same."
    yield ""
    yield "*same*: the same meaning. *ours*: served, with a difference that is named. *accepted*: no error, no effect. *handed on*: to the backend classes of an"
    yield "installed duplicity. *refused*: exit code 23, with the reason. So scripts that call `duplicity` can call asyncdup under that name: put a link"
    yield "`duplicity` to `asyncdup` into a folder that comes first in their `PATH`."
    yield ""
    yield f"Of {len(rows)} options: {', '.join(f'{count} {kind}' for kind, count in counts.items())}."
    yield ""
    yield from _table("Commands", "command", [(name, *_command(name)) for name in stock["commands"]])
    yield from _table("Options", "option", [(f"--{name}", verdict, why) for name, verdict, why in rows])
    dropped = [(f"--{name}", "refused", DROPPED[name]) for name in stock["dropped"]]
    yield from _table("Options that duplicity dropped in 2.0", "option", dropped)
    yield "What there is only here: [reference.md](reference.md)."


def _command(name: str) -> tuple[str, str]:
    served = {command.name for command in COMMANDS if command.served}
    if name not in served:
        return "refused", "not in this version"
    return ("ours", _COMMANDS[name]) if name in _COMMANDS else ("same", "")


def _table(title: str, what: str, rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield f"| {what} | | |"
    yield "| --- | --- | --- |"
    yield from (f"| `{name}` | {verdict} | {_cell(why)} |" for name, verdict, why in rows)
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page(ask(sys.argv[1])))
