"""The outermost frame: words in, exit code out. Heavy modules are imported only once it is clear that they are needed.

``--version`` and ``--help`` load neither the event loop nor ssh, which would make them ten times slower.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from asyncdup import __version__
from asyncdup.cli.help import help_text
from asyncdup.cli.invocation import Invocation, parse_invocation
from asyncdup.cli.orders import Order, parse_order
from asyncdup.cli.parser import parse
from asyncdup.cli.printable import AS_BYTES
from asyncdup.cli.settings import Settings
from asyncdup.errors import UsageError, exit_code_of

if TYPE_CHECKING:
    from asyncdup.cli.dispatch import Route
    from asyncdup.cli.interrupts import Control
    from asyncdup.cli.report import Screen

_NOTICE = 3
_YOUNG = 20_000  # objects made and not freed between two looks for cycles, some MiB at most
_SIGINT_CODE, _SIGTERM_CODE = 130, 143
_ROOMS = {  # where a command's route is, if not in ``routes_data``: each start imports what its own command needs
    "collection-status": "routes_status",
    **dict.fromkeys(("list-current-files", "cat", "history", "find", "diff"), "routes_files"),
    **dict.fromkeys(("check", "cleanup", "remove-older-than", "prune", "unlock"), "routes_upkeep"),
    **dict.fromkeys(("remove-all-but-n-full", "remove-all-inc-of-but-n-full"), "routes_upkeep"),
    "mount": "routes_mount",
    **dict.fromkeys(("backends", "check-backend"), "routes_backends"),
}
_SIGPIPE_CODE = 141  # what a shell shows for a program that wrote to ``| head``


def main(argv: Sequence[str] | None = None, *, routes: Mapping[str, Route] | None = None, control: Control | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process) and return the exit code (engine rule X6).

    ``routes`` and ``control`` take the place of the program's commands and of their handle, for tests.
    """
    settings = None
    words = sys.argv[1:] if argv is None else argv
    _have_streams()
    if argv is None:
        _collect_rarely()
    try:
        order = parse_order(words)
        if order is not None:
            return _order(order)
        if _is_page(words):
            return _page(words)
        invocation = parse_invocation(words)
        if invocation is not None:
            return _profile(invocation)
        settings = parse(words)
        code = _serve(settings, routes, control)
        if argv is None and code in (_SIGINT_CODE, _SIGTERM_CODE):
            _end_at_next_signal(code)
        return code
    except KeyboardInterrupt:  # before the command ran; from then on ``Interrupts`` has the signal
        return _SIGINT_CODE
    except Exception as error:  # noqa: BLE001 - the command's outermost frame
        return _fail(error, _NOTICE if settings is None else settings.verbosity, words)


def _order(order: Order) -> int:
    from asyncdup.cli.job import send_order

    return send_order(order, sys.stdout)


def _is_page(words: Sequence[str]) -> bool:
    """Not a backup of a folder called ``manual``, nor a request for help."""
    return list(words[:1]) in (["completion"], ["manual"]) and not any("://" in word or word in ("-h", "--help") for word in words)


def _page(words: Sequence[str]) -> int:
    from asyncdup.cli.pages import page

    sys.stdout.write(page(words))
    return 0


def _profile(invocation: Invocation) -> int:
    from asyncdup.cli.run_profile import make_profile, run_profile

    if invocation.verb == "init":
        return make_profile(invocation, os.environ, _reader(), sys.stdout)
    return run_profile(invocation, main)


def _reader() -> Callable[[str], str] | None:
    """Questions with echo; None where nobody could answer."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None

    def read(question: str) -> str:
        try:
            return input(question)
        except EOFError:
            raise UsageError("no answer was given", hint="asyncdup help init: all of it can be said on the command line") from None

    return read


def _end_at_next_signal(code: int) -> None:
    """One Ctrl-C more, while Python cleans up, must not become a traceback and another exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(code))


