"""A real sshd behind a proxy that loses the answer to every fifth rename, when the volume is stored: the client cannot know (I2, P5, P11)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asyncdup.events import AttemptFinished, EpisodeOpened, OpFailed, Reconciled, VolumeStored
from asyncdup.testing.proxy import losing_proxy
from asyncdup.transfer import RetryPolicy
from tests.network.conftest import Place, Sshd
from tests.network.test_main_job import VOLUME, Job

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

LOST = 0.2


class Eyes:
    """Sees volumes appear at the target, and chooses those whose answer is lost. One connection: what the server says next is that answer."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.lost: list[int] = []  # their sizes
        self._folder = folder
        self._rng = random.Random(seed)
        self._seen: set[str] = set()

    def lose(self, _: bytes) -> bool:
        new = {path.name for path in self._folder.glob("*.difftar.gz")} - self._seen if self._folder.exists() else set()
        self._seen |= new
        chosen = [name for name in sorted(new) if self._rng.random() < LOST]
        self.lost += [(self._folder / name).stat().st_size for name in chosen]
        return bool(chosen)


@pytest.mark.parametrize("seed", [1, 2])
async def test_stored_volumes_are_not_sent_again_when_their_answer_is_lost(
    make_sshd: Callable[..., Sshd], tmp_path: Path, seed: int
) -> None:
    """Resent bytes are at most 5 % of what a blind retry sends again, which is every volume whose answer was lost."""
    server = make_sshd()
    eyes = Eyes(server.folder / "target", seed)
    async with losing_proxy(server.port, lose=eyes.lose) as port:
        behind = Place(port, server.folder, server.keys, server.user)
        job = Job(tmp_path, behind, "target", concurrency=1, retry=RetryPolicy(base=0.01, cap=0.05))
        job.backend = replace(job.backend, concurrency=1)
        for number in range(30):
            job.write(f"more{number:02}", random.Random(number).randbytes(VOLUME // 2))

        await job.back_up()
        await job.check()

    volumes = len(job.of(VolumeStored))
    sent = sum(event.bytes for event in job.of(AttemptFinished) if event.verb == "put" and ".difftar." in event.name)
    resent = sent - sum(event.size for event in job.of(VolumeStored))
    assert len(eyes.lost) >= 0.1 * volumes and sum(eyes.lost) > 0
    assert resent <= 0.05 * sum(eyes.lost)
    assert sum(event.done for event in job.of(Reconciled)) == len(eyes.lost)
    assert job.of(OpFailed) == job.of(EpisodeOpened) == []
