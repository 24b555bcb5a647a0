"""Second attempts at late gets, in the simulation that docs/distance.md tells of (H1, H2)."""

from __future__ import annotations

import pytest

from benchmarks.simulated.__main__ import read_table
from benchmarks.simulated.late import brown_out, read, stragglers

OBJECTS = 600


def test_h1_the_longest_waits_for_the_next_object_fall_to_a_third() -> None:
    """2 % of the gets take ten times as long."""
    without, with_them = (read(stragglers, hedge=hedge, objects=OBJECTS) for hedge in (False, True))
    assert with_them.wait(0.99) * 3 <= without.wait(0.99)
    assert with_them.seconds < without.seconds
    assert with_them.more_requests <= 0.05 and with_them.more_bytes <= 0.05
    assert without.gets == OBJECTS and "| stragglers |" in read_table([without, with_them])


def test_h2_a_target_that_is_slow_as_a_whole_is_not_asked_twice() -> None:
    """For two minutes every get takes ten times as long."""
    without, with_them = (read(brown_out, hedge=hedge, objects=OBJECTS) for hedge in (False, True))
    assert with_them.hedges <= 0.05 * OBJECTS / 5
    assert with_them.more_bytes <= 0.05
    assert with_them.seconds <= without.seconds * 1.02 == pytest.approx(without.seconds, rel=0.03)
