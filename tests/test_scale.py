"""The simulation of workers agrees with hand-computed cases, and the schedule in use is the best of those simulated."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.measurements.scale import SCHEDULES, WORKERS, Machines, main, most_workers, simulate, utilisation


def test_workers_pull_chunks_and_wait_for_the_driver():
    free = Machines(update=1.0, half=0.0, chunk=0.0, driver=0.0)
    assert simulate([1, 1], 2, [[0], [1]], free).seconds == 1
    late = simulate([3, 1, 1], 2, [[1], [2], [0]], free)  # the longest goes last
    assert late.seconds == 4 and late.busy == late.utilisation == 5 / 8
    assert simulate([3, 1, 1], 2, [[0], [1], [2]], free).seconds == 3
    slow = simulate([1, 1], 2, [[0], [1]], Machines(1.0, half=0.0, chunk=0.0, driver=1.0))
    assert slow.seconds == 3  # the second worker gets its chunk after two seconds
    small = simulate([1, 1], 1, [[0], [1]], Machines(1.0, half=1.0, chunk=0.5, driver=0.0))
    assert small.seconds == 5 and small.busy == 1 and small.utilisation == 2 / 5


def test_shrinking_chunks_keep_more_workers_busy_than_the_other_schedules():
    limits = most_workers("seal", Machines())
    ours = next(name for name in SCHEDULES if name.startswith("shrinking"))
    assert limits[ours] > 1.5 * max(count for name, count in limits.items() if name != ours)
    rows = {(row["runs"], row["schedule"], row["workers"]): row["utilisation"] for row in utilisation("seal", Machines())}
    for workers in WORKERS[1:3]:
        assert rows[1, ours, workers] > max(rows[1, name, workers] for name in SCHEDULES) - 0.01
    assert rows[64, ours, 512] == rows[1, ours, 8] > 0.9


def test_the_command_prints_its_tables_and_writes_the_figures(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["scale", "--seconds-per-update", "2", "--dollars", "4", "--out", str(tmp_path)])
    main()
    row = json.loads((tmp_path / "scale.json").read_text())["capacity"][0]
    assert row["gpus"] == 1 and row["dollars"] == pytest.approx(4 * row["two_rounds_hours"])
    assert row["two_rounds_hours"] == pytest.approx(2 * 750 * 2 / 3600, rel=0.05)
    assert "most workers for 90 %" in capsys.readouterr().out
