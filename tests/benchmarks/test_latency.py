"""The latency benchmark's own tests: limits, the grid, medians, pictures; and, where the lab can be had, one small cell with real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from asyncdup.errors import UsageError
from benchmarks.lab import Lab, Link, Unavailable, available
from benchmarks.latency import plot, report
from benchmarks.latency.__main__ import main
from benchmarks.latency.cells import Cell, Grid
from benchmarks.latency.contenders import contenders
from benchmarks.latency.goals import goals, verdicts
from benchmarks.latency.session import Run
from benchmarks.simulated.__main__ import main as simulate
from benchmarks.simulated.far import Setting, upload

ROOT = Path(__file__).parents[2]
CELL = Cell(protocol="sftp", direction="put", rtt=0.1, rate=25e6, count=16, size=8 << 20, volume=8)
AXES = {
    "protocol": "sftp,s3",
    "direction": "put",
    "rtt": "30,100",
    "rate": "200Mbit/s",
    "objects": "16x8M",
    "concurrency": "8",
    "loss": "0.1",
}


def run_of(contender: str, wall: float, *, cell: Cell = CELL, late: float = 0.001, right: bool = True) -> Run:
    samples = [(at / 10, int(at / 10 * 2e6)) for at in range(round(wall * 10))]
    return Run(contender, cell, 0, wall, 1.0, 50 << 20, late, right=right, samples=samples)


def test_the_limit_is_full_segments_at_the_rate_and_two_round_trips() -> None:
    assert round(CELL.limit, 2) == round((16 << 23) * 1500 / 1448 / 25e6 + 0.2, 2) == 5.76


def test_the_grid_is_every_combination() -> None:
    cells = Grid.parse(AXES, congestion="cubic")

    assert [(cell.protocol, cell.rtt) for cell in cells] == [("sftp", 0.03), ("sftp", 0.1), ("s3", 0.03), ("s3", 0.1)]
    assert {(cell.loss, cell.volume, cell.link.up.rate) for cell in cells} == {(0.001, 8, 25e6)}
    assert len({cell.name for cell in cells}) == 4


@pytest.mark.parametrize("wrong", [{"protocol": "ftp"}, {"rtt": "far"}, {"objects": "16"}, {"rate": "fast"}])
def test_what_cannot_be_asked_for_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Grid.parse({**AXES, **wrong}, congestion="cubic")


def test_runs_with_a_late_emulator_or_a_wrong_result_do_not_count() -> None:
    runs = [run_of("lftp", 10.0), run_of("lftp", 1.0, late=0.02), run_of("lftp", 1.0, right=False), run_of("lftp", 12.0)]

    assert report.seconds(runs) == 11.0
    assert report.seconds(runs[1:3]) is None
    assert "| lftp | 11.00 (10.00-12.00) | 1.91 | 1.00 |" in report.table(runs)
    assert "| lftp | the emulator was late each time |" in report.table(runs[1:2])


def test_the_best_peer_is_not_one_of_ours() -> None:
    runs = [run_of("asyncdup", 7.0), run_of("asyncdup bbr", 6.0), run_of("lftp", 12.0), run_of("rclone", 14.0)]

    table = report.table(runs)

    assert "best peer: lftp" in table and "| asyncdup | 7.00 (7.00-7.00) | 1.21 | 0.58 |" in table


def test_a_goal_is_met_only_beside_the_limit_and_every_peer() -> None:
    def verdict(ours: float, **peers: float) -> str:
        names = {"lftp": "lftp", "duplicity": "duplicity 5"}
        runs = [run_of("asyncdup", ours), *(run_of(names[name], wall) for name, wall in peers.items())]
        return verdicts(runs, report.medians(runs))[0]

    assert verdict(8.0, lftp=12.0, duplicity=24.0).startswith("met ")
    assert verdict(8.0, lftp=10.0, duplicity=24.0).startswith("MISSED")
    assert verdict(8.5, lftp=12.0, duplicity=30.0).startswith("MISSED"), "1.48 times the limit"
    assert verdict(8.0, lftp=12.0).startswith("open ") and "duplicity 5 took no part" in verdict(8.0, lftp=12.0)


def test_pictures_are_xml_with_a_line_for_each_contender(tmp_path: Path) -> None:
    far = replace(CELL, rtt=0.2)
    runs = [run_of("lftp & co", 10.0), run_of("asyncdup", 7.0), run_of("asyncdup", 9.0, cell=far), run_of("lftp & co", 20.0, cell=far)]

    written = plot.write_all(tmp_path, runs)

    assert [path.name for path in written] == ["rtt-0.svg", "rate-0.svg", "rate-1.svg"]
    names = [element.text for element in xml.etree.ElementTree.parse(written[0]).iter() if element.text and element.text.strip()]
    assert {"limit", "asyncdup", "lftp & co", "round trip, ms"} <= set(names)
    lines = [element for element in xml.etree.ElementTree.parse(written[0]).iter() if element.tag.endswith("polyline")]
    assert len(lines) == 3


def test_the_cells_of_the_goals_are_those_of_the_grid() -> None:
    asked = {**AXES, "direction": "put,get,backup,restore", "rtt": "0,30,100,200", "objects": "16x8M,500x64K,64x4M", "loss": "0,0.1,1"}

    assert {goal.cell for goal in goals()} <= set(Grid.parse(asked, congestion="cubic"))


def test_a_backup_may_take_what_the_longer_of_making_and_sending_takes() -> None:
    (goal,) = (goal for goal in goals() if goal.overlaps and goal.cell.direction == "backup")
    most = 1.15 * goal.cell.limit + 3

    for wall, word in ((most - 0.1, "met "), (most + 0.1, "MISSED")):
        runs = [run_of("asyncdup command", wall, cell=goal.cell), run_of("duplicity 5", 60.0, cell=goal.cell)]
        assert verdicts(runs, report.medians(runs))[0].startswith(word)


def test_where_the_lab_cannot_be_had_one_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lab(*_: object, **__: object) -> Lab:
        raise Unavailable("needs root on Linux")

    monkeypatch.setattr("benchmarks.latency.__main__.Lab", lab)

    assert main(["--protocol=sftp"]) == 77
    assert capsys.readouterr().err.splitlines()[-1] == "no latency benchmark here: needs root on Linux"


def test_earlier_runs_can_be_told_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run_of("asyncdup", 7.0), run_of("lftp", 12.0, late=0.5)]
    report.write_json(tmp_path / "runs.json", runs, {"cores": 2})

    assert report.read_json(tmp_path / "runs.json")[1].late == 0.5
    assert main(["--again", str(tmp_path / "runs.json")]) == 0
    assert report.table(runs) in capsys.readouterr().out


def test_the_rate_over_time_is_that_of_the_samples(tmp_path: Path) -> None:
    (path,) = plot.write_all(tmp_path, [run_of("asyncdup", 7.0)])

    points = next(e for e in xml.etree.ElementTree.parse(path).iter() if e.tag.endswith("polyline")).attrib["points"].split()
    heights = {point.partition(",")[2] for point in points[1:]}
    assert len(heights) == 1, "2 MB/s all the time"


def test_what_is_not_installed_is_left_out_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.latency.store.PROGRAMS", str(tmp_path))
    said: list[str] = []

    found = contenders(tmp_path / "duplicity", {"asyncdup": []}, said.append)

    assert {"asyncdup", "asyncdup command"} <= {contender.name for contender in found}
    assert not {"lftp", "rclone", "duplicity 5"} & {contender.name for contender in found}
    assert any("lftp is not installed (apt install lftp)" in line for line in said) and any("--stock" in line for line in said)


def test_on_virtual_time_the_engine_is_at_the_model() -> None:
    near, far = upload(Setting(200, 0.001, 8, 25e6)), upload(Setting(200, 0.6, 8, 25e6))

    assert near.overlap > 0.97 and far.overlap > 0.97, "all slots are busy all the time, at any distance"


@pytest.mark.slow
def test_the_memory_does_not_grow_with_the_number_of_volumes() -> None:
    few, many = (upload(Setting(number, 0.1, 8, 25e6), memory=True) for number in (300, 700))
    assert many.peak < 1.2 * few.peak + (64 << 10)


def test_the_simulation_prints_its_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "out.json"

    assert simulate(["--volumes", "100", "--reads", "0", "--rtt", "600", "--concurrency", "8", "--json", str(file)]) == 0

    assert "| 8 | 600 | 7.8 | 7.8 |" in capsys.readouterr().out
    assert json.loads(file.read_text())[0]["seconds"] == pytest.approx(7.8, abs=0.1)


@pytest.mark.realtime
@pytest.mark.slow
@pytest.mark.parametrize(("words", "patience", "code"), [(["sh", "-c", "sleep 600 & exit 3"], 60, 3), (["sleep", "600"], 0.5, -9)])
def test_the_runner_takes_what_is_left_behind_with_it(words: list[str], patience: float, code: int, tmp_path: Path) -> None:
    result = tmp_path / "result"

    runner = [sys.executable, "-S", "-m", "benchmarks.latency.runner", str(result), str(patience)]
    subprocess.run([*runner, *words], cwd=ROOT, check=True, timeout=100)

    record = json.loads(result.read_text())
    assert record["exit_code"] == code and record["cpu"] < 5 and record["peak"] > 1 << 19


@pytest.fixture(scope="module")
def lab_here() -> None:
    reason = available()
    if reason is not None:
        pytest.skip(f"no lab here: {reason}")


@pytest.mark.realtime
@pytest.mark.slow
def test_the_emulator_tells_how_late_it_was(lab_here: None) -> None:
    with Lab(Link.of(rtt=0.02)) as lab:
        lab.run("client", [sys.executable, "-c", "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('198.18.0.2', 9))"])
        first = lab.statistics().up
        while not first.late:  # it is still on its way
            time.sleep(0.01)
            first = lab.statistics().up
        second = lab.statistics().up

    assert first.packets == second.packets >= 1
    assert first.late > 0.0 == second.late, "since it was last asked for"


@pytest.mark.realtime
@pytest.mark.slow
def test_a_small_cell_runs_and_what_arrives_is_right(lab_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--rtt=10",
        "--rate=400Mbit/s",
        "--objects=6x1M",
        "--concurrency=3",
        "--rounds=1",
        "--only=asyncdup,raw asyncssh",
        "--protocol=sftp",
    ]

    code = main([*words, f"--json={tmp_path / 'out.json'}", f"--plots={tmp_path / 'plots'}"])

    assert code == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "out.json").read_text())
    assert {(run["contender"], run["right"]) for run in record["runs"]} == {("asyncdup", True), ("raw asyncssh", True)}
    for run in record["runs"]:
        assert run["samples"][-1][1] > 6 << 20 and run["cpu"] > 0 and run["peak"] > 10 << 20
    assert "sftp get 6 × 1 MiB, 10 ms, 400 Mbit/s, 3 at once" in capsys.readouterr().out
    assert list((tmp_path / "plots").glob("*.svg"))
