"""The screens of the documents, as SVG: the commands that they show are run in a terminal of their own, against a real sshd, and what the terminal then shows
is drawn.

usage: python scripts/screens.py [FOLDER]      default: docs/screens

Needs OpenSSH's sshd and ssh-keygen, GnuPG, and the extra ``docs``.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, LINES = 104, 400
PASSPHRASE = "correct horse battery staple"
SSH = """Host nas
    HostName 127.0.0.1
    HostKeyAlias nas
    Port {port}
    IdentityFile {home}/.ssh/id
"""
SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {home}/.ssh/id.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
LogLevel QUIET
Subsystem sftp internal-sftp -d {folder}/nas
"""


class Terminal:
    """What a person would have before the eyes: lines typed, and what programs wrote."""

    def __init__(self) -> None:
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)

    def type(self, line: str) -> None:
        """A prompt and a line behind it."""
        self.feed(b"\x1b[1;34m$\x1b[0m " + line.encode() + b"\r\n")

    def feed(self, data: bytes) -> None:
        self._stream.feed(data)

    def end_line(self) -> None:
        """What was cut off in the middle of a line must not stand before the next prompt."""
        if self._screen.cursor.x:
            self.feed(b"\r\n")

    def shows(self, text: str) -> bool:
        return any(text in line for line in self._screen.display)

    def text(self) -> Text:
        """All lines down to the last that is not empty."""
        last = max((number for number, line in enumerate(self._screen.display) if line.strip()), default=0)
        lines = [Text().join(Text(char.data, _style(char)) for char in self._row(number)) for number in range(last + 1)]
        return Text("\n").join(lines)

    def _row(self, number: int) -> Iterator[pyte.screens.Char]:
        width = len(self._screen.display[number].rstrip())
        return (self._screen.buffer[number][column] for column in range(width))


def _style(char: pyte.screens.Char) -> Style:
    colour = {"default": None, "brown": "yellow"}.get(char.fg, char.fg)
    return Style(
        color=colour.replace("bright", "bright_") if colour else None, bold=char.bold, italic=char.italics, underline=char.underscore
    )


@dataclass(frozen=True)
class Nas:
    """The other machine: an sshd on loopback that can be switched off."""

    folder: Path
    home: Path
    port: int

    @contextmanager
    def on(self) -> Iterator[subprocess.Popen[bytes]]:
        config = self.folder / "sshd_config"
        config.write_text(SSHD.format(port=self.port, folder=self.folder, home=self.home))
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise SystemExit("there is no sshd (Debian: openssh-server)")
        with subprocess.Popen([program, "-D", "-f", config], start_new_session=True) as server:
            try:
                self._wait()
                yield server
            finally:
                _end(server)

    def _wait(self) -> None:
        for _ in range(400):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.01)
        raise SystemExit("sshd does not listen")


def _end(server: subprocess.Popen[bytes]) -> None:
    """The sessions first: nobody would know them as its children afterwards."""
    subprocess.run(["pkill", "-KILL", "-P", str(server.pid)], check=False)
    server.kill()
    server.wait()


