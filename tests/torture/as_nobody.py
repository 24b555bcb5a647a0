"""``python -m torture.as_nobody FOLDER``: the hostile archives restored by a user without any privilege. Prints how many; exits 1 at the first escape.

A process of its own gives its privileges up for good. It has restored once before, as the one that it was: what Python imports on first use
may lie where nobody may read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torture import test_hostile_archives as hostile

from asyncdup.testing.simulation import simulate

NOBODY = 65534


def main() -> None:
    """As the module says."""
    home = Path(sys.argv[1])
    restore(home / "before", "control: all kinds", force=False)
    mine = home / "after"
    mine.mkdir()
    os.chown(mine, NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    for number, name in enumerate(hostile.CASES):
        for force in (False, True):
            restore(mine / f"{number}-{force}", name, force=force)
    mutations = hostile.MUTATED // 4
    for number, sets in enumerate(hostile.mutated(mutations, "nobody")):
        restore(mine / f"mutated-{number}", sets, force=number % 2 == 0)
    print(f"{2 * len(hostile.CASES)} cases and {mutations} mutations as user {os.geteuid()}")


def restore(folder: Path, what: str | hostile.Sets, *, force: bool) -> None:
    """A case by its name, or any archive, in a folder of its own."""
    folder.mkdir()
    if isinstance(what, str):
        simulate(1, lambda rng: hostile.attempt(what, folder, rng, force=force))
    else:
        simulate(1, lambda rng: hostile.restored_inside(what, folder, rng, force=force))


if __name__ == "__main__":
    main()
