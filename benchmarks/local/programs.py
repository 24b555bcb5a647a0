"""How asyncdup and stock duplicity are called: the same words, in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PASSPHRASE = "benchmark"


@dataclass(frozen=True)
class Store:
    """A target and the archive folder that belongs to it."""

    folder: Path

    @property
    def target(self) -> Path:
        """Where the backup sets are."""
        return self.folder / "target"

    def options(self, *, encrypted: bool = False) -> list[str]:
        """What every command on it gets."""
        return [f"--archive-dir={self.folder / 'archive'}", "--name=bench", *([] if encrypted else ["--no-encryption"])]

    @property
    def url(self) -> str:
        """As the programs take it."""
        return f"file://{self.target}"

    def clear(self) -> None:
        """Nothing is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.target.mkdir(parents=True)

    def copy_from(self, other: Store) -> None:
        """It holds what ``other`` holds."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(other.folder, self.folder)


@dataclass
class Program:
    """A contender. ``folder``: all that it writes is below it."""

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: dict[str, str] = field(init=False)
    restores: int = 0

    def __post_init__(self) -> None:
        home, temporary = self.folder / "home", self.folder / "tmp"
        for path in (home, temporary, home / ".gnupg"):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "GNUPGHOME": str(home / ".gnupg"),
            "TMPDIR": str(temporary),
            "LC_ALL": "C.UTF-8",
            "PASSPHRASE": PASSPHRASE,
        }

    def base(self, name: str) -> Store:
        """Where its own full backup of a tree is kept."""
        return Store(self.folder / "base" / name)

    @property
    def scratch(self) -> Store:
        """Where an incremental is made, on a copy of a base."""
        return Store(self.folder / "scratch")

    @property
    def restored(self) -> Path:
        """Where it restores to now."""
        return self.folder / f"restored-{self.restores}"

    def turn_page(self) -> None:
        """The next restore goes elsewhere, and the last one is emptied, but its files stay: ext4 without a journal passes over each inode
        that was freed in the last half minute when it makes a file, so removing them would cost the next contender seconds."""
        for where, _, names in os.walk(self.restored):
            for name in names:
                os.truncate(os.path.join(where, name), 0)
        self.restores += 1

    def end_agents(self) -> None:
        """gpg leaves an agent behind for its home folder: end that one."""
        if shutil.which("gpgconf") and any((self.folder / "home" / ".gnupg").iterdir()):
            subprocess.run(["gpgconf", "--kill", "all"], env=self.environment, check=False, capture_output=True)


def ours() -> tuple[str, ...]:
    """asyncdup of the environment that this runs in: the console script, else the module."""
    script = Path(sys.executable).with_name("asyncdup")
    return (str(script),) if script.exists() else (sys.executable, "-m", "asyncdup")


def version_of(command: tuple[str, ...], environment: Mapping[str, str] | None = None) -> str:
    """What ``--version`` says, its first line; also a warm-up, as byte code is written now."""
    found = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, env=dict(environment or os.environ))
    return (found.stdout or found.stderr).strip().splitlines()[0]
