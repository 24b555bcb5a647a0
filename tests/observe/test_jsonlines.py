"""V4: events as JSON lines."""

from __future__ import annotations

import io
import json
import os
from dataclasses import MISSING, fields
from typing import Any

import pytest

from asyncdup import events
from asyncdup.events import EpisodeOpened, EventHub, Notice, VolumeStored, Warning
from asyncdup.observe.jsonlines import JsonLines, json_line


class Flushed(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def hub_with(log: JsonLines) -> EventHub:
    hub = EventHub(job="j", wall=lambda: 1700000000.5, clock=lambda: 2.0)
    hub.on_event(log)
    return hub


def test_each_event_is_a_line_with_its_class_and_fields_flushed_at_once() -> None:
    stream = Flushed()
    hub = hub_with(JsonLines(stream))

    hub.emit(VolumeStored(number=1, name="vol1", size=7, lane="l"))
    hub.emit(EpisodeOpened(episode="e", error="full", resume=("rm f",)))

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == {
        "event": "VolumeStored", "seq": 1, "t": 2.0, "wall": 1700000000.5, "job": "j", "lane": "l", "op": 0, "attempt": 0,
        "number": 1, "name": "vol1", "size": 7,
    }  # fmt: skip
    assert (second["event"], second["resume"], second["seq"]) == ("EpisodeOpened", ["rm f"], 2)
    assert stream.flushes == 2


def test_names_that_are_no_utf8_survive_as_escapes() -> None:
    line = json_line(Warning(message="unreadable", path=os.fsdecode(b"a\xff\n")))

    assert line.isascii() and "\n" not in line
    assert os.fsencode(json.loads(line)["path"]) == b"a\xff\n"


@pytest.mark.parametrize("error", [OSError(28, "full"), BrokenPipeError(), ValueError("closed")])
def test_a_broken_stream_disturbs_nobody(error: Exception) -> None:
    """V2: observers never reach the transfer."""

    class Broken(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise error

    stream = Broken()
    log = JsonLines(stream)
    hub = hub_with(log)

    hub.emit(Notice(message="a"))
    hub.emit(Notice(message="b"))

    assert log.failed is error
    assert stream.writes == 1


def test_every_event_class_can_be_written() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    samples: dict[str, Any] = {"str": "x", "int": 1, "float": 1.0, "bool": True}

    for kind in kinds:
        required = [each for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
        event = kind(**{each.name: samples.get(str(each.type), "ok") for each in required})
        assert json.loads(json_line(event))["event"] == kind.__name__
