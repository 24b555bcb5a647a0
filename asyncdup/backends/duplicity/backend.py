"""Backend classes of an installed duplicity, ``duplicity+SCHEME://…``: one child process for each instance, behind the blocking interface.

The class runs in the Python that duplicity is installed in, which is seldom ours. There a call that hangs can be killed, its settings are
its own, and what it prints goes astray nowhere. The other end of the pipe is ``host.py``.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import logging
import os
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import quote

from asyncdup.backends.base import UNKNOWN_SIZE, ObjectInfo
from asyncdup.backends.blocking import BlockingAdapter
from asyncdup.backends.duplicity.find import INSTALL, find_python
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import known_schemes
from asyncdup.backends.urls import FOREIGN, Location, redact
from asyncdup.errors import OperatorError, PermanentError, UsageError
from asyncdup.threads import on_loop

_HOST = Path(__file__).with_name("host.py")
_CLOSING = 3.0  # seconds for the class to say good-bye, and for its process to end
_KEPT = 2000  # characters of what a process printed last, for the message about its death
_OURS_ALONE = ("PASSPHRASE", "SIGN_PASSPHRASE")  # no backend has any business with them
_CODES = {51: errno.EACCES, 52: errno.ENOENT, 53: errno.ENOSPC}  # duplicity's exit codes as errors of the kernel
_BUGS = frozenset({"AttributeError", "NameError", "NotImplementedError", "SyntaxError", "TypeError"})
_REFUSED = frozenset(
    {
        "AuthenticationException",
        "BadHostKeyException",
        "EOFError",  # it wanted to ask: for a password, or whether to trust a host key
        "NoCredentialsError",
        "PartialCredentialsError",
        "PermissionDenied",
    }
)
_REFUSED_TEXT = re.compile(r"authenticat\w+ fail|unauthori[sz]ed|access denied|permission denied|known_hosts|host key", re.IGNORECASE)

# Modules whose package has another name.
_PACKAGES = {
    "azure": "azure-storage-blob",
    "gi": "PyGObject",
    "google": "google-auth-oauthlib",
    "googleapiclient": "google-api-python-client",
    "pydrive2": "PyDrive2",
    "swiftclient": "python-swiftclient",
}

_log = logging.getLogger("asyncdup.duplicity")


def from_url(location: Location, options: BackendOptions) -> BlockingAdapter:
    """One class at one location; ``--backend-concurrency N``: N instances, each with its process.

    Raises:
        UsageError: no duplicity is installed.
    """
    return _adapter(location, options, without_prefix=False)


def from_bare_url(location: Location, options: BackendOptions) -> BlockingAdapter:
    """The same for a scheme that only duplicity has, written without our prefix. The user is told once."""
    return _adapter(location, options, without_prefix=True)


def _adapter(location: Location, options: BackendOptions, *, without_prefix: bool) -> BlockingAdapter:
    url = location.url[len(FOREIGN) :]
    python = find_python(options.environ, options.settings.get("duplicity_python"))
    site = Site(python, url, options, secrets=_secrets(location, options), without_prefix=without_prefix)
    number = options.backend_concurrency or 1

    def make() -> HostedClass:
        return HostedClass(site, concurrent=number > 1)

    return BlockingAdapter(make(), options.tempdir, another=make, concurrency=number, description=redact(location.url))


@dataclass
class Site:
    """What the instances at one location share. ``module``, ``listed`` and ``told`` are set once; that two threads do it does no harm."""

    python: str
    url: str = field(repr=False)
    options: BackendOptions
    secrets: tuple[str, ...] = field(repr=False)
    without_prefix: bool = False
    module: str | None = None
    listed: bool = False
    told: bool = False

    @property
    def scheme(self) -> str:
        """As duplicity knows it."""
        return self.url.partition("://")[0].lower()

    def opening(self) -> dict[str, Any]:
        """The first request to a process. It goes through the pipe, so nothing secret is in an argument."""
        options = self.options
        known_hosts = [f"-oUserKnownHostsFile={options.known_hosts}"] if options.known_hosts else []
        return {
            "url": self.url,
            "scheme": self.scheme,
            "module": self.module,
            "password": options.password,
            "timeout": max(1, round(options.timeout)),
            "ssh_options": " ".join([*known_hosts, *options.ssh_options]),
            "settings": {name: value for name, value in options.settings.items() if name != "duplicity_python"},
        }

    def opened(self, answer: dict[str, Any]) -> None:
        """Look at the answer. Raises UsageError if duplicity has no such class either, or cannot load it."""
        if "schemes" in answer:
            raise _unknown(self, answer["schemes"], answer["missing"])
        self.module = answer["module"]
        if self.without_prefix and not self.told:
            self.told = True
            told = f"{self.scheme}:// is served by a class of duplicity {answer['version']} ({self.python})"
            message = told + ("" if self.options.backend_concurrency else "; one call at a time, --backend-concurrency N makes it more")
            on_loop(self.options.notify, message)

    def hide(self, text: str) -> str:
        """``text`` without the secrets that we know of (P15)."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


