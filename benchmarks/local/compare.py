"""Whether a restored tree is its source: types, modes, whole seconds of times, link targets, every byte."""

from __future__ import annotations

import filecmp
import os
import stat
from pathlib import Path


class NotTheSame(Exception):
    """A restore that is wrong has no time."""


def same_tree(source: Path, restored: Path) -> None:
    """Raises NotTheSame, naming the first path that differs."""
    _same_entry(source, restored)
    if source.is_dir() and not source.is_symlink():
        names = sorted(os.listdir(source))
        if names != sorted(os.listdir(restored)):
            raise NotTheSame(f"{restored} does not hold the names of {source}")
        for name in names:
            same_tree(source / name, restored / name)


def _same_entry(source: Path, restored: Path) -> None:
    was, now = os.lstat(source), os.lstat(restored)
    if (was.st_mode, int(was.st_mtime)) != (now.st_mode, int(now.st_mtime)):
        raise NotTheSame(f"{restored} has other attributes than {source}")
    if stat.S_ISLNK(was.st_mode) and os.readlink(source) != os.readlink(restored):
        raise NotTheSame(f"{restored} points elsewhere than {source}")
    if stat.S_ISREG(was.st_mode) and not filecmp.cmp(source, restored, shallow=False):
        raise NotTheSame(f"{restored} has other content than {source}")
