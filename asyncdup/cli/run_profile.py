"""``asyncdup run`` and ``asyncdup init``: a command as a profile says, its hooks and its retention; and the writing of a profile."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from asyncdup.cli.hooks import run_hook
from asyncdup.cli.invocation import Invocation
from asyncdup.cli.options import MAKING
from asyncdup.cli.profiles import RETENTION, Profile, parse_profile, place_of, read_profile
from asyncdup.errors import AsyncdupError, UsageError, exit_code_of

_WITH_WARNINGS = 62  # X6
FLAGS = ("source", "target", "passphrase-file", "encrypt-key", *RETENTION)  # of init; each takes a value
_SWITCHES = ("no-encryption", "force")


def run_profile(invocation: Invocation, serve: Callable[[Sequence[str]], int]) -> int:
    """Run the command; the exit code. ``serve`` runs a command line and says what went wrong by itself.

    Around a backup: the hook ``before``, which must succeed; the backup; what the retention takes away, if the backup succeeded; the hook
    ``after``, in any case; the hook ``failure``, if anything failed.

    Raises:
        UsageError: the profile or the command is wrong. Nothing was done.
    """
    profile = read_profile(invocation.profile, os.environ)
    command, *arguments = invocation.words or ("backup",)
    if command.startswith("-"):
        command, arguments = "backup", list(invocation.words)
    words = profile.words(command, arguments)
    with _environment(profile, words[0]):
        if words[0] not in MAKING or "--dry-run" in arguments:
            return serve(words)
        return _backup(profile, words, ["prune", profile.target, *profile.options, *profile.retention, *arguments, "--force"], serve)


def _backup(profile: Profile, words: Sequence[str], tidying: Sequence[str], serve: Callable[[Sequence[str]], int]) -> int:
    """``words``: the backup's command line, ``tidying``: that of its retention, with the same options."""
    code = 30
    try:
        code = _hook(profile, "before", 0)
        if code == 0:
            code = serve(words)
        if code in (0, _WITH_WARNINGS) and profile.retention:
            code = serve(tidying) or code
    except KeyboardInterrupt:
        code = 130
    finally:
        after = _hook(profile, "after", code)
        if code in (0, _WITH_WARNINGS):
            code = after or code
        if code not in (0, _WITH_WARNINGS):
            _hook(profile, "failure", code)
    return code


