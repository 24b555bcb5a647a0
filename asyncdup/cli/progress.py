"""What a run is doing -> its one line of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from asyncdup.events import EpisodeContinues, EpisodeOpened
from asyncdup.observe.tally import Tally
from asyncdup.units import counted, format_duration, format_size


def describe(tally: Tally, now: float) -> str:
    """The run in one line: ``1,204 files, 3.2 GiB; volumes: 17 made, 4 in flight, 12 stored; 38.1 MiB/s``."""
    if tally.waiting:
        return _waits(next(iter(tally.waiting.values())))
    parts = []
    if tally.files:
        parts.append(_scanned(tally))
    if tally.needed or tally.read:
        parts.append(f"volumes: {tally.read}{f' of {tally.needed}' if tally.needed else ''} read, {tally.in_flight} in flight")
    elif tally.made or tally.stored:
        parts.append(f"volumes: {tally.made} made, {tally.in_flight} in flight, {tally.stored} stored")
    if tally.moved:
        parts.append(f"{format_size(round(tally.rate(now)))}/s")
    remaining = tally.remaining(now)
    if remaining is not None:
        parts.append(f"about {format_duration(remaining)} to go")
    if tally.trouble:
        parts.append(f"retrying: {next(iter(tally.trouble.values()))}")
    return "; ".join(parts) or "starting"


def _scanned(tally: Tally) -> str:
    if not tally.expected_files:
        return f"{counted(tally.files, 'file')}, {format_size(tally.scanned)}"
    return f"{tally.files:,} of {counted(tally.expected_files, 'file')}, {format_size(tally.scanned)} of {format_size(tally.expected)}"


def _waits(episode: EpisodeOpened) -> str:
    """That it waits, the shortest way to go on, and why (rule N4); all the rest was said above."""
    return f"WAITING for you{f' (to go on: {episode.resume[0]})' if episode.resume else ''}: {episode.error}"


def describe_wait(episode: EpisodeOpened | EpisodeContinues) -> str:
    """That it waits, for what, and how to go on, in one line for a log (rule N1)."""
    ways = f"; to go on: {', or '.join(episode.resume)}" if episode.resume else ""
    return f"WAITING for you: {episode.error}{_hint(episode)}{ways}"


def wait_lines(episode: EpisodeOpened | EpisodeContinues) -> Iterator[str]:
    """The same for a terminal: the cause, then each way to go on."""
    yield f"WAITING for you: {episode.error}{_hint(episode)}"
    if episode.resume:
        yield "to go on, one of:"
        yield from (f"  {way}" for way in episode.resume)


def _hint(episode: EpisodeOpened | EpisodeContinues) -> str:
    return f" ({episode.hint})" if episode.hint else ""
