"""What a running job is doing, as one record of plain values (engine rule X3): counted from its events, asked of its engine. Never waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import anyio

from asyncdup.observe.tally import Tally
from asyncdup.transfer import Engine


def status_of(engine: Engine | None, tally: Tally, *, draining: bool, now: Callable[[], float]) -> dict[str, Any]:
    """The record. ``state``: starting, running, retrying, paused, waiting or draining. ``rate``: bytes/s; ``remaining``: seconds, None if not known."""
    clock = anyio.current_time()  # that of the events
    record: dict[str, Any] = {
        "pid": os.getpid(),
        "now": now(),
        "state": "starting",
        "volumes": {"made": tally.made, "stored": tally.stored, "read": tally.read, "needed": tally.needed},
        "bytes": {"stored": tally.stored_bytes, "read": tally.read_bytes, "moved": tally.moved},
        "rate": tally.rate(clock),
        "remaining": tally.remaining(clock),
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
