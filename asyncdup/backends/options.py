"""What every backend is given besides its URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncdup.backends.urls import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What every factory is given besides the location. A backend takes what concerns it.

    Attributes:
        timeout: seconds without progress after which a call is given up (T3).
        concurrency: how many calls the engine will make at once, as a hint for sizing connections; None = not known.
        expected: how many it will make at once soon after the first one, which is what connections may be dialled for ahead; None = ``concurrency``.
        ssh_options: as given to ``ssh`` (``-oPort=22``, ``-i FILE``), in order.
        known_hosts: file with the host keys to trust; None = the usual ones.
        password: given apart from the URL.
        environ: the environment of the process, handed in so that nobody reaches for it.
        tempdir: folder for spooled bodies; None = the system's.
        backend_concurrency: how many instances of a legacy class to run at once; None = as many as it says it can.
        settings: options of single backends by stock's names with underscores (``s3_region_name``), text of the value or True for a flag.
        notify: tells the user something worth knowing once.
    """

    timeout: float = 60.0
    concurrency: int | None = None
    expected: int | None = None
    ssh_options: tuple[str, ...] = ()
    known_hosts: Path | None = None
    password: str | None = field(default=None, repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    tempdir: Path | None = None
    backend_concurrency: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    notify: Callable[[str], None] = field(default=lambda message: None, repr=False)

    def password_for(self, location: Location) -> str | None:
        """The password to log in with: the URL's, ours, ``BACKEND_PASSWORD`` or ``FTP_PASSWORD``, in this order (stock's: section 3)."""
        given = (location.password, self.password, self.environ.get("BACKEND_PASSWORD"), self.environ.get("FTP_PASSWORD"))
        return next((password for password in given if password), None)
