"""One target, written and read by us and by stock duplicity in turn, and what every backup of it must restore."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from interop.stock import Stock
from interop.trees import IS_ROOT, Listing, listing, remove

from asyncdup.codecs import Encryption
from asyncdup.commands.backup import BackupResult, backup
from asyncdup.commands.options import Options
from asyncdup.commands.restore import restore
from asyncdup.commands.verify import verify
from asyncdup.events import Event, EventHub, Notice, Warning
from asyncdup.formats.names import Prefixes

T = TypeVar("T")
Who = Literal["us", "stock"]

START, DAY = 1_700_000_000, 86_400  # seconds: 20231114T221320Z, the time of the first backup
PASSPHRASE = "asyncdup-test"
KEY = "FD9DF1B3EA30AE07"  # the TEST key of fixtures/pubkey-signed


@dataclass(frozen=True)
class Form:
    """How an archive is stored, in our options and in the words and environment of stock's command line."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ("--no-encryption",)
    environ: Mapping[str, str] = field(default_factory=dict)

    def with_prefixes(self) -> Form:
        """The same with a prefix for each kind of file."""
        words = ("--file-prefix", "P-", "--file-prefix-archive", "a_", "--file-prefix-manifest", "m_", "--file-prefix-signature", "s_")
        return replace(
            self,
            name=f"{self.name}, prefixes",
            options={**self.options, "prefixes": Prefixes("P-", "a_", "m_", "s_", "j_")},
            words=(*self.words, *words),
        )


_FAST = ("--s2k-count", "1024")  # of the symmetric key: it makes no difference here, but for 0.1 s a file
PLAIN = Form("plain")
BARE = Form("bare", {"compression": False}, ("--no-encryption", "--no-compression"))
SYMMETRIC = Form(
    "symmetric",
    {"encryption": Encryption(passphrase=PASSPHRASE, gpg_options=_FAST)},
    (f"--gpg-options={' '.join(_FAST)}",),
    {"PASSPHRASE": PASSPHRASE},
)
SIGNED = Form(
    "signed",
    {"encryption": Encryption(passphrase=PASSPHRASE, sign_passphrase=PASSPHRASE, recipients=(KEY,), sign_key=KEY)},
    ("--encrypt-key", KEY, "--sign-key", KEY),
    {"PASSPHRASE": PASSPHRASE, "SIGN_PASSPHRASE": PASSPHRASE},
)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """One command of ours, from its beginning to its end."""
    return asyncio.run(coroutine)


class Heard:
    """What a person would have been told."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.warnings: list[str] = []
        self.hub = EventHub(wall=time.time, clock=time.monotonic)
        self.hub.on_event(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.message)
        if isinstance(event, Warning):
            self.warnings.append(event.message)


class Archive:
    """A target folder.

    Attributes:
        source: what is backed up. target, cache: the folders of the archive and of its local copies.
        kept: by the time of each backup, the listing of the source then.
    """

    def __init__(
        self, folder: Path, stock: Stock | None, form: Form = PLAIN, *, one_cache: bool = False, source: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.stock = stock
        self.form = form
        self.source = source or folder / "source"
        self.target = folder / "target"
        self.cache: dict[Who, Path] = {"us": folder / "cache", "stock": folder / ("cache" if one_cache else "cache-of-stock")}
        self.kept: dict[int, Listing] = {}
        self.time = START - DAY
        self.heard = Heard()
        self._numbers = itertools.count()

    @property
    def url(self) -> str:
        return f"file://{self.target}"

    def options(self, **changes: Any) -> Options:
        """Ours, with the clock at the time of the newest backup."""
        clock = float(self.time)
        given = {"archive_dir": self.cache["us"], "name": "c", "tempdir": self.folder, "now": lambda: clock, **self.form.options}
        return Options(**{**given, **changes})

    def words(self) -> tuple[str, ...]:
        """Stock's, for any command."""
        return (*self.form.words, "--archive-dir", str(self.cache["stock"]), "--name", "c", "--no-print-statistics", "--num-retries", "1")

    # Writing. Each backup is a day after the one before.

    def write(self, who: Who, action: str = "backup", **options: Any) -> None:
        """A backup by us or by stock."""
        self.by_us(action, **options) if who == "us" else self.by_stock(action)

    def by_us(self, action: Any = "backup", **options: Any) -> BackupResult:
        """A backup by us. ``options``: changes to ``Options``."""
        self._next_day()
        return run(backup(self.source, self.url, self.options(**options), action=action, events=self.heard.hub))

    def by_stock(self, action: str = "backup", *words: str) -> str:
        """A backup by stock."""
        self._next_day()
        self.target.mkdir(exist_ok=True)
        return self._stock(action, str(self.source), self.url, "--current-time", str(self.time), *words)

    def _next_day(self) -> None:
        self.time += DAY
        self.kept[self.time] = listing(self.source)

    # Reading.

    def read(self, who: Who, time: int | None = None) -> Listing:
        """What a restore gives. ``time`` None: the newest."""
        return self.read_by_us(time) if who == "us" else self.read_by_stock(time)

    def read_by_us(self, time: int | None = None, *, path: str = "", **options: Any) -> Listing:
        """What our restore gives."""
        return self._listed(lambda to: run(restore(self.url, to, self.options(**options), time=time, path=path, events=self.heard.hub)))

    def read_by_stock(self, time: int | None = None) -> Listing:
        """What stock's restore gives."""
        when = () if time is None else ("--restore-time", str(time))
        ownership = () if IS_ROOT else ("--no-restore-ownership",)
        return self._listed(lambda to: self._stock("restore", self.url, str(to), *when, *ownership))

    def _listed(self, restore_to: Callable[[Path], object]) -> Listing:
        to = self.folder / f"restored-{next(self._numbers)}"
        try:
            restore_to(to)
            return listing(to)
        finally:
            remove(to)

    def differences_by_us(self) -> list[str]:
        """What our verify finds, compared with the source as it is."""
        lines: list[str] = []
        result = run(verify(self.url, self.source, self.options(), on_difference=lambda found: lines.append(found.line)))
        assert result.differences == len(lines)
        return lines

    def verified_by_stock(self) -> str:
        """What stock's verify says at its end, with data, against the source as it is."""
        lines = self.say("verify", self.url, str(self.source), "--compare-data").splitlines()
        return next(line for line in lines if line.startswith("Verify complete"))

    def say(self, command: str, *words: str) -> str:
        """What stock prints for any other command."""
        return self._stock(command, *words)

    def _stock(self, *words: str) -> str:
        assert self.stock is not None
        return self.stock(*words, *self.words(), **self.form.environ)

    # What must hold.

    def check(self, *who: Who) -> None:
        """Every backup so far restores, by us and by stock, to what the source was at its time."""
        for reader in who or ("us", "stock"):
            for moment, tree in self.kept.items():
                assert self.read(reader, moment) == tree, f"restored by {reader} as of {moment}"
