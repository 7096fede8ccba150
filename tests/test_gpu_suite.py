"""The GPU suite as a dry run on the CPU: no stage is lost or repeated, and no stage stops the others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as suite
from benchmarks.gpu.suite import Context, Records, Stage, check, read_lines, run_stages, table

DRY = ["--device", "cpu", "--tiny"]
HEADER = {"device": "cpu", "card": "x", "tiny": True, "model": None}


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(torch.device("cpu"), True, tmp_path / "out")


def ran(out: Path) -> list[tuple[str, str]]:
    return [(line["stage"], line["status"]) for line in read_lines(out / "stages.jsonl")]


def test_all_stages_run_on_a_cpu_and_all_checks_are_green(tmp_path, capsys, model_path):
    out = tmp_path / "out"
    assert suite.main([*DRY, "--out", str(out), "--model", model_path("qwen2")]) == 0, capsys.readouterr().out
    names = [stage.name for stage in suite.stages(True, "x")]
    assert ran(out) == [("header", "done"), *((name, "done") for name in names)]
    header, *lines = read_lines(out / "stages.jsonl")
    assert {"card", "torch", "transformers", "peft", "revision"} <= header.keys()
    stages = {line["stage"]: line for line in lines}
    assert len(stages["correctness"]["checks"]) > 40
    assert all(entry["passed"] for line in lines for entry in line.get("checks", []))
    for name in names:
        if name.startswith("speed"):
            assert stages[name]["checks"] == [], "a dry run has no bars on speed"
            assert {timing["method"] for timing in stages[name]["timings"]} == {"peft", "ours, 1 slots", "ours, 2 slots"}
            for timing in stages[name]["timings"]:
                assert timing["all_trained"] and timing["fit"] > 0 < timing["answer"] and timing["peak_share"] > 0
        if name.startswith("profile"):
            assert (out / stages[name]["file"]).stat().st_size < 1 << 20
            assert stages[name]["figures"]["fit: dearest kernels"]
    assert stages["memory"]["figures"]["one more: lines in the log"] == 1
    text = (out / "table.md").read_text()
    assert text == table(read_lines(out / "stages.jsonl")), "the table contains the lines only"
    assert "of peak" in text and text in capsys.readouterr().out
    before = (out / "stages.jsonl").read_bytes()
    assert suite.main([*DRY, "--out", str(out), "--model", model_path("qwen2")]) == 0
    assert (out / "stages.jsonl").read_bytes() == before, "nothing is done twice"
    assert sum(1 for _ in out.iterdir()) <= 8


def test_a_stage_that_fails_is_recorded_and_the_rest_goes_on(context):
    def fails(_: Context) -> dict:
        raise RuntimeError("it broke")

    stages = [Stage("bad", fails, 1, 9), Stage("good", lambda _: {"checks": [check("one", 1, least=1)]}, 1, 9)]
    records = run_stages(stages, context, HEADER, minutes=1)
    assert ran(context.out) == [("header", "done"), ("bad", "failed"), ("good", "done")]
    assert records.lines[1]["error"][-1] == "RuntimeError: it broke"
    assert "it broke" in table(records.lines)
    stages[0] = Stage("bad", lambda _: {}, 1, 9)
    run_stages(stages, context, HEADER, minutes=1)  # what failed is tried again, and only that
    assert ran(context.out)[3:] == [("bad", "done")]
    assert "it broke" not in table(read_lines(context.out / "stages.jsonl"))


def test_what_does_not_fit_into_the_time_is_skipped_with_a_word(tmp_path, capsys):
    arguments = [*DRY, "--out", str(tmp_path), "--stages", "profile-0.5b,memory"]
    assert suite.main([*arguments, "--minutes", "0.001"]) == 0
    assert ran(tmp_path) == [("header", "done"), ("profile-0.5b", "skipped"), ("memory", "skipped")]
    assert "of --minutes 0.001 are left" in capsys.readouterr().out
    assert "skipped" in (tmp_path / "table.md").read_text()
    assert suite.main([*arguments]) == 0
    assert ran(tmp_path)[3:] == [("profile-0.5b", "done"), ("memory", "done")]


def test_a_stage_has_its_own_deadline(context):
    remaining: list[float] = []
    stages = [
        Stage("a", lambda given: remaining.append(given.left) or {}, 1, 9),
        Stage("b", lambda given: remaining.append(given.left) or {}, 1, 900),
    ]
    run_stages(stages, context, HEADER, minutes=1)
    assert 8 < remaining[0] <= 9 and 55 < remaining[1] <= 60


def test_killed_runs_keep_what_they_had(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        *DRY,
        "--out",
        str(tmp_path),
        "--stages",
        "profile-7b,profile-0.5b",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while ("profile-7b", "done") not in ran(tmp_path) and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = (tmp_path / "stages.jsonl").read_text()
    assert '"profile-7b"' in kept
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "stages.jsonl").read_text().startswith(kept)
    assert sorted(ran(tmp_path)[1:]) == [("profile-0.5b", "done"), ("profile-7b", "done")]


def test_a_torn_last_line_is_left_out_and_written_over(tmp_path):
    Records(tmp_path).add({"stage": "header", "status": "done", "value": float("nan")})
    path = tmp_path / "stages.jsonl"
    path.write_text(path.read_text() + '{"stage": "correctn')
    assert read_lines(path) == [{"stage": "header", "status": "done", "value": None}]
    records = Records(tmp_path)
    records.add({"stage": "memory", "status": "done"})
    assert [line["stage"] for line in map(json.loads, path.read_text().splitlines())] == ["header", "memory"]
    path.write_text("{torn\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        Records(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages", "profil"], "profile-7b"),
        (["--device", "cuda:99"], "use device='cpu'"),
        (["--minutes", "-1"], "--minutes"),
    ],
)
def test_unusable_arguments_are_named(tmp_path, capsys, arguments, message):
    assert suite.main([*DRY, "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_is_of_one_machine_and_one_set_of_options(tmp_path, capsys):
    assert suite.main([*DRY, "--out", str(tmp_path), "--minutes", "0"]) == 0
    assert suite.main(["--device", "cpu", "--out", str(tmp_path), "--minutes", "0"]) == 2
    assert "use another --out" in capsys.readouterr().err