class HostedClass:
    """A class of duplicity in a process of its own, which starts with the first call and again after it died.

    ``list`` stands last: below it the name would no longer mean the type.
    """

    def __init__(self, site: Site, *, concurrent: bool) -> None:
        self._site = site
        self._concurrent = concurrent
        self._process: _Process | None = None
        self._lock = threading.Lock()  # around changes of the two above and below, by the calling thread and by ``interrupt``
        self._interrupted = False

    def supports_concurrency(self) -> bool:
        """As the user says: no class of duplicity 3.2.1 says anything."""
        return self._concurrent

    def list_infos(self) -> list[ObjectInfo]:
        """With sizes only if the class tells many at once: else each would be a round trip."""
        found = self._ask("list")
        self._site.listed = True
        return [ObjectInfo(name, UNKNOWN_SIZE if size is None or size < 0 else size) for name, size in found.items()]

    def get(self, name: str, local: Path) -> None:
        self._ask("get", name=name, path=os.fspath(local))

    def put(self, name: str, local: Path) -> None:
        self._ask("put", name=name, path=os.path.abspath(local), first=not self._site.listed)
        self._site.listed = True

    def delete(self, name: str) -> None:
        self._ask("delete", name=name)

    def stat(self, name: str) -> ObjectInfo | None:
        """None if the class has no way to ask."""
        size = self._ask("size", name=name)
        if size is not None and size < 0:
            raise FileNotFoundError(errno.ENOENT, "not there", name)
        return None if size is None else ObjectInfo(name, size)

    def interrupt(self) -> None:
        """Kill the process and all that it started."""
        with self._lock:
            self._interrupted = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Ask the process to end, then make it."""
        with self._lock:
            process, self._process = self._process, None
            polite = not self._interrupted
        if process is not None:
            process.close(polite=polite)

    def _ask(self, verb: str, **arguments: str | bool) -> Any:
        process = self._running()
        answer = process.ask({"verb": verb, **arguments})
        if answer is None:
            self._drop(process)
        return self._result(verb, answer, process)

    def _running(self) -> _Process:
        with self._lock:
            if self._interrupted:
                raise OSError("the call was given up")
            if self._process is not None:
                return self._process
            process = self._process = _Process(self._site)
        answer = process.ask({"verb": "open", **self._site.opening()})
        try:
            self._site.opened(self._result("open", answer, process))
        except BaseException:
            self._drop(process)
            raise
        return process

    def _drop(self, process: _Process) -> None:
        with self._lock:
            self._process = None
        process.close(polite=False)

    def _result(self, verb: str, answer: dict[str, Any] | None, process: _Process) -> Any:
        if answer is None:
            raise ClassFailed(f"the process of duplicity's class ended ({process.ending()}){process.last_words()}")
        if "error" in answer:
            _raise(verb, answer["error"], self._site)
        return answer["ok"]

    def list(self) -> list[str]:
        return [info.name for info in self.list_infos()]


class ClassFailed(Exception):
    """The class raised something that says no more than its text; the adapter makes it retryable."""


class _Process:
    """A child that answers. Every method but ``kill`` belongs to the one thread that uses it at a time."""

    def __init__(self, site: Site) -> None:
        self._site = site
        environ = {name: value for name, value in site.options.environ.items() if name not in _OURS_ALONE}
        # A file instead of a pipe: nobody needs to read it while the child writes. Opened for appending, so that it can be cut.
        self._printed: IO[bytes] = tempfile.TemporaryFile("a+b", dir=site.options.tempdir)  # noqa: SIM115 - closed in ``close``
        self._tail = ""
        try:
            # A session of its own: no terminal to ask for passwords, no Ctrl-C, and one signal for all that it starts.
            self._child = subprocess.Popen(
                [site.python, os.fspath(_HOST)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                env=environ,
                start_new_session=True,
            )
        except BaseException:
            self._printed.close()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None if the child is dead."""
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except (OSError, ValueError):  # ValueError: closed by another thread
            return None
        self._read_printed()
        if not line.endswith(b"\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """At once, with its children. Safe from any thread."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, 9)

    def ending(self) -> str:
        """How it ended, for people."""
        code = self._child.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def last_words(self) -> str:
        """What it printed last, for the end of a message."""
        return f": {self._tail.strip()}" if self._tail.strip() else ""

    def close(self, *, polite: bool) -> None:
        """Again is allowed."""
        if polite and self._child.returncode is None:
            self._say_goodbye()
        self.kill()
        self._child.wait()
        if not self._printed.closed:
            self._read_printed()
        for file in (self._child.stdin, self._child.stdout, self._printed):
            with contextlib.suppress(OSError):  # what was not yet flushed has nobody to go to
                if file is not None:
                    file.close()

    def _say_goodbye(self) -> None:
        timer = threading.Timer(_CLOSING, self.kill)  # the class may hang in this call, too
        timer.start()
        try:
            self.ask({"verb": "close"})
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_CLOSING)
        finally:
            timer.cancel()
            timer.join()

    def _read_printed(self) -> None:
        size = os.fstat(self._printed.fileno()).st_size
        if not size:
            return
        start = max(0, size - (1 << 20))
        text = self._site.hide(os.pread(self._printed.fileno(), size - start, start).decode("utf-8", "replace"))
        os.ftruncate(self._printed.fileno(), 0)
        self._tail = (self._tail + text)[-_KEPT:]
        for line in text.splitlines():
            _log.info("%s", line)


