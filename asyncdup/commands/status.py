"""What a running job is doing, as one record of plain values (engine rule X3): counted from its events, asked of its engine. Never waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from asyncdup.events import EpisodeClosed, EpisodeOpened, Event, GateChanged, Progress, VolumeMade, VolumeRead, VolumeStored
from asyncdup.transfer import Engine


class Tally:
    """Counts a job's events. ``waiting``: the open episodes; ``trouble``: why a lane backs off; both by lane."""

    def __init__(self) -> None:
        self.made = self.stored = self.read = self.needed = 0  # volumes
        self.stored_bytes = self.read_bytes = self.moved = 0
        self.waiting: dict[str, EpisodeOpened] = {}
        self.trouble: dict[str, str] = {}

    def on_event(self, event: Event) -> None:
        """Take one event into account."""
        match event:
            case Progress():
                self.moved += event.bytes
            case VolumeMade():
                self.made += 1
            case VolumeStored():
                self.stored += 1
                self.stored_bytes += event.size
            case VolumeRead():
                self.read += 1
                self.read_bytes += event.size
                self.needed = event.total or self.needed
            case EpisodeOpened():
                self.waiting[event.lane] = event
            case EpisodeClosed():
                self.waiting.pop(event.lane, None)
            case GateChanged():
                self.trouble[event.lane] = event.why if event.state == "BACKOFF" else ""


def status_of(engine: Engine | None, tally: Tally, *, draining: bool, now: Callable[[], float]) -> dict[str, Any]:
    """The record. ``state``: starting, running, retrying, paused, waiting or draining."""
    record: dict[str, Any] = {
        "pid": os.getpid(),
        "now": now(),
        "state": "starting",
        "volumes": {"made": tally.made, "stored": tally.stored, "read": tally.read, "needed": tally.needed},
        "bytes": {"stored": tally.stored_bytes, "read": tally.read_bytes, "moved": tally.moved},
        "lanes": [],
    }
    if engine is None:
        return record
    statistics = engine.statistics()
    pacing = engine.pacing
    record["lanes"] = lanes = [_lane(each.name, tally) | _gate(each) for each in statistics.lanes]
    record["state"] = _state(lanes, draining=draining)
    record["concurrency"] = engine.concurrency
    record["auto"] = engine.auto
    record["spool"] = {"files": statistics.spool_files, "bytes": statistics.spool_bytes}
    record["memory"] = statistics.memory
    record["limits"] = {"upload": pacing.upload.text, "download": pacing.download.text, "requests": pacing.requests or 0}
    return record


def _gate(lane: Any) -> dict[str, Any]:
    return {
        "gate": lane.state,
        "pauses": list(lane.pauses),
        "running": lane.running,
        "waiting": lane.waiting,
        "concurrency": lane.concurrency,
    }


def _lane(name: str, tally: Tally) -> dict[str, Any]:
    episode = tally.waiting.get(name)
    record: dict[str, Any] = {"name": name, "trouble": tally.trouble.get(name, "")}
    if episode is not None:
        record["episode"] = {
            "id": episode.episode,
            "since": episode.wall,
            "error": episode.error,
            "hint": episode.hint,
            "resume": list(episode.resume),
        }
    return record


def _state(lanes: list[dict[str, Any]], *, draining: bool) -> str:
    if any("episode" in lane for lane in lanes):
        return "waiting"
    if draining:
        return "draining"
    if any(lane["pauses"] for lane in lanes):
        return "paused"
    return "retrying" if any(lane["gate"] in ("BACKOFF", "PROBING") for lane in lanes) else "running"