def _serve(settings: Settings, routes: Mapping[str, Route] | None, control: Control | None) -> int:
    if settings.command == "version":
        sys.stdout.write(f"asyncdup {__version__}\n")
        return 0
    if settings.command == "help":
        sys.stdout.write(help_text(settings.topic))
        return 0
    _prepare_process()
    return _run(settings, routes, control)


def _collect_rarely() -> None:
    """Records of entries come and go by the hundred thousand and hold no cycles: looking for one each 700 of them cost 5 % of an incremental."""
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


def _have_streams() -> None:
    """Who starts us without standard streams (``>&-``, some daemons) gets silence, and no file of ours takes their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # as a standard stream is
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - it stays open


def _prepare_process() -> None:
    """No core files, which would hold passphrases (P15); names leave as the bytes they are, what the stream cannot hold as an escape."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=AS_BYTES)


def _run(settings: Settings, routes: Mapping[str, Route] | None, control: Control | None) -> int:
    from asyncdup.cli import running
    from asyncdup.cli.memory import keep_buffers
    from asyncdup.cli.passphrases import find_secrets
    from asyncdup.cli.report import OutputClosed

    keep_buffers()
    if control is None:
        from asyncdup.commands.options import Control

        control = Control(signals=True, socket=True)
    route = _route(settings.command, routes)
    environ: Mapping[str, str] = os.environ
    if settings.keyring:
        from asyncdup.cli.keyring_secrets import with_keyring

        environ = with_keyring(environ, settings.url)
    secrets = find_secrets(settings, environ, _asker())
    screen = _screen(settings, sys.stdout, sys.stderr)
    try:
        return running.run(settings, secrets, route, running.Surroundings(screen=screen, out=sys.stdout, err=sys.stderr, control=control))
    except OutputClosed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes at its end
        return _SIGPIPE_CODE


def _route(command: str, routes: Mapping[str, Route] | None) -> Route:
    if routes is None:
        routes = _routes(command)
    route = routes.get(command)
    if route is None:
        raise UsageError(f"{command} is not in this version of asyncdup")
    return route


def _routes(command: str) -> Mapping[str, Route]:
    room = _ROOMS.get(command, "routes_data")
    routes: Mapping[str, Route] = importlib.import_module(f"asyncdup.cli.{room}").ROUTES
    return routes


def _asker() -> Callable[[str], str] | None:
    """Prompts without echo; None where nobody could answer."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None
    from getpass import getpass

    def ask(prompt: str) -> str:
        try:
            return getpass(prompt)
        except EOFError:
            raise UsageError("no passphrase was typed", hint="set PASSPHRASE, or try again") from None

    return ask


def _screen(settings: Settings, out: TextIO, err: TextIO) -> Screen:
    """A progress line where there is a terminal that can draw one. With ``--log-json=-`` standard output is for JSON alone, with ``cat`` for
    the file."""
    if settings.log_json == "-" or settings.command == "cat":
        out = err
    if (out.isatty() or err.isatty()) and os.environ.get("TERM", "dumb") != "dumb" and settings.verbosity >= _NOTICE:
        from asyncdup.cli.report_terminal import TerminalScreen

        return TerminalScreen(out, err, environ=os.environ)
    from asyncdup.cli.report import PlainScreen

    return PlainScreen(out, err, progress_rate=settings.progress_rate if settings.progress else None)


def _fail(error: Exception, verbosity: int, words: Sequence[str]) -> int:
    try:
        from asyncdup.cli.failure import failure_lines, single
    except MemoryError:
        sys.stderr.write("asyncdup: there is no memory left\n")
        return exit_code_of(error)

    cause = single(error)
    lines = list(failure_lines(cause, verbosity))
    for line in lines:
        sys.stderr.write(line + "\n")
    if any(word.startswith("--log-f") for word in words):
        from asyncdup.cli.machine_log import log_failure

        log_failure(words, "\n".join(lines), cause)
    return exit_code_of(cause)
