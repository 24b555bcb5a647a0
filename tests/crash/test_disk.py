"""The disk that the crash tests watch: what each model of a crash leaves of writes and names that nobody has flushed (M3)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from crash.disk import Disk, Model

from asyncdup.backends import local

OLD, NEW = b"old content", b"new content"
Left = dict[str, bytes]


def left_by(folder: Path, model: Model) -> list[Left]:
    """One file flushed; then one written and renamed over it, and another removed, with no flush."""
    for name in ("kept", "removed"):
        (folder / name).write_bytes(OLD)
    disk = Disk(folder, models=(model,))
    with disk.watched():
        with local.FileIO(str(folder / "temporary"), "xb") as file:
            file.write(NEW)
        os.rename(folder / "temporary", folder / "kept")
        os.unlink(folder / "removed")
    return [{name: kept.data for name, kept in state.folders[0].items()} for state in disk.states]


BEFORE = {"kept": OLD, "removed": OLD}


@pytest.mark.parametrize(
    ("model", "states"),
    [
        (
            "kill",
            [
                {**BEFORE, "temporary": b""},
                {**BEFORE, "temporary": NEW[:5]},
                {**BEFORE, "temporary": NEW},
                {"kept": NEW, "removed": OLD},
                {"kept": NEW},
            ],
        ),
        ("power cut", [BEFORE]),
        ("writes lost", [{**BEFORE, "temporary": b""}, {"kept": b"", "removed": OLD}, {"kept": b""}]),
        ("names lost", [BEFORE]),
        (
            "names reordered",
            [
                {**BEFORE, "temporary": b""},
                {**BEFORE, "temporary": NEW[:5]},
                {**BEFORE, "temporary": NEW},
                {"kept": NEW, "removed": OLD},
                {"kept": OLD},
            ],
        ),
    ],
)
def test_each_model_leaves_what_it_says(model: Model, states: list[Left], tmp_path: Path) -> None:
    assert left_by(tmp_path, model) == states
