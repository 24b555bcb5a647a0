"""What a restore does about what is at the place of an entry already."""

from __future__ import annotations

import os
from typing import Literal

from asyncdup.formats.tar import Entry

Overwrite = Literal["never", "older", "always"]


class Overwriting:
    """The rule of a restore, and what it came to.

    Attributes:
        rule: ``never``: what is there stays; ``older``: it gives way if it was changed before the archived one; ``always``: it gives way;
            None: it is an error.
        kept, replaced: entries of either fate so far.
    """

    def __init__(self, rule: Overwrite | None) -> None:
        self.rule = rule
        self.kept = 0
        self.replaced = 0

    @property
    def allowed(self) -> bool:
        """Whether there may be anything at all where something is restored to."""
        return self.rule is not None

    @property
    def spares_folders(self) -> bool:
        """Whether folders that are there keep their owner, mode and time."""
        return self.rule in ("never", "older")

    def gives_way(self, name: bytes, folder: int, entry: Entry) -> bool:
        """Whether ``name`` in the folder with that handle is to be replaced by ``entry``. Raises FileExistsError if there is no rule.

        Times are compared as archived ones are: in whole seconds. What is at the end of a symlink does not matter.
        """
        if self.rule is None:
            raise FileExistsError(17, "File exists")
        if self.rule == "older":
            return int(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime) < entry.mtime
        return self.rule == "always"
