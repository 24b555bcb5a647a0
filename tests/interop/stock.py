"""Stock duplicity 3.2.1 as a program to be compared with: where it is, and how its commands are run quickly."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

VERSION = "3.2.1"

# The program as it is, loaded once: each command is a fork of it. That costs a third of a start's CPU time.
_SERVER = """
import json, os, sys, time
from duplicity.__main__ import dup_run

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.clear()
        os.environ.update(job["environ"])
        time.tzset()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(job["output"], os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        sys.argv = ["duplicity", *job["words"]]
        sys.exit(dup_run())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def find_python(root: Path, environ: Mapping[str, str]) -> Path | None:
    """The Python that has stock duplicity: ``ASYNCDUP_STOCK``, or ``.stock/bin/python`` below ``root``."""
    python = Path(environ.get("ASYNCDUP_STOCK") or root / ".stock/bin/python")
    return python if python.exists() and python.with_name("duplicity").exists() else None


class Failed(AssertionError):
    """Stock ended with another exit code than expected."""

    def __init__(self, words: tuple[str, ...], code: int, output: str) -> None:
        super().__init__(f"duplicity {' '.join(words)} ended with {code}:\n{output}")
        self.code = code
        self.output = output


class Stock:
    """Runs stock's commands, one at a time. ``home``: its home, also for temporary files."""

    def __init__(self, python: Path, home: Path) -> None:
        self.python = python
        self.home = home
        self._environ = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self._server = subprocess.Popen(
            [python, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environ,
            cwd=home,
            text=True,
        )

    def __call__(self, *words: str, code: int = 0, **environ: str) -> str:
        """Run ``duplicity WORDS`` with ``environ`` added and return what it printed. Raises Failed unless it ends with ``code``."""
        ended, printed = self.run(*words, **environ)
        if ended != code:
            raise Failed(words, ended, printed)
        return printed

    def run(self, *words: str, **environ: str) -> tuple[int, str]:
        """Run ``duplicity WORDS`` with ``environ`` added: the exit code, and what it printed."""
        assert self._server.stdin is not None and self._server.stdout is not None
        with tempfile.NamedTemporaryFile(dir=self.home) as output:
            job = {"words": words, "environ": self._environ | self._gnupg() | environ, "output": output.name}
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            answer = self._server.stdout.readline()
            printed = output.read().decode("utf-8", "surrogateescape")
        return int(answer or -1), printed

    def program(self, *words: str) -> str:
        """Run the program itself, in a process of its own."""
        done = subprocess.run([self.python.with_name("duplicity"), *words], env=self._environ, capture_output=True, text=True, check=True)
        return done.stdout

    def close(self) -> None:
        """End the process."""
        with self._server:
            pass  # closes its input, which ends it, and waits

    @staticmethod
    def _gnupg() -> dict[str, str]:
        return {"GNUPGHOME": os.environ["GNUPGHOME"]} if "GNUPGHOME" in os.environ else {}


def is_version(program: str) -> bool:
    """Whether ``--version`` said that it is the one that the format is specified by."""
    return program.split()[1:2] == [VERSION]
