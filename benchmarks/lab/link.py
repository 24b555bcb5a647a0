"""What a link is like. Sizes in bytes, times in seconds, rates in bytes/s."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One direction.

    Attributes:
        delay: from end to end.
        rate: of IP bytes, headers included; 0 = no limit.
        queue: bytes that wait for a link that is busy; what comes beyond them is dropped.
        loss: probability for each packet of the size of the MTU, acknowledgements too.
        jitter: at most so much is added to the delay, at random; packets keep their order.
    """

    delay: float = 0.0
    rate: float = 0.0
    queue: int = 1_000_000
    loss: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if min(self.delay, self.rate, self.queue, self.loss, self.jitter) < 0 or self.loss > 1:
            raise ValueError(f"such a direction of a link cannot be: {self}")

    def record(self) -> dict[str, Any]:
        """For the emulator."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Both directions; ``up`` is from client to server."""

    up: Way = field(default_factory=Way)
    down: Way = field(default_factory=Way)

    @classmethod
    def of(cls, *, rtt: float = 0.0, **both: Any) -> Self:
        """The same each way, half of ``rtt`` there and half back; the rest as of ``Way``."""
        way = Way(delay=rtt / 2, **both)
        return cls(up=way, down=way)

    @property
    def rtt(self) -> float:
        """The mean time there and back of a small packet on an idle link."""
        return self.up.delay + self.down.delay + (self.up.jitter + self.down.jitter) / 2

    def cut(self) -> Self:
        """The same link with nothing getting through."""
        return replace(self, up=replace(self.up, loss=1.0), down=replace(self.down, loss=1.0))
