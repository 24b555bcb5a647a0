"""V4: a trace becomes the picture of docs/tracing.md, whole or cut short by a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from asyncdup.events import AttemptFinished, AttemptStarted, EventHub, GateChanged, RetryScheduled, VolumeMade, VolumeStarted
from asyncdup.observe.trace import Trace

SCRIPT = Path(__file__).parents[2] / "scripts" / "trace_picture.py"
SVG = "{http://www.w3.org/2000/svg}"


def trace() -> str:
    written: list[str] = []
    seen, now = Trace(written.append), iter(range(100))
    hub = EventHub(wall=lambda: 0.0, clock=lambda: float(next(now)))
    hub.on_event(seen)
    hub.emit(VolumeStarted(number=1))
    hub.emit(VolumeMade(number=1, name="x.vol1.difftar.gz", size=5000))
    for attempt, outcome in ((1, "error"), (2, "ok")):
        what = {"lane": "sftp://a<b>", "op": 1, "attempt": attempt, "verb": "put", "name": "x.vol1.difftar.gz"}
        hub.emit(AttemptStarted(**what, slot=0))
        hub.emit(AttemptFinished(**what, outcome=outcome))
        if outcome == "error":
            hub.emit(RetryScheduled(**what, delay=1.0, error_class="retry", error="lost"))
            hub.emit(GateChanged(lane="sftp://a<b>", state="BACKOFF"))
            hub.emit(GateChanged(lane="sftp://a<b>", state="RUNNING"))
    seen.close()
    return "".join(written)


@pytest.mark.parametrize("killed", [False, True])
def test_a_trace_becomes_a_picture(tmp_path: Path, killed: bool) -> None:
    text = trace()
    (tmp_path / "trace.json").write_text(text.rstrip().removesuffix("]") if killed else text)

    done = subprocess.run([sys.executable, SCRIPT, tmp_path / "trace.json"], capture_output=True, text=True, check=True)

    root = ElementTree.fromstring(done.stdout)
    slices = [each.findtext(f"{SVG}title") or "" for each in root.iter(f"{SVG}rect") if each.find(f"{SVG}title") is not None]
    assert sum("outcome: error" in each for each in slices) == sum("outcome: ok" in each for each in slices) == 1
    assert [each.partition(";")[0] for each in slices if "volume 1" in each] == ["volume 1"]
    assert any(each.startswith("BACKOFF") for each in slices)
    words = [each.text for each in root.iter(f"{SVG}text")]
    assert {"production", "gate", "slot 0", "sftp://a<b>"} <= set(words)
    arrows = [each for each in root.iter(f"{SVG}path") if "C" in each.get("d", "")]
    assert len(arrows) == 1
