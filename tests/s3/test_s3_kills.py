"""Kill -9 in the middle of a put or of an upload in parts: the next run goes on, nothing half is seen, and ``cleanup`` leaves no upload (X5)."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import anyio
import pytest

from asyncdup.backends.s3.backend import S3Backend
from asyncdup.testing.httpfaults import Exchange, FaultProxy, fault_proxy, passed
from tests.s3.conftest import Place

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

PART = 5 << 20  # bytes

# A run that puts a volume in parts and meets its end in the second one.
_UPLOADER = f"""
import asyncio, os, sys
from asyncdup.backends.bodies import BytesBody
from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend

async def main():
    backend = open_backend(sys.argv[1], BackendOptions(environ=os.environ, settings={{"s3_endpoint_url": sys.argv[2]}}))
    whole = BytesBody(bytes({PART} + 1000))
    for name in sys.argv[3:]:
        upload = await backend.begin_parts(name, whole)
        await backend.put_part(name, upload, 1, BytesBody(bytes({PART})))
    await backend.put_part(name, upload, 2, BytesBody(bytes(1000)))

asyncio.run(main())
"""


class Program:
    """Our command line, at a place."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        self._environ = {"PATH": os.environ["PATH"], **place.environment}

    async def __call__(self, *words: str, check: bool = True) -> str:
        done = await anyio.run_process([*self._argv(*words)], env=self._environ, check=False)
        output = (done.stdout + done.stderr).decode()
        assert not check or done.returncode == 0, output
        return output

    async def killed(self, at: anyio.Event, argv: list[str]) -> None:
        """Start ``argv`` and kill it as soon as ``at`` is set."""
        with open(self.folder / "output", "wb") as output, anyio.fail_after(240):
            process = await anyio.open_process(argv, env=self._environ, stdout=output, stderr=output)
            await at.wait()
            process.send_signal(signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL, (self.folder / "output").read_text()

    async def backup_killed(self, at: anyio.Event, *words: str) -> None:
        await self.killed(at, self._argv("backup", str(self.source), self.place.url, *words))

    def _argv(self, *words: str) -> list[str]:
        common = ["--archive-dir", str(self.folder / "cache"), "--tempdir", str(self.folder), "--s3-endpoint-url", self.place.endpoint]
        return [sys.executable, "-m", "asyncdup", *words, *common, "--num-retries=2", "--backend-retry-delay=1"]

    async def check(self) -> None:
        target = self.folder / "restored"
        await self("restore", self.place.url, str(target), "--no-encryption", "--name=without-cache")
        assert {path.name: path.read_bytes() for path in target.iterdir()} == {
            path.name: path.read_bytes() for path in self.source.iterdir()
        }


def hold(proxy: FaultProxy, operations: set[str], *, number: int) -> anyio.Event:
    """Let the ``number``-th of such requests come to the middle of its body, say so, and keep it there."""
    met = anyio.Event()

    async def held(exchange: Exchange) -> None:
        await exchange.read(1000)
        met.set()
        await anyio.sleep_forever()

    proxy.on(lambda seen: seen.operation in operations, passed, times=number - 1)
    proxy.on(lambda seen: seen.operation in operations, held, times=None)
    return met


async def uploads(backend: S3Backend) -> list[str]:
    return [upload.name for upload in await backend.list_uploads()]


async def names(backend: S3Backend) -> list[str]:
    async with backend.list() as infos:
        return [info.name async for info in infos]


@pytest.mark.parametrize(("volsize", "number"), [(1, 3), (12, 1), (12, 2)])
async def test_a_backup_that_is_killed_in_the_middle_of_a_put_is_gone_on_with(
    moto_place: Place, tmp_path: Path, volsize: int, number: int
) -> None:
    """X5, P2: a volume of 12 MiB may go in parts, so the same holds for these."""
    async with fault_proxy(moto_place.endpoint) as proxy:
        program = Program(moto_place.through(proxy.url), tmp_path)
        for each in range(2):
            (program.source / f"file{each}").write_bytes(random.Random(each).randbytes((volsize + 1) << 20 if volsize > 1 else 2_500_000))
        met = hold(proxy, {"PutObject", "UploadPart"}, number=number + 1)  # the first one is the lock

        await program.backup_killed(met, "--no-encryption", f"--volsize={volsize}")
        proxy.clear()
        await program("backup", str(program.source), program.place.url, "--no-encryption", f"--volsize={volsize}")

        await program.check()
        await program("cleanup", program.place.url, "--force", "--no-encryption")
        backend = moto_place.backend()
        try:
            assert await uploads(backend) == []
            found = await names(backend)
        finally:
            await backend.aclose()
        assert not [name for name in found if name.startswith(".asyncdup-")]
        assert sum("full" in name and "manifest" in name for name in found) == 1


async def test_cleanup_gives_up_the_uploads_of_killed_runs_and_no_others(moto_place: Place, tmp_path: Path) -> None:
    """Parts that nobody completes cost money for ever; what is no backup's is not ours."""
    volume, foreign = "duplicity-full.20231114T221320Z.vol1.difftar.gz", "holiday.mpeg"
    async with fault_proxy(moto_place.endpoint) as proxy:
        program = Program(moto_place.through(proxy.url), tmp_path)
        (program.source / "file").write_bytes(b"x")
        await program("backup", str(program.source), program.place.url, "--no-encryption")
        met = hold(proxy, {"UploadPart"}, number=3)
        await program.killed(met, [sys.executable, "-c", _UPLOADER, program.place.url, proxy.url, foreign, volume])
        proxy.clear()
        backend = moto_place.backend()
        try:
            assert sorted(await uploads(backend)) == [volume, foreign]

            listed = await program("cleanup", program.place.url, "--no-encryption")
            assert volume in listed and foreign not in listed
            assert sorted(await uploads(backend)) == [volume, foreign], "without --force it only says so"
            await program("cleanup", program.place.url, "--force", "--no-encryption")

            assert await uploads(backend) == [foreign]
            assert volume not in await names(backend)
        finally:
            await backend.aclose()
        await program.check()


def parts_sent(proxy: FaultProxy) -> list[str]:
    """Numbers of the parts of volumes whose requests were answered well, in order."""
    return [seen.query["partNumber"] for seen in proxy.seen if "partNumber" in seen.query and seen.method == "PUT" and seen.status == 200]


def noted_parts(folder: Path) -> int:
    """Parts that the journal speaks of."""
    return sum(b'"part": [' in line for path in folder.glob("cache/**/asyncdup-journal-*T*Z") for line in path.read_bytes().split(b"\n"))


async def backup_killed_at_the_third_part(program: Program, proxy: FaultProxy) -> None:
    """Two of three parts of the one volume are there, and noted."""
    (program.source / "file").write_bytes(random.Random(7).randbytes(18 << 20))
    met, noted = hold(proxy, {"UploadPart"}, number=3), anyio.Event()

    async def wait_until_noted() -> None:
        await met.wait()
        while noted_parts(program.folder) < 2:
            await anyio.sleep(0.02)
        noted.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_until_noted)
        await program.backup_killed(noted, "--no-encryption", "--volsize=40", "--concurrency=1")
    assert parts_sent(proxy) == ["1", "2"]
    proxy.clear()


