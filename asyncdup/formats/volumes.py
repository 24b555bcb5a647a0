"""When a volume ends (format specification, section 6): pure functions of bytes. Where a set's volumes begin and end is told by its manifest."""

from __future__ import annotations

from enum import Enum
from typing import Final

from asyncdup.errors import UsageError

MIB: Final = 1 << 20
MARGIN: Final = 51200  # bytes below the volume size where stock duplicity aims: room for the end of the tar and of the codec's stream
GPG_MARGIN: Final = 16384  # bytes more of it in encrypted volumes
MIN_ROOM: Final = (
    65536 + 1536
)  # bytes for one more member: a full part with its header and a usual pax header; longer ones take from MARGIN
PIECE: Final = MIB  # most plain bytes handed to a codec at once
MIN_VOLSIZE: Final = MARGIN + GPG_MARGIN + MIN_ROOM  # a smaller volume would hold no member, and the set would never end


class Drain(Enum):
    """The answer "ask again when the codec has written what it was given"."""

    DRAIN = "drain"


DRAIN: Final = Drain.DRAIN


def target_size(volsize: int, *, encrypted: bool) -> int:
    """Stored bytes that a volume of at most ``volsize`` bytes is filled up to.

    Raises:
        UsageError: ``volsize`` is too small for a single member; with 0, stock duplicity writes empty volumes for ever.
    """
    if volsize < MIN_VOLSIZE:
        raise UsageError(f"a volume size of {volsize} bytes is too small", hint=f"take at least {MIN_VOLSIZE} bytes; usual are 200 MiB")
    return volsize - MARGIN - (GPG_MARGIN if encrypted else 0)


def room(target: int, written: int) -> int:
    """Stored bytes that a volume with ``written`` bytes can still take, but for its end."""
    return max(0, target - written)


def next_piece(target: int, written: int, pending: int = 0) -> int | Drain | None:
    """How many plain bytes may be handed to the codec next: at most PIECE; None: end the volume; DRAIN: drain the codec and ask again.

    ``written`` are stored bytes so far, ``pending`` plain bytes handed over and not yet counted in it; these are taken as if they did not
    shrink, so the volume stays below its target whatever the data. Waiting for the codec is asked for near the target only.
    """
    if room(target, written + pending) >= PIECE:
        return PIECE
    if pending:
        return DRAIN
    left = room(target, written)
    return left if left >= MIN_ROOM else None
