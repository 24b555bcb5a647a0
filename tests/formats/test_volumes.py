"""When a volume ends: below its size whatever the data, and never without a member."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup.errors import UsageError
from asyncdup.formats import volumes
from asyncdup.formats.volumes import DRAIN, MIB, MIN_ROOM, MIN_VOLSIZE, PIECE, next_piece

steady = settings(derandomize=True, max_examples=60, deadline=None)  # the same examples in each run


def test_targets_are_those_of_stock() -> None:
    """Format specification, sections 6 and 10.2: fixtures/symmetric-gpg was filled up to 215040 bytes, whatever its data limit."""
    assert volumes.target_size(200 * MIB, encrypted=False) == 200 * MIB - 51200
    assert volumes.target_size(200 * MIB, encrypted=True) == 200 * MIB - 51200 - 16384
    assert volumes.target_size(215040 + 51200, encrypted=True) == 215040 - 16384


@pytest.mark.parametrize("volsize", [-1, 0, 1, MIN_VOLSIZE - 1])
def test_a_volume_size_without_room_is_refused(volsize: int) -> None:
    """Stock writes empty volumes for ever."""
    with pytest.raises(UsageError, match="too small"):
        volumes.target_size(volsize, encrypted=False)


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_smallest_volume_takes_a_member(encrypted: bool) -> None:
    assert next_piece(volumes.target_size(MIN_VOLSIZE, encrypted=encrypted), 0) is not None


@pytest.mark.parametrize(
    ("written", "pending", "expected"),
    [
        (0, 0, PIECE),
        (0, 4 * MIB, PIECE),
        (9 * MIB, 0, PIECE),
        (8 * MIB, MIB, PIECE),
        (9 * MIB, 1, DRAIN),
        (0, 10 * MIB, DRAIN),
        (9 * MIB + 1, 0, MIB - 1),
        (10 * MIB - MIN_ROOM, 0, MIN_ROOM),
        (10 * MIB - MIN_ROOM + 1, 0, None),
        (10 * MIB - MIN_ROOM + 1, 1, DRAIN),
        (10 * MIB, 0, None),
        (11 * MIB, 0, None),
    ],
)
def test_next_piece(written: int, pending: int, expected: object) -> None:
    assert next_piece(10 * MIB, written, pending) == expected


def test_room_is_never_negative() -> None:
    assert volumes.room(100, 30) == 70
    assert volumes.room(100, 130) == 0


@steady
@given(st.integers(MIN_VOLSIZE, 8 * MIB), st.booleans(), st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0]), min_size=1), st.integers(1, 3))
def test_a_volume_fills_up_to_its_target_whatever_the_data(volsize: int, encrypted: bool, ratios: list[float], lag: int) -> None:
    """The codec has up to ``lag`` pieces that are not written yet, and shrinks each by another ratio; it is asked until the volume ends."""
    target = volumes.target_size(volsize, encrypted=encrypted)
    waiting: list[tuple[int, int]] = []
    written = 0
    for turn in range(200):
        answer = next_piece(target, written, sum(plain for plain, _ in waiting))
        if answer is None:
            break
        if isinstance(answer, int):
            assert MIN_ROOM <= answer <= PIECE
            waiting.append((answer, int(answer * ratios[turn % len(ratios)])))
        while waiting and (answer is DRAIN or len(waiting) > lag):
            written += waiting.pop(0)[1]
        assert written + sum(stored for _, stored in waiting) <= target
    else:
        assert min(ratios) < 1.0
        return
    assert not waiting
    assert target - MIN_ROOM < written <= target