@pytest.mark.parametrize("server", ["moto_place", "weed_place"])
async def test_a_backup_that_is_killed_between_parts_goes_on_from_them(server: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """X5, Q4: of a volume in three parts, of which two are there, the next run sends the third."""
    place: Place = request.getfixturevalue(server)
    async with fault_proxy(place.endpoint) as proxy:
        program = Program(place.through(proxy.url), tmp_path)
        await backup_killed_at_the_third_part(program, proxy)
        backend = place.backend()
        try:
            (volume,) = await uploads(backend)
            said = await program("cleanup", program.place.url, "--force", "--no-encryption")
            assert f"The upload of {volume} in parts stays" in said
            assert await uploads(backend) == [volume]

            said = await program("backup", str(program.source), program.place.url, "--no-encryption", "--volsize=40")

            assert parts_sent(proxy) == ["1", "2", "3"], said
            assert await uploads(backend) == []
        finally:
            await backend.aclose()
        await program.check()


async def test_without_its_journal_the_upload_is_nobodys_and_cleanup_gives_it_up(moto_place: Place, tmp_path: Path) -> None:
    """X5: as after the loss of the machine that the backup ran on."""
    async with fault_proxy(moto_place.endpoint) as proxy:
        program = Program(moto_place.through(proxy.url), tmp_path)
        await backup_killed_at_the_third_part(program, proxy)
        for path in tmp_path.glob("cache/**/asyncdup-journal-*"):
            path.unlink()
        backend = moto_place.backend()
        try:
            assert len(await uploads(backend)) == 1
            await program("unlock", program.place.url, "--force", check=False)
            said = await program("cleanup", program.place.url, "--force", "--no-encryption")
            assert await uploads(backend) == [], said
        finally:
            await backend.aclose()
