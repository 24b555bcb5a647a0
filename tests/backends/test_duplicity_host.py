"""Backend classes in a process of their own, with a small package in the place of duplicity: errors, hangs, deaths, settings, secrets."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from asyncdup.backends.blocking import BlockingAdapter
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.duplicity import find as duplicity_find
from asyncdup.backends.duplicity.backend import _HOST
from asyncdup.backends.duplicity.find import find_python, interpreter_of
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.errors import AsyncdupError, NotFound, OperatorError, PermanentError, RetryableError, UsageError

pytestmark = pytest.mark.realtime

SECRET = "canary-4711"

PACKAGE = {
    "__init__.py": "__version__ = '9.9'",
    "log.py": "def setup(): pass",
    "config.py": """
num_retries, backend_retry_delay, timeout, ssh_options = 5, 30, 30, ''
s3_use_sse, s3_multipart_chunk_size, par2_volumes, azure_max_connections = False, 20 << 20, 1, None
ftp_connection, fakeroot, imap_mailbox, ssl_cacert_file, b2_hide_files = 'passive', None, 'INBOX', None, False
""",
    "path.py": """
import os
class Path:
    def __init__(self, name):
        assert isinstance(name, bytes)
        self.name = os.fsdecode(name)
""",
    "backend.py": """
_backends, _backend_prefixes = {}, {}
class BackendException(Exception):
    def __init__(self, text, code=50):
        super().__init__(text)
        self.code = code
def get_backend_object(url):
    return _backends[url.partition('://')[0]](url)
""",
    "backends/__init__.py": "",
    "backends/needybackend.py": "import no_such_sdk\nregister('needy')",
    "backends/foobackend.py": """
import json, os, shutil, subprocess, sys, time
from duplicity import backend, config
class Foo:
    def __init__(self, url):
        self.url = url
        self.folder = os.environ['FOLDER']
        shown = {name: value for name, value in vars(config).items() if not name.startswith('_')}
        shown['password'] = os.environ.get('BACKEND_PASSWORD')
        shown['passphrase'] = os.environ.get('PASSPHRASE')
        with open(self.folder + '.json', 'w') as file:
            json.dump(shown, file)
    def _put(self, path, name):
        assert isinstance(name, bytes)
        print('putting with', self.url)
        what = name.decode('utf-8', 'surrogateescape')
        if what == 'hang':
            subprocess.Popen(['sleep', '1000'])
            time.sleep(1000)
        if what == 'die':
            print('no more', self.url)
            sys.stdout.flush()
            os._exit(3)
        if what == 'quit':
            sys.exit(50)
        if what == 'ask':
            input('Password: ')
        if what == 'denied':
            raise backend.BackendException('no ' + self.url, 51)
        if what == 'full':
            raise backend.BackendException('full', 53)
        if what == 'space':
            raise OSError(28, 'No space left')
        if what == 'bug':
            raise TypeError('a bug')
        if what == 'login':
            raise backend.BackendException('Authentication failed for ' + self.url)
        if what == 'flaky':
            raise backend.BackendException('flaky ' + self.url)
        shutil.copyfile(path.name, os.path.join(self.folder, what))
    def _get(self, name, path):
        shutil.copyfile(os.path.join(os.fsencode(self.folder), name), path.name)
    def _list(self):
        return os.listdir(os.fsencode(self.folder))
    def _delete(self, name):
        if not os.path.exists(os.path.join(os.fsencode(self.folder), name)):
            raise backend.BackendException('gone')
        os.unlink(os.path.join(os.fsencode(self.folder), name))
    def _query(self, name):
        try:
            return {'size': os.path.getsize(os.path.join(os.fsencode(self.folder), name))}
        except OSError:
            return {'size': -1}
    def _error_code(self, verb, error):
        return 52 if str(error) == 'gone' else None
backend._backends['foo'] = Foo
""",
}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Any]:
    """``async with opened(settings=...) as backend``: at ``duplicity+foo://``."""
    for name, text in PACKAGE.items():
        path = tmp_path / "package" / "duplicity" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "objects").mkdir()
    environ = {
        "PYTHONPATH": str(tmp_path / "package"),
        "FOLDER": str(tmp_path / "objects"),
        "PATH": os.environ["PATH"],
        "PASSPHRASE": SECRET,
    }

    @asynccontextmanager
    async def opened(url: str = f"duplicity+foo://me:{SECRET}@host/x", settings: Any = None, **given: Any) -> AsyncIterator[Any]:
        options = BackendOptions(
            environ=environ, settings={"duplicity_python": sys.executable, **(settings or {})}, tempdir=tmp_path, **given
        )
        backend = open_backend(url, options)
        try:
            yield backend
        finally:
            with anyio.fail_after(60, shield=True):
                await backend.aclose()

    return opened