def _hook(profile: Profile, name: str, code: int) -> int:
    """0, or the exit code of its failure, which was said."""
    command = profile.hooks.get(name)
    if command is None:
        return 0
    environ = {**os.environ, "ASYNCDUP_PROFILE": profile.name, "ASYNCDUP_HOOK": name, "ASYNCDUP_EXIT_CODE": str(code)}
    try:
        run_hook(name, command, timeout=profile.hook_timeout, environ=environ)
    except AsyncdupError as error:
        sys.stderr.write(f"asyncdup: {error}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return exit_code_of(error)
    return 0


@contextmanager
def _environment(profile: Profile, command: str) -> Iterator[None]:
    """The profile's variables and passphrase, where the environment does not have them already; as before afterwards."""
    before = dict(os.environ)
    added = {**profile.environment, "ASYNCDUP_COMMAND": command}
    if profile.passphrase_file is not None and "PASSPHRASE" not in before:
        added["PASSPHRASE"] = _passphrase(profile.passphrase_file)
    try:
        for key, value in added.items():
            os.environ.setdefault(key, value)
        yield
    finally:
        for key in added:
            if key not in before:
                os.environ.pop(key, None)


def _passphrase(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.read(65536)
    except OSError as error:
        raise UsageError(f"the passphrase file {path} cannot be read: {error.strerror}", hint="passphrase-file in the profile") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise UsageError(f"others than you can read the passphrase file {path}", hint=f"chmod 600 {path}")
    passphrase = os.fsdecode(text).partition("\n")[0].rstrip("\r")
    if not passphrase or "\0" in passphrase:
        raise UsageError(f"the passphrase file {path} has no passphrase in its first line")
    return passphrase


def make_profile(invocation: Invocation, environ: Mapping[str, str], ask: Callable[[str], str] | None, out: TextIO) -> int:
    """Write a profile, readable by its owner alone, from options and answers. 0.

    Raises:
        UsageError: an unknown option; something is not said and there is nobody to ask; what was said is no profile; there is one already.
    """
    said, switches = _said(invocation.words)
    path = place_of(invocation.profile, environ)
    if path.exists() and "force" not in switches:
        raise UsageError(f"{path} is there already", hint="edit it, or write over it with --force")
    answers = _asked(said, switches, ask)
    text = _text(answers, switches)
    parse_profile(text.encode("utf-8", "surrogateescape"), name=invocation.profile, where="the profile")
    _write(path, text)
    out.write(f"{_below_home(path)} is written. Back up: asyncdup run {invocation.profile}\n")
    return 0


def _below_home(path: Path) -> str:
    home = os.path.expanduser("~")
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _said(words: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    said: dict[str, str] = {}
    switches = set()
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in _SWITCHES and not equals:
            switches.add(name)
        elif word.startswith("--") and name in FLAGS:
            said[name] = value if equals else next(waiting, "")
            if not said[name]:
                raise UsageError(f"--{name} wants a value")
        else:
            known = ", ".join(f"--{each}" for each in (*FLAGS, *_SWITCHES))
            raise UsageError(f"init does not know {word.partition('=')[0]}", hint=f"known: {known}; the rest is written into the file")
    return said, switches


def _asked(said: dict[str, str], switches: set[str], ask: Callable[[str], str] | None) -> dict[str, str]:
    """What was said, and answers to what was not."""
    answers = dict(said)
    for key, question in (
        ("source", "What is to be backed up (a folder)? "),
        ("target", "Where to (a URL, such as sftp://me@nas//backup)? "),
    ):
        if key not in answers:
            answers[key] = _answer(ask, question, f"--{key}")
    if not switches & {"no-encryption"} and not answers.keys() & {"passphrase-file", "encrypt-key"} and ask is not None:
        answer = ask("A file with the passphrase for encryption (empty: PASSPHRASE or a prompt; 'none': no encryption)? ").strip()
        if answer == "none":
            switches.add("no-encryption")
        elif answer:
            answers["passphrase-file"] = os.path.abspath(os.path.expanduser(answer))
    if not answers.keys() & set(RETENTION) and ask is not None and (answer := ask("Daily backups to keep (empty: all)? ").strip()):
        answers["keep-daily"] = answer
        for key in RETENTION[1:3]:
            if answer := ask(f"{key.removeprefix('keep-').capitalize()} backups to keep (empty: none)? ").strip():
                answers[key] = answer
    return answers


def _answer(ask: Callable[[str], str] | None, question: str, option: str) -> str:
    answer = ask(question).strip() if ask is not None else ""
    if not answer:
        raise UsageError(f"init wants {option}", hint="asyncdup help init")
    return answer


def _text(answers: Mapping[str, str], switches: set[str]) -> str:
    source = os.path.abspath(os.path.expanduser(answers["source"]))
    lines = ["# A profile of asyncdup; asyncdup help run says what may stand here.", f"source = {_quoted(source)}"]
    lines += [f"target = {_quoted(answers['target'])}"]
    if "passphrase-file" in answers:
        lines.append(f"passphrase-file = {_quoted(answers['passphrase-file'])}")
    lines += ["rules = []", "", "[options]"]
    if "encrypt-key" in answers:
        lines.append(f"encrypt-key = [{_quoted(answers['encrypt-key'])}]")
    if "no-encryption" in switches:
        lines.append("no-encryption = true")
    kept = [f"{key} = {_number(key, answers[key])}" for key in RETENTION if key in answers]
    return "\n".join([*lines, *(["", "[retention]", *kept] if kept else []), ""])


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's escapes are among TOML's, except that DEL must be one, too."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("a profile can only hold names that are UTF-8", hint="say this one on the command line") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _number(key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise UsageError(f"--{key} wants a whole number, 1 or more, not {text!r}")
    return int(text)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others."""
    spare = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.replace(spare, path)
        except BaseException:
            spare.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", exit_code=exit_code_of(error)) from error
