"""A canary in every secret, and the search for it: in all that a command prints, leaves in a folder, raises, or starts a child with.

The module beside this one is imported as ``cli.canary``: test folders are no packages.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from asyncdup.cli import main as main_room
from asyncdup.cli.options import COMMANDS

CANARY = 'kanarie"/4711+x'  # a character that URLs, JSON and XML each write in their own way
ENVIRONMENT = (
    "PASSPHRASE",
    "SIGN_PASSPHRASE",
    "BACKEND_PASSWORD",
    "FTP_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_KEY",
    "RCLONE_CONFIG_PASS",
)
FORMS = {
    CANARY,
    quote(CANARY, safe=""),
    quote(CANARY),
    json.dumps(CANARY)[1:-1],
    CANARY.replace('"', "&quot;"),
    base64.b64encode(CANARY.encode()).decode(),
    base64.b64encode(f"user:{CANARY}".encode()).decode(),
    CANARY.encode().hex(),
}
LOGIN = f"user:{quote(CANARY, safe='')}@"
WORDS = {"path": "{source}", "url": "{url}", "time": "1D", "count": "1", "pattern": "*"}


class Echo(http.server.BaseHTTPRequestHandler):
    """A server that refuses everybody and, as careless ones do, says back what it was sent."""

    said: ClassVar[set[str]] = set()
    status: ClassVar[int] = 0  # of the answer to a login; 0: as its refusal is
    count: ClassVar[int] = 0  # requests so far

    def _refuse(self) -> None:
        said = self.headers.get("X-Amz-Security-Token", "")
        kind, _, login = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            said += base64.b64decode(login).decode()
        body = f"<Error><Code>{'SlowDown' if self.status else 'AccessDenied'}</Code><Message>{said}</Message></Error>".encode()
        self.said.add(said)
        type(self).count += 1
        self.send_response((said and self.status) or (401 if kind in ("", "Basic") else 403), f"not you {said}")
        self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_PROPFIND = do_MKCOL = do_OPTIONS = _refuse

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def echo_server() -> Iterator[str]:
    """The address of one that listens."""
    Echo.status, Echo.count = 0, 0
    Echo.said.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Stage:
    """Runs commands in this process, or beside it, with the canary in every secret."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.capfd = folder, capfd
        self.source = folder / "source"
        self.url = f"file://{folder}/target"
        self.errors: list[BaseException] = []
        self.record = folder / "children"
        self.gpg = folder / "gpg"
        self.gpg.write_text(f'#!/bin/sh\n(printf "%s\\n" "$@"; env) >> {self.record}\nexec gpg "$@"\n')
        self.gpg.chmod(0o700)
        self.source.mkdir()
        (self.source / "file").write_text("a line of text\n" * 1000)
        for name in ("home", "tmp", "run"):
            (folder / name).mkdir(mode=0o700)
        monkeypatch.setattr(main_room, "_fail", self._fail)

    def environment(self, **more: str) -> dict[str, str]:
        home = str(self.folder / "home")
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
        places = {"HOME": home, "GNUPGHOME": home, "XDG_RUNTIME_DIR": str(self.folder / "run"), "TMPDIR": str(self.folder / "tmp")}
        return kept | places | dict.fromkeys(ENVIRONMENT, CANARY) | {"AWS_ACCESS_KEY_ID": "id", "AWS_REGION": "r", **more}

    def words(self, command: Any, url: str, *more: str) -> list[str]:
        """The command line, with everything switched on that writes."""
        given = [WORDS[kind].format(source=self._path(command.name), url=url) for kind in command.arguments]
        observed = [f"--{name}={self.folder / name}" for name in ("log-json", "log-file", "trace", "metrics-file")]
        always = ["-v9", "--progress", "--jsonstat", f"--archive-dir={self.folder}/cache", f"--tempdir={self.folder}/tmp", "--name=n"]
        patience = ["--num-retries=1", "--backend-retry-delay=0", "--timeout=3"]
        gpg = [f"--gpg-binary={self.gpg}", "--gpg-options=--s2k-count 1024"]
        period = ["--from=1D", "--to=now"] if command.name == "diff" else []
        keep = ["--keep-daily=1"] if command.name == "prune" else []
        return [command.name, *given, *always, *observed, *patience, *gpg, *period, *keep, *more]

    def run(self, *words: str) -> int:
        return main_room.main(words)

    def said(self) -> str:
        """What was printed. As bytes: what ``cat`` prints need not be text."""
        return b"".join(self.capfd.readouterr()).decode("latin-1")

    def _path(self, command: str) -> Path:
        return {"restore": self.folder / "restored", "cat": Path("file"), "history": Path("file")}.get(command, self.source)

    def _fail(self, error: BaseException, *rest: Any) -> int:
        self.errors.append(error)
        return _REAL_FAIL(error, *rest)

    def look(self, said: str) -> None:
        """Nothing of the canary anywhere."""
        clean(said, "what was printed")
        for path in self.folder.rglob("*"):
            clean(str(path), "a name")
            if path.is_file() and not path.is_symlink():
                clean(path.read_bytes().decode("latin-1"), path)
        for error in self.errors:
            for text, where in shown_by(error):
                clean(text, where)


_REAL_FAIL = main_room._fail


def clean(text: str, where: object) -> None:
    found = [form for form in FORMS if form in text]
    at = text.find(found[0]) if found else 0
    assert not found, f"{where}: …{text[max(0, at - 200) : at + 60]}…"


def shown_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """What an error and all behind it say, and every object of ours that one could print from there."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield f"{one} {one!r} {getattr(one, '__notes__', '')} {getattr(one, 'hint', '')}", f"the error {type(one).__name__}"
        behind = [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        left += [each for each in behind if each is not None]
        yield from _objects(one.__traceback__)


def _objects(traceback: TracebackType | None) -> Iterator[tuple[str, str]]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        for name, value in traceback.tb_frame.f_locals.items():
            if type(value).__module__.startswith("asyncdup."):
                yield repr(value), f"repr of {name} in {code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def named(name: str) -> Any:
    """The command, with what it takes."""
    return next(command for command in COMMANDS if command.name == name)
