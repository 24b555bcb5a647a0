"""What the unplug test makes of its samples, and the line that it prints."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.unplug.outage import Run, Sample
from benchmarks.unplug.report import table

MIB = 1 << 20


def run_of(*, silent: float, slow: float) -> Run:
    """10 MiB/s for 20 s, a cut of 60 s, ``silent`` seconds after the mending nothing, then a tenth of the rate for ``slow`` seconds."""
    samples, delivered, at = [], 0, 0.0
    while at < 110:
        samples.append(Sample(at, delivered))
        begun = at - 80 - silent
        rate = 10 if at < 20 else 0 if begun < 0 else 1 if begun < slow else 10
        at, delivered = at + 0.1, delivered + rate * MIB // 10
    return Run("tool", "cut", ended_at=110, cut_at=20, mended_at=80, right=True, samples=samples)


def test_the_times_count_from_the_mending_and_from_the_first_data() -> None:
    run = run_of(silent=4, slow=3)

    assert round(run.rate_before / MIB) == 10
    assert run.moves_again is not None and abs(run.moves_again - 4.2) < 0.2
    assert run.full_rate_again is not None and abs(run.full_rate_again - 2.7) < 0.5


def test_what_never_moves_again_is_told_so() -> None:
    run = replace(run_of(silent=1000, slow=0), exit_code=-9)

    assert (run.moves_again, run.full_rate_again) == (None, None)
    assert "| hangs, ended 90 s after the cut | 110 | never | never |" in table([run])


def test_sent_twice_is_what_the_same_program_did_not_need_without_an_outage() -> None:
    run = replace(run_of(silent=0, slow=0), connections=7, attempts=[0.5, 3.0])
    quiet = replace(run, outage="none", began_at=50, samples=[Sample(0, 0), Sample(1, run.delivered - 3 * MIB)])

    (line,) = table([quiet, run]).splitlines()[2:]

    assert "goes on, archive right | 110 (60)" in line and line.endswith("| 3.0 | 7 (2 attempts) |")
    assert "**archive wrong**" in table([replace(run, right=False)])
    assert "**fails** 90 s after the cut, exit code 50" in table([replace(run, exit_code=50)])