def _raise(verb: str, error: dict[str, Any], site: Site) -> NoReturn:
    """The class's error as one that the adapter understands (engine semantics, section 3). Codes: observed, duplicity 3.2.1."""
    text = site.hide(error["text"]).strip() or error["types"][0]
    types = set(error["types"])
    if verb == "open" or error["missing"]:
        raise _not_loaded(site, error["missing"], text)
    number = _CODES.get(error["code"], error["errno"])
    if number:
        raise OSError(number, text)
    if types & _REFUSED or _REFUSED_TEXT.search(text):
        raise OperatorError(text, hint="check the user name, the password or the keys, and that the host's key is known")
    if error["types"][0] in _BUGS:
        raise PermanentError(f"duplicity's class for {site.scheme}:// cannot do this: {error['types'][0]}: {text}")
    raise ClassFailed(text)


def _not_loaded(site: Site, package: str | None, text: str) -> UsageError:
    if package and package.partition(".")[0] == "duplicity":
        return UsageError(f"{site.python} has no duplicity", hint=INSTALL)
    if package:
        module = package.partition(".")[0]
        install = f"{site.python} -m pip install {_PACKAGES.get(module, module)} (or your distribution's package of it)"
        return UsageError(f"duplicity's class for {site.scheme}:// needs the Python package {package}", hint=install)
    return UsageError(
        f"duplicity's class for {site.scheme}:// cannot be loaded: {text}", hint=f"see whether {site.python} has a working duplicity"
    )


def _unknown(site: Site, schemes: list[str], missing: str | None) -> UsageError:
    if missing:
        return _not_loaded(site, missing, "")
    known = sorted({*known_schemes(), *schemes}) if site.without_prefix else schemes
    near = difflib.get_close_matches(site.scheme, known, n=1)
    hint = (f"did you mean {near[0]}://? " if near else "") + f"known: {', '.join(known)}"
    return UsageError(f"unknown scheme {site.scheme}:// in {redact(site.url)}", hint=hint)


def _secrets(location: Location, options: BackendOptions) -> tuple[str, ...]:
    given = (location.password, options.password_for(location), *location.query.values())
    plain = {secret for secret in given if secret and len(secret) > 3}
    return tuple(sorted(plain | {quote(secret, safe="") for secret in plain}, key=len, reverse=True))
