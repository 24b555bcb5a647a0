"""The text of ``asyncdup help [TOPIC]``, made from the tables in ``options``. Pure."""

from __future__ import annotations

import difflib
import textwrap

from asyncdup.cli.options import ALL, COMMANDS, OPTIONS, Command, Option
from asyncdup.errors import UsageError

_WIDTH = 100
_COLUMN = 34  # where the explanations begin

_TOPICS = {
    "urls": """
        file:///folder             an absolute path; file://folder is relative to the working folder
        sftp://user@host/folder    relative to the login folder; sftp://user@host//folder is absolute
        scp://...                  the same, over the same SFTP
        webdav://user@host/folder  webdavs:// over TLS
        rclone://REMOTE:/folder    a remote of rclone's configuration
        gs://bucket/folder         azure://container/folder
        All kinds, and what to install for them: asyncdup backends.
        The password of a login is taken from the environment: BACKEND_PASSWORD.
        """,
    "patterns": """
        Rules are tried in the order of the command line; the first that matches a path decides; what
        no rule matches is included. Paths begin as the source was given: /home/u/x for asyncdup /home/u
        URL; on restore they begin in the archive: docs/x. * matches all but /, ** also /, ? one
        character, [abc] one of these; a match covers what is below it.
        Only some things: --include /home/u/docs --exclude '**'.
        """,
    "times": """
        now; 3D12h (s m h D W M Y, back from now; a month is 30 days, a year 365); 2026-11-22;
        2026-11-22T18:00:00+01:00; 20261122T170000Z; seconds since 1970. Without a zone: local time.
        """,
    "passphrases": """
        PASSPHRASE in the environment encrypts, or opens the key that reading needs. On a terminal it is
        asked for. SIGN_PASSPHRASE opens the key of --sign-key. With --use-agent gpg's agent is asked.
        """,
    "signals": """
        Ctrl-C once: no new transfers, running ones may end within --grace. Twice: stop now. Three times:
        exit at once. SIGTERM: stop now. The same command goes on where it ended. SIGUSR1: stop waiting,
        try again. SIGUSR2: say on standard error what is going on.
        """,
    "job": """
        asyncdup job ORDER [--job ID]: ask or tell a run that is under way, of the same user.
        status [--json]            what it does: volumes, gate, spool; what it waits for and how to go on
        events                     all its events as JSON lines from now on
        pause, resume              no new transfers; go on, also where it waits for you (or: asyncdup resume)
        pause --now                running transfers end, too, and begin again later
        drain                      finish what is made, then end (60); the same command goes on from there
        abort                      give up, exit code 61
        set-concurrency N          transfers at once
        set-rate RATE              512k, off, a timetable; or up=RATE down=RATE requests=N
        """,
    "exit-codes": """
        0 done; 1 verify found differences, or the chain is not what was asked for; 11 there is
        something where to restore; 19 nothing of that path in the backup; 21 a volume is damaged;
        22 wrong signature; 23 wrong use; 30 other damage, not all was restored, or unexpected;
        31 gpg failed; 34 no room for temporary files; 50 the backend failed; 51 no permission;
        52 not found; 53 no space; 60 done in part; 61 ended by the operator; 62 done with
        warnings; 130 Ctrl-C; 143 SIGTERM.
        """,
}


def help_text(topic: str = "") -> str:
    """The help on a command, on a topic, or in general.

    Raises:
        UsageError: there is no such topic.
    """
    if not topic:
        return _general()
    for command in COMMANDS:
        if command.served and topic in (command.name, *command.aliases):
            return _about(command)
    if topic in _TOPICS:
        return f"{topic}\n{textwrap.indent(textwrap.dedent(_TOPICS[topic]).strip(), '  ')}\n"
    near = difflib.get_close_matches(topic, [*ALL, *_TOPICS], 1)
    raise UsageError(f"no help on {topic!r}", hint=f"did you mean {near[0]}?" if near else f"topics: {', '.join([*ALL, *_TOPICS])}")


def _general() -> str:
    commands = [_row(f"{command.name} {_arguments(command)}", command.help) for command in COMMANDS if command.served]
    commands.append(_row("job ORDER", "ask or tell a run that is under way: status, pause, resume, ...; see asyncdup help job"))
    head = ["usage: asyncdup COMMAND [options] ...", "       asyncdup PATH URL     back up", "       asyncdup URL PATH     restore"]
    tail = f"\nmore: asyncdup help COMMAND, or one of: {', '.join(_TOPICS)}"
    return "\n".join([*head, "", "commands", *commands, *_options(ALL), tail]) + "\n"


def _about(command: Command) -> str:
    usage = f"usage: asyncdup {command.name} [options] {_arguments(command)}"
    aliases = [f"also written: {', '.join(command.aliases)}"] if command.aliases else []
    return "\n".join([usage, "", f"{command.help}.", *aliases, *_options((command.name,))]) + "\n"


def _options(commands: tuple[str, ...]) -> list[str]:
    """The options that matter to any of ``commands``, in groups."""
    lines: list[str] = []
    group = ""
    for option in OPTIONS:
        if not option.help or not set(commands) & set(option.commands):
            continue
        if option.group != group:
            group = option.group
            lines += ["", group]
        lines.append(_row(_spelled(option), option.help))
    return lines


def _spelled(option: Option) -> str:
    names = [alias for alias in option.aliases if alias.startswith("-")] + [f"--{option.name}"]
    return f"{', '.join(names)}{' ' if option.metavar else ''}{option.metavar}"


def _arguments(command: Command) -> str:
    return " ".join(name.upper() for name in command.arguments)


def _row(left: str, right: str) -> str:
    first = f"  {left}".ljust(_COLUMN)
    gap = "" if first.endswith("  ") else "\n" + " " * _COLUMN
    return first + gap + ("\n" + " " * _COLUMN).join(textwrap.wrap(right, _WIDTH - _COLUMN))