others: set[psutil.Process] = set()  # children of the test process before the test: servers that last for the session


@pytest.fixture(autouse=True)
def see_others() -> None:
    others.clear()
    others.update(psutil.Process().children(recursive=True))


def hosts() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child not in others and lives(child)]


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("denied", OperatorError, r"no foo://me:\*\*\*@host"),
        ("full", OperatorError, "full"),
        ("space", OperatorError, "No space"),
        ("login", OperatorError, "Authentication failed"),
        ("ask", OperatorError, "EOF"),
        ("bug", PermanentError, "TypeError: a bug"),
        ("flaky", RetryableError, r"flaky foo://me:\*\*\*@host"),
        ("quit", RetryableError, "50"),
        ("die", RetryableError, r"exit code 3\).*no more foo://me:\*\*\*@host"),
    ],
)
async def test_an_error_of_the_class_is_one_of_ours_and_shows_no_password(
    name: str, kind: type[AsyncdupError], says: str, opened: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Section 3, P15. And the next call works, in a new process if need be."""
    caplog.set_level(logging.INFO)
    async with opened() as backend:
        with pytest.raises(AsyncdupError, match=f"(?s){says}") as caught:
            await backend.put(name, BytesBody(b"x"))
        assert type(caught.value) is kind
        assert getattr(caught.value, "space", False) == (name in ("full", "space"))
        await backend.put("after", BytesBody(b"abc"))
        assert (await backend.stat("after")).size == 3

    assert "putting with" in caplog.text, "what a class prints is logged, and disturbs nothing"
    assert SECRET not in caplog.text + str(caught.value) + repr(caught.value.__cause__) + repr(backend) + backend.description
    assert hosts() == []


async def test_what_is_absent_is_not_found_and_deleting_it_succeeds(opened: Callable[..., Any]) -> None:
    async with opened() as backend:
        await backend.delete("absent")
        with pytest.raises(NotFound):
            await backend.stat("absent")
        with pytest.raises(NotFound):
            async with backend.get("absent"):
                pass


async def test_t5_a_cancelled_call_is_killed_with_all_that_it_started_and_the_next_has_a_process_of_its_own(
    opened: Callable[..., Any],
) -> None:
    async with opened() as backend:
        await backend.put("before", BytesBody(b"x"))
        (before,) = hosts()
        with anyio.move_on_after(0.2) as scope:
            await backend.put("hang", BytesBody(b"x"))
        assert scope.cancelled_caught
        with anyio.fail_after(60):
            await backend.wait_idle()
            await backend.put("after", BytesBody(b"x"))
            while len(hosts()) > 1:
                await anyio.sleep(0.02)
        (after,) = hosts()
        assert after.pid != before.pid
    assert hosts() == []


@pytest.mark.parametrize("number", [None, 3])
async def test_s8_one_call_at_a_time_unless_the_user_asks_for_more_instances(number: int | None, opened: Callable[..., Any]) -> None:
    async with opened(backend_concurrency=number) as backend:
        assert backend.supports_concurrency() == (number is not None)
        assert backend.capabilities().max_concurrency == (number or 1)
        async with anyio.create_task_group() as tasks:
            for count in range(6):
                tasks.start_soon(backend.put, f"object{count}", BytesBody(b"x" * 1000))
        assert 1 <= len(hosts()) <= (number or 1)
        async with backend.list() as infos:
            assert len([info async for info in infos]) == 6


async def test_settings_reach_the_class_as_its_own_command_line_would_set_them(opened: Callable[..., Any], tmp_path: Path) -> None:
    settings = {
        "s3_use_server_side_encryption": True,
        "s3_multipart_chunk_size": "30",
        "par2_volumes": "7",
        "azure_max_connections": "4",
        "ftp_regular": True,
        "idr_fakeroot": "/fake",
        "imap_mailbox": "Backups",
        "ssl_cacert_file": "/ca.pem",
        "b2_hide_files": True,
        "s3_profile": "ours alone",
    }
    async with opened(settings=settings, password=SECRET, timeout=41.2, ssh_options=("-oPort=22",), known_hosts=Path("/known")) as backend:
        await backend.put("x", BytesBody(b"x"))

    shown = json.loads((tmp_path / "objects.json").read_text())
    assert shown == {
        "num_retries": 1,
        "backend_retry_delay": 0,
        "timeout": 41,
        "ssh_options": "-oUserKnownHostsFile=/known -oPort=22",
        "s3_use_sse": True,
        "s3_multipart_chunk_size": 30 << 20,
        "par2_volumes": 7,
        "azure_max_connections": 4,
        "ftp_connection": "regular",
        "fakeroot": "/fake",
        "imap_mailbox": "Backups",
        "ssl_cacert_file": "/ca.pem",
        "b2_hide_files": True,
        "password": SECRET,
        "passphrase": None,
    }


async def test_a_scheme_that_only_duplicity_has_works_without_the_prefix_and_is_said_once(opened: Callable[..., Any]) -> None:
    said: list[str] = []
    async with opened("foo://host/x", notify=said.append, backend_concurrency=2) as backend:
        assert said == [], "nothing was started yet"
        await backend.put("x", BytesBody(b"x"))
        await backend.put("y", BytesBody(b"x"))
    assert len(said) == 1 and "foo://" in said[0] and "9.9" in said[0]


async def test_a_scheme_that_nobody_has_is_an_error_that_names_those_there_are(opened: Callable[..., Any]) -> None:
    async with opened(f"sfpt://me:{SECRET}@host/x") as backend:
        with pytest.raises(UsageError, match="unknown scheme sfpt://") as caught:
            await backend.put("x", BytesBody(b"x"))
    assert "did you mean sftp://" in str(caught.value.hint) and "foo" in str(caught.value.hint)
    assert SECRET not in str(caught.value)


async def test_a_missing_package_of_a_class_is_named(opened: Callable[..., Any]) -> None:
    async with opened("duplicity+needy://host/x") as backend:
        with pytest.raises(UsageError, match="needs the Python package no_such_sdk") as caught:
            await backend.put("x", BytesBody(b"x"))
    assert f"{sys.executable} -m pip install no_such_sdk" in str(caught.value.hint)


async def test_a_python_without_duplicity_is_an_error_that_names_the_command(opened: Callable[..., Any], tmp_path: Path) -> None:
    options = BackendOptions(settings={"duplicity_python": sys.executable}, tempdir=tmp_path)
    backend = open_backend("duplicity+foo://host/x", options)
    with pytest.raises(UsageError, match="has no duplicity") as caught:
        await backend.put("x", BytesBody(b"x"))
    await backend.aclose()
    assert "pip install duplicity" in str(caught.value.hint)


def test_a_host_whose_master_is_gone_ends_in_the_middle_of_a_call(opened: Callable[..., Any], tmp_path: Path) -> None:
    """X5: a put that went on after kill -9 would meet the next run."""
    environ = {"PYTHONPATH": str(tmp_path / "package"), "FOLDER": str(tmp_path / "objects"), "PATH": os.environ["PATH"]}
    words = [sys.executable, os.fspath(_HOST)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, start_new_session=True
    ) as host:
        assert host.stdin and host.stdout
        opening = {"url": "foo://x", "scheme": "foo", "module": None, "password": None, "timeout": 1, "ssh_options": "", "settings": {}}
        for request in ({"verb": "open", **opening}, {"verb": "put", "name": "hang", "path": "/dev/null", "first": True}):
            host.stdin.write(json.dumps(request).encode() + b"\n")
            host.stdin.flush()
        assert "ok" in json.loads(host.stdout.readline())
        while not psutil.Process(host.pid).children():
            time.sleep(0.01)
        host.stdin.close()
        assert host.wait(60) == -signal.SIGKILL


def test_without_duplicity_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(duplicity_find, "_is_ours", lambda: False)
    environ = {"PATH": str(tmp_path)}
    with pytest.raises(UsageError, match="duplicity is not installed") as caught:
        open_backend("duplicity+rsync://host::/module", BackendOptions(environ=environ))
    assert "pip install duplicity" in str(caught.value.hint)
    with pytest.raises(UsageError, match="unknown scheme"):
        open_backend("rsync://host/x", BackendOptions(environ=environ))


@pytest.mark.parametrize(
    "script",
    [
        "#!{python}\nimport duplicity\n",
        "#!{python} -sP\n",
        "#!/usr/bin/env python3\n",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_the_program_on_the_path_tells_its_python(script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(duplicity_find, "_is_ours", lambda: False)
    python = tmp_path / "python3"
    program = tmp_path / "duplicity"
    program.write_text(script.format(python=python))
    for path in (python, program):
        path.touch()
        path.chmod(0o755)
    assert find_python({"PATH": str(tmp_path)}) == str(python)


@pytest.mark.parametrize("script", [b"\x7fELF...", b"", b"#!/bin/sh\nexec snap run duplicity\n", b"#!/no/such/python\n"])
def test_a_program_that_is_no_python_script_tells_nothing(script: bytes, tmp_path: Path) -> None:
    (tmp_path / "duplicity").write_bytes(script)
    assert interpreter_of(tmp_path / "duplicity", {"PATH": ""}) is None


async def test_a_foreign_url_is_handed_on_as_it_is(opened: Callable[..., Any]) -> None:
    async with opened("duplicity+rsync://host::/mod:ule?x=y") as backend:
        assert isinstance(backend, BlockingAdapter)
        assert backend.description == "duplicity+rsync://host::/mod:ule?x=***"
