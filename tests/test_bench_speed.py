"""`seal-bench speed` measures real runs of every method and writes its figures."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from benchmarks.cli import main
from benchmarks.measurements.peak import peak_rate
from benchmarks.measurements.reference import Float64Loop
from benchmarks.measurements.workload import edit_lengths
from tests.shared import RUNS, needs_runs

SMALL = ["--edits", "3", "--repeats", "1", "--epochs", "2", "--lengths", "uniform:5-30", "--new-tokens", "3", "--rank", "2"]


def test_every_method_trains_the_same_adapters(tmp_path, capsys):
    out, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    arguments = ["--slots", "1,3", "--learning-rate", "1e-4", "--json", str(out), "--plot", str(plot)]
    assert main(["speed", *SMALL, *arguments]) == 0
    record = json.loads(out.read_text())
    timings = {timing["method"]: timing for timing in record["timings"]}
    assert list(timings) == [
        "trainer", "peft", "tuned", "tuned-bf16", "torch.func.vmap, 16 slots", "ours, 1 slot", "ours, 3 slots",
    ]  # fmt: skip
    for name, timing in timings.items():
        assert timing["fit"] > 0
        assert 0 < timing["useful_share"] <= 1
        assert timing["peak_share"] > 0
        assert len(timing["errors"]) == len(timing["error_ratios"]) == 3
        if name == "tuned-bf16":
            assert min(timing["errors"]) > 1e-4
        else:
            assert all(0 < error < 1e-5 for error in timing["errors"]), name
            assert all(ratio == 1 if name == "peft" else ratio < 10 for ratio in timing["error_ratios"])
    assert record["versions"]["torch"]
    assert plot.stat().st_size > 5_000
    assert "seconds per self-edit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "shape:llama-9t"], "shape:llama-2m"),
        (["--model", "/no/such/model"], "no such folder"),
        (["--lengths", "uniform:9"], "uniform:LOW-HIGH"),
        (["--lengths", "/no/such/runs"], "--lengths"),
        (["--methods", "magic"], "ours"),
        (["--slots", "0"], "--slots"),
        (["--edits", "0"], "--edits"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_unusable_arguments_are_named(arguments, message, capsys):
    assert main(["speed", *SMALL, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_seals_lengths():
    drawn = sorted(n for edit in edit_lengths("seal", 500, seed=1) for n in edit)
    assert 28 <= drawn[len(drawn) // 2] <= 36
    assert 44 <= sum(drawn) / len(drawn) <= 58
    assert 150 <= drawn[int(0.95 * len(drawn))] <= 220
    assert 7.5 <= len(drawn) / 500 <= 10


@needs_runs
def test_seals_recorded_lengths():
    edits = edit_lengths(str(RUNS), 250, seed=0)
    lengths = sorted(n for edit in edits for n in edit)
    assert sum(map(len, edits)) / 250 == pytest.approx(8.7, abs=0.1)
    assert sum(lengths) / len(lengths) == pytest.approx(51, abs=1.5)
    assert lengths[len(lengths) // 2] == 32


def test_the_peak_is_possible_for_a_processor():
    rate, how = peak_rate(torch.device("cpu"), torch.float32)
    if "registers" not in how:
        pytest.skip("no C compiler here")
    assert 1e9 < rate < 1e12 * torch.get_num_threads(), "no core does 128 operations per cycle at 8 GHz"


def test_the_float64_loop_rejects_norms_that_it_does_not_implement(model_path):
    lora = LoraConfig(r=2, target_modules="all-linear")
    with pytest.raises(ValueError, match="has a LayerNorm"):
        Float64Loop(AutoModelForCausalLM.from_pretrained(model_path("gpt2")), lora)
