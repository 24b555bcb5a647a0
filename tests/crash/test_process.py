"""A real process is killed, interrupted or met by another one; the same command ends right (P1, P2, P10, X4, X5)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from crash.process import Place
from interop.archives import Archive
from interop.stock import Stock
from interop.trees import listing, settle, write

KILLS = int(os.environ.get("ASYNCDUP_KILLS", "20"))  # a nightly run takes more

pytestmark = [pytest.mark.slow, pytest.mark.realtime]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A source of about six volumes."""
    found = Place(tmp_path)
    for number in range(6):
        write(found.source / f"folder{number % 2}/file{number}", random.Random(number).randbytes(900_000))
    settle(found.source, 1_500_000_001)
    return found


def is_restored(place: Place) -> bool:
    archive = Archive(place.folder, None, source=place.source)
    return archive.read_by_us() == listing(place.source)


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_any_moment_and_run_again(place: Place, seed: int) -> None:
    """P1, P2. The source is the same, or changes in between; what was stored is not sent again."""
    rng = random.Random(seed)
    with place.running("full") as run:
        volumes = rng.randrange(5)
        run.wait_for(lambda: place.volumes() >= volumes)
        time.sleep(rng.random() * 0.05)
        run.kill()
    if seed % 2:
        write(place.source / "folder0/file0", b"changed", mtime=1_500_000_002)
        write(place.source / "folder1/file5", random.Random(seed).randbytes(900_001), mtime=1_500_000_002)
        settle(place.source, 1_500_000_003)

    code = (again := place.start("full")).end()

    assert code == 0, again.output
    assert place.left_over() == place.journals() == []
    if seed % 2:
        assert place.start("incremental").end() == 0
    assert is_restored(place)


def test_a_killed_run_leaves_its_temporary_folder_to_the_next_one(place: Place) -> None:
    with place.running("full", latency=0.2) as run:
        run.wait_for(lambda: bool(place.names(place.tempdir)))
        run.kill()
    assert [name[:13] for name in place.names(place.tempdir)] == ["asyncdup-run-"]

    assert place.start("full").end() == 0

    assert place.left_over() == []


def test_ctrl_c_ends_what_is_being_sent_and_keeps_it(place: Place) -> None:
    """X4: the volumes in flight are stored, nothing new is begun, and the run ends long before the time of grace."""
    with place.running("full", "--concurrency=1", "--grace=30", latency=0.5) as run:
        run.wait_for(lambda: place.volumes() >= 1)
        began = time.monotonic()
        run.send(signal.SIGINT)
        code = run.end()

    assert code == 130, run.output
    assert time.monotonic() - began < 20
    assert "the same command goes on from here" in run.output
    assert len(place.journals()) == 3
    assert place.left_over() == []
    stored = place.volumes()
    assert 1 <= stored < 6
    assert f"{stored} of its volumes are at the target" in goes_on(place)


def goes_on(place: Place) -> str:
    """What the same command says, which must end right."""
    run = place.start("full")
    assert run.end() == 0, run.output
    assert place.left_over() == place.journals() == []
    assert is_restored(place)
    return run.output


def test_ctrl_c_ends_with_the_time_of_grace(place: Place) -> None:
    with place.running("full", "--grace=0.2", latency=20.0) as run:
        run.wait_for(lambda: bool(place.names(place.tempdir)))
        run.send(signal.SIGINT)
        assert run.end() == 130, run.output

    assert place.left_over() == []


@pytest.mark.parametrize(("signals", "code"), [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143)])
def test_a_second_ctrl_c_or_a_sigterm_cancels_at_once(place: Place, signals: tuple[int, ...], code: int) -> None:
    """X4: a transfer that would take long is given up; the state can be gone on with."""
    with place.running("full", "--grace=60", latency=1.0) as run:
        run.wait_for(lambda: place.noted() > 1)  # the first is being sent
        began = time.monotonic()
        for number in signals:
            run.send(number)
            time.sleep(0.05)  # else the kernel makes one of two
        assert run.end() == code, run.output

    assert time.monotonic() - began < 20
    assert place.left_over() == []
    assert len(place.journals()) == 3
    goes_on(place)


def test_a_second_run_is_refused_and_does_no_harm(place: Place) -> None:
    """P10: exit 23, at once; the first run ends right. A reader needs no lock."""
    with place.running("full", latency=0.5) as first:
        first.wait_for(lambda: place.volumes() >= 1)
        first.send(signal.SIGSTOP)
        second = place.start("full")
        assert second.end() == 23
        assert "another run holds the archive folder" in second.output
        assert place.start("restore").end() == 1  # there is no complete set yet
        first.send(signal.SIGCONT)
        assert first.end() == 0, first.output

    assert is_restored(place)


def test_the_lock_of_a_stock_run_is_respected(place: Place) -> None:
    """Format, section 15: stock's lock is this one."""
    (place.cache / "c").mkdir(parents=True)
    with open(place.cache / "c/lockfile", "w") as lockfile:
        program = f"import fcntl, sys, time; fcntl.lockf({lockfile.fileno()}, fcntl.LOCK_EX); print(flush=True); time.sleep(600)"
        holder = subprocess.Popen(["python3", "-c", program], stdout=subprocess.PIPE, pass_fds=[lockfile.fileno()])
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            assert place.start("full").end() == 23
        finally:
            holder.kill()
            holder.communicate()


@pytest.mark.interop
def test_a_stock_run_that_was_killed_is_cleared_away(place: Place, stock: Stock) -> None:
    """Its volumes go under the lock, with one notice; its parts in the cache, too; a new set is begun."""
    place.target.mkdir()
    words = [stock.python.with_name("duplicity"), *place.words("full")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (place.volumes() and parts(place)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    torn = place.names(place.target)
    assert parts(place)

    output = goes_on_afresh(place)

    assert output.count("was never finished") == 1
    assert not set(torn) & set(place.names(place.target))
    assert not parts(place)


def parts(place: Place) -> list[str]:
    return [name for name in place.names(place.cache / "c") if name.endswith(".part")]


def goes_on_afresh(place: Place) -> str:
    for path in place.tempdir.glob("duplicity-*"):
        subprocess.run(["rm", "-r", path], check=True)  # stock's own, which is not ours to remove
    output = goes_on(place)
    assert "going on" not in output
    return output
