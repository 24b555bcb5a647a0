"""The account of a run that the progress line is drawn from."""

from __future__ import annotations

from asyncdup.cli.progress import describe, describe_wait, wait_lines
from asyncdup.events import (
    AttemptFinished,
    AttemptStarted,
    EpisodeClosed,
    EpisodeOpened,
    Event,
    GateChanged,
    JobStarted,
    Progress,
    RetryScheduled,
    Scanned,
    SourceCounted,
    VolumeMade,
    VolumeRead,
    VolumeStored,
)
from asyncdup.observe.tally import Tally

MIB = 1 << 20


def tally_of(*events: Event) -> Tally:
    tally = Tally()
    for event in events:
        tally(event)
    return tally


def test_nothing_is_known_at_the_start() -> None:
    assert describe(Tally(), 0.0) == "starting"


def test_a_backup_shows_files_volumes_and_rate() -> None:
    tally = tally_of(
        JobStarted(action="full"),
        Scanned(files=1204, bytes=3 * MIB),
        VolumeMade(number=1, name="vol1", size=MIB),
        VolumeMade(number=2, name="vol2", size=MIB),
        AttemptStarted(verb="put", name="vol1", op=1, attempt=1),
        AttemptStarted(verb="put", name="vol2", op=2, attempt=1),
        Progress(t=0.0, bytes=MIB),
        Progress(t=2.0, bytes=MIB),
        AttemptFinished(verb="put", name="vol1", op=1, attempt=1, outcome="ok", bytes=MIB),
        VolumeStored(number=1, name="vol1", size=MIB),
    )

    assert describe(tally, 4.0) == "1,204 files, 3.0 MiB; volumes: 2 made, 1 in flight, 1 stored; 512.0 KiB/s"


def test_a_restore_shows_how_many_volumes_there_are_and_how_long_it_takes() -> None:
    tally = tally_of(Progress(t=0.0, bytes=MIB), Progress(t=1.0, bytes=MIB), VolumeRead(number=1, name="v", size=2 * MIB, total=4, t=2.0))

    assert describe(tally, 2.0) == "volumes: 1 of 4 read, 0 in flight; 1.0 MiB/s; about 6.0s to go"


def test_a_full_backup_of_a_counted_source_has_an_end() -> None:
    counted = SourceCounted(t=100.0, files=5000, bytes=8 * MIB, full=True)
    begun = tally_of(counted, Scanned(files=1, bytes=MIB))
    going = tally_of(counted, Scanned(files=1204, bytes=2 * MIB))
    done = tally_of(counted, Scanned(files=5000, bytes=9 * MIB))  # it grew meanwhile

    assert describe(begun, 101.0) == "1 of 5,000 files, 1.0 MiB of 8.0 MiB"
    assert describe(going, 130.0) == "1,204 of 5,000 files, 2.0 MiB of 8.0 MiB; about 1m30s to go"
    assert (done.share(), done.remaining(130.0)) == (1.0, None)


def test_nobody_knows_when_an_incremental_ends() -> None:
    tally = tally_of(SourceCounted(files=2, bytes=8 * MIB, full=False), Scanned(files=1, bytes=4 * MIB))

    assert (tally.share(), tally.remaining(60.0)) == (0.5, None)


def test_listings_and_deletes_are_not_in_flight() -> None:
    assert tally_of(AttemptStarted(verb="list", name="", op=1)).in_flight == 0


def test_the_rate_falls_to_zero_when_nothing_moves() -> None:
    tally = tally_of(Progress(t=0.0, bytes=MIB))

    assert tally.rate(5.0) > 0
    assert tally.rate(11.0) == 0
    assert tally.moved == MIB


def test_samples_stay_few_however_many_events_come() -> None:
    tally = tally_of(*(Progress(t=number / 1000, bytes=1) for number in range(60_000)))

    assert len(tally._samples) < 50
    assert 900 < tally.rate(60.0) < 1100


def test_waiting_says_for_what_why_and_how_to_go_on() -> None:
    """N4."""
    opened = EpisodeOpened(lane="l", episode="e", error="disk full", hint="make room", resume=("rm /f", "kill -USR1 7"))
    tally = tally_of(Scanned(files=1, bytes=1), opened)

    assert describe(tally, 0.0) == "WAITING for you (to go on: rm /f): disk full"
    assert describe_wait(opened) == "WAITING for you: disk full (make room); to go on: rm /f, or kill -USR1 7"
    assert list(wait_lines(opened)) == ["WAITING for you: disk full (make room)", "to go on, one of:", "  rm /f", "  kill -USR1 7"]

    tally(EpisodeClosed(lane="l", episode="e", by="flag removed"))

    assert "WAITING" not in describe(tally, 0.0)


def test_retrying_is_shown_until_something_succeeds() -> None:
    retry = RetryScheduled(verb="put", name="vol1", delay=1.0, error_class="retry", error="ResetError: reset", why="reset", lane="l")
    done = AttemptFinished(verb="put", name="vol1", outcome="ok", lane="l")

    assert describe(tally_of(retry), 0.0) == "retrying: reset"
    assert describe(tally_of(retry, done), 0.0) == "starting"


def test_a_closed_gate_is_shown_until_it_runs_again() -> None:
    backoff = GateChanged(state="BACKOFF", why="no route", lane="l")

    assert describe(tally_of(backoff), 0.0) == "retrying: no route"
    assert describe(tally_of(backoff, GateChanged(state="RUNNING", lane="l")), 0.0) == "starting"