class Story:
    """One home folder, one nas, and the screens that come of them."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.nas = Nas(folder, self.home, _free_port())
        (self.home / ".ssh").mkdir(parents=True)
        (folder / "nas").mkdir()
        self._documents()
        self._keys(folder)
        self._environment = {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "TZ": "UTC",
            "LANG": "C.UTF-8",
            "USER": os.environ.get("USER", "root"),
        }

    def _documents(self) -> None:
        letters = self.home / "Documents" / "letters"
        letters.mkdir(parents=True)
        for year in range(2019, 2027):
            (letters / str(year)).write_text("Dear reader,\n" * 40 * (year - 2018))
        (self.home / "Documents" / "photos").mkdir()
        for number in range(40):
            (self.home / "Documents" / "photos" / f"IMG_{number:04}.jpg").write_bytes(random.Random(number).randbytes(700_000))

    def _keys(self, folder: Path) -> None:
        for key in (folder / "host", self.home / ".ssh" / "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", key], check=True)
        (self.home / ".ssh" / "known_hosts").write_text("nas " + (folder / "host.pub").read_text())
        (self.home / ".ssh" / "config").write_text(SSH.format(port=self.nas.port, home=self.home))

    def run(self, terminal: Terminal, line: str, until: Callable[[Terminal], bool] | None = None) -> None:
        """Type ``line`` and show what comes; with ``until`` the program is ended as soon as the terminal shows what is wanted."""
        terminal.type(line)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        with subprocess.Popen(
            ["bash", "-c", line], stdin=slave, stdout=slave, stderr=slave, env=self._environment, cwd=self.home, start_new_session=True
        ) as process:
            os.close(slave)
            while _read(master, terminal):
                if until is not None and until(terminal):
                    os.killpg(process.pid, signal.SIGKILL)
                    break
        os.close(master)
        terminal.end_line()

    def quietly(self, line: str) -> None:
        """What happened before the screen begins."""
        subprocess.run(["bash", "-c", line], env=self._environment, cwd=self.home, check=True, capture_output=True)


def _read(master: int, terminal: Terminal) -> bool:
    """Feed what has come within a tenth of a second; False at the end."""
    if select.select([master], [], [], 0.1)[0]:
        try:
            terminal.feed(os.read(master, 65536))
        except OSError:  # EIO: nobody holds the other side any more
            return False
    return True


def first_use(story: Story, terminal: Terminal) -> None:
    """From nothing to an encrypted backup and a file that came back."""
    story.quietly(f"mkdir -p .config/asyncdup; echo '{PASSPHRASE}' > .config/asyncdup/passphrase; chmod 600 .config/asyncdup/passphrase")
    story.run(
        terminal,
        "asyncdup init docs --source ~/Documents --target sftp://nas/docs"
        " --passphrase-file ~/.config/asyncdup/passphrase --keep-daily 7 --keep-weekly 4",
    )
    story.run(terminal, "asyncdup run docs")
    story.run(terminal, "asyncdup run docs restore ~/letter-of-2024 --path-to-restore letters/2024")
    story.run(terminal, "head -n 1 letter-of-2024")


def look(story: Story, terminal: Terminal) -> None:
    """What there is, and when it was what."""
    story.quietly("sleep 1; echo 'Yours, me' >> Documents/letters/2026; rm Documents/photos/IMG_0007.jpg; asyncdup run docs")
    story.run(terminal, "asyncdup run docs collection-status")
    story.run(terminal, "asyncdup run docs diff")
    story.run(terminal, "asyncdup run docs history letters/2026")
    story.run(terminal, "asyncdup run docs cat letters/2026 | tail -n 2")
    story.run(terminal, "asyncdup run docs check --read-data")


def progress(story: Story, terminal: Terminal) -> None:
    """A full backup in the middle."""
    story.quietly("rm -rf .cache")
    story.run(
        terminal,
        "asyncdup full ~/Documents sftp://nas/other --no-encryption --volsize 2 --upload-limit 4M",
        until=lambda seen: seen.shows("4 stored"),
    )


def trouble(story: Story, terminal: Terminal) -> None:
    """What is said when something is wrong."""
    story.run(terminal, "PASSPHRASE=wrong asyncdup restore sftp://nas/docs ~/all")
    story.run(terminal, "asyncdup restore sftp://nas/dosc ~/all --no-encryption")
    story.run(terminal, "asyncdup restor sftp://nas/docs ~/all")
    story.run(terminal, "asyncdup full ~/Documents sftp://nas/docs --exlude '*.jpg'")


def intervention(story: Story, terminal: Terminal) -> None:
    """The far end fails, and the run waits for its operator."""
    with story.nas.on() as server:

        def waits(seen: Terminal) -> bool:
            if seen.shows("3 stored"):
                _end(server)
            return seen.shows("(to go on")

        story.run(
            terminal,
            "asyncdup full ~/Documents sftp://nas/more --no-encryption --volsize 2 --upload-limit 6M --num-retries 2 --concurrency 2"
            " --retry-failure-mode=intervention --retry-failure-flag=flag",
            until=waits,
        )
        story.run(terminal, "cat flag; echo")


SCREENS: dict[str, Callable[[Story, Terminal], None]] = {
    "first-use": first_use,
    "look": look,
    "progress": progress,
    "trouble": trouble,
}


def draw(terminal: Terminal, path: Path) -> None:
    """The terminal's text as an SVG file that needs no font of its own."""
    console = Console(width=COLUMNS, record=True, file=open(os.devnull, "w"), color_system="truecolor", force_terminal=True)  # noqa: SIM115
    console.print(terminal.text(), highlight=False, no_wrap=True)
    path.write_text(console.export_svg(title=path.stem, unique_id=path.stem))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    """Draw them all."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "screens")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screens-") as scratch:
        story = Story(Path(scratch))
        with story.nas.on():
            for name, show in SCREENS.items():
                terminal = Terminal()
                show(story, terminal)
                draw(terminal, folder / f"{name}.svg")
        terminal = Terminal()
        intervention(story, terminal)
        draw(terminal, folder / "intervention.svg")


if __name__ == "__main__":
    main()
