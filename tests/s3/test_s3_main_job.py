"""The main job over S3, by the command line; and stock duplicity at the same target, both ways."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from asyncdup.testing.httpfaults import fault_proxy, stale
from tests.interop.stock import Stock, find_python
from tests.s3.conftest import BUCKET, Place

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

_ROOT = Path(__file__).parents[2]
_PLAIN = ("--no-encryption", "--volsize=1")


class Job:
    """A source, a target, and the two programs that know the way."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.source = folder / "source"
        (self.source / "deep").mkdir(parents=True)
        self._rng = random.Random(4)
        for number in range(8):
            self.write(f"file{number}", 500_000 + 10_000 * number)
        self.write("deep/ümlaut and space", 10)
        self._restored = 0

    def write(self, name: str, size: int) -> None:
        (self.source / name).write_bytes(self._rng.randbytes(size))

    def change(self) -> None:
        """As a day does."""
        self.write("file3", 700_000)
        self.write("new", 1000)
        (self.source / "file5").unlink()

    def ours(self, *words: str, code: int = 0) -> str:
        """Run our program; what it printed."""
        common = ["--archive-dir", str(self.folder / "cache"), "--tempdir", str(self.folder), "--s3-endpoint-url", self.place.endpoint]
        common += ["--concurrency=4", "--num-retries=3", "--backend-retry-delay=1"]
        done = subprocess.run(
            [sys.executable, "-m", "asyncdup", *words, *common],
            env={"PATH": os.environ["PATH"], **self.place.environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def back_up(self, action: str = "backup") -> None:
        self.ours(action, str(self.source), self.place.url, *_PLAIN)

    def check(self, url: str | None = None) -> None:
        """A restore without any cache is the source."""
        self._restored += 1
        target = self.folder / f"restored{self._restored}"
        self.ours("restore", url or self.place.url, str(target), "--no-encryption", f"--name=without-cache-{self._restored}")
        assert contents(target) == contents(self.source)

    async def names(self) -> list[str]:
        backend = self.place.backend()
        try:
            async with backend.list() as infos:
                return [info.name async for info in infos]
        finally:
            await backend.aclose()


def contents(folder: Path) -> dict[str, bytes]:
    """All files below ``folder``."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def job(weed_place: Place, tmp_path: Path) -> Job:
    """On the server that looks closest at what is asked."""
    return Job(weed_place, tmp_path)


@pytest.fixture(scope="session")
def stock_with_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """Stock duplicity with boto3 beside it."""
    python = find_python(_ROOT, os.environ)
    missing = None if python else "stock duplicity 3.2.1 is not here: scripts/test installs it in .stock"
    if python and subprocess.run([python, "-c", "import boto3"], capture_output=True, check=False).returncode:
        missing = f"boto3 is not installed beside stock duplicity ({python} -m pip install boto3)"
    if missing or python is None:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; CI must not skip this")
        pytest.skip(missing)
    program = Stock(python, tmp_path_factory.mktemp("stock"))
    yield program
    program.close()


@pytest.fixture
def stock(stock_with_s3: Stock, job: Job) -> Callable[..., str]:
    """Run stock at the job's target: its URLs have three slashes."""
    place = job.place
    common = ["--s3-endpoint-url", place.endpoint, "--archive-dir", str(job.folder / "cache-of-stock"), "--no-print-statistics"]
    common += ["--num-retries=1", *_PLAIN]

    def run(*words: str) -> str:
        target = [f"boto3+s3:///{BUCKET}/{place.prefix}" if word == "URL" else word for word in words]
        return stock_with_s3(*target, *common, **{**place.environment, "AWS_DEFAULT_REGION": place.environment["AWS_REGION"]})

    return run


async def test_full_and_incremental_come_back(place: Place, tmp_path: Path) -> None:
    """--concurrency=4; the restore has nothing but the bucket."""
    job = Job(place, tmp_path)

    job.back_up("full")
    job.change()
    job.back_up("incremental")

    job.check()
    names = await job.names()
    assert sum("difftar" in name for name in names) >= 5
    assert not [name for name in names if name.startswith(".asyncdup-")]


async def test_a_list_that_lags_behind_ends_a_run_loudly_before_it_writes(moto_place: Place, tmp_path: Path) -> None:
    """P11: a place that does not show the lock that was stored keeps no promise about locks; once it does, the job goes on."""
    async with fault_proxy(moto_place.endpoint) as proxy:
        job = Job(moto_place.through(proxy.url), tmp_path)
        await anyio.to_thread.run_sync(job.back_up)
        before = [name for name in await job.names() if "lock" not in name]
        job.change()
        proxy.on("ListObjects", stale(), times=None)

        said = await anyio.to_thread.run_sync(partial(job.ours, "backup", str(job.source), job.place.url, *_PLAIN, code=23))

        assert "the place does not keep what it is given" in said
        proxy.clear()
        assert await job.names() == before, "no volume, and no lock either"
        await anyio.to_thread.run_sync(job.back_up)
        await anyio.to_thread.run_sync(job.check)


def test_the_spellings_of_stock_mean_the_same_place(job: Job) -> None:
    job.back_up()

    job.check(f"s3:///{BUCKET}/{job.place.prefix}")
    job.check(f"boto3+s3:///{BUCKET}/{job.place.prefix}/")


@pytest.mark.interop
def test_stock_restores_what_we_have_put_in_the_bucket(job: Job, stock: Callable[..., str]) -> None:
    job.back_up()
    job.change()
    job.back_up()

    stock("restore", "URL", str(job.folder / "by-stock"))

    assert contents(job.folder / "by-stock") == contents(job.source)


@pytest.mark.interop
def test_we_restore_and_continue_what_stock_has_put_in_the_bucket(job: Job, stock: Callable[..., str]) -> None:
    stock("full", str(job.source), "URL", "--current-time", "1700000000")
    job.check()
    job.change()
    job.back_up("incremental")

    job.check()
    stock("restore", "URL", str(job.folder / "by-stock"))
    assert contents(job.folder / "by-stock") == contents(job.source)
