"""seal-bench run: equal budgets, interrupted or not, in one process or several, and one-line errors for bad settings."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from agents.saved import agent_of, open_policy
from benchmarks.cli import main
from benchmarks.reports import renamed_keys
from benchmarks.reports.report_tables import table_text
from benchmarks.reports.run_records import differences, read
from benchmarks.settings import BASELINES, from_mapping, read_config, value_of
from seal_env.distributed import ProcessPool
from tests.processes import needs_proc, running, still_running, tagged_environment

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def config(model_path, tmp_path_factory) -> Path:
    """A benchmark of three learners and two baselines that takes seconds."""
    path = tmp_path_factory.mktemp("config") / "small.json"  # JSON is YAML
    small = {
        "env": "SEAL-SQuAD-v0",
        "env_options": {
            "model": model_path("toy"),
            "lora": {"r": 2, "lora_alpha": 4},
            "inner_loop": {"epochs": 1, "batch_size": 0},
            "max_new_tokens": 2,
        },
        "policy": {"lora": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}, "max_new_tokens": 8},
        "agents": {
            "rest_em": {"config": {"contexts": 2, "samples": 2}},
            "grpo": {"config": {"contexts": 2, "num_generations": 2, "learning_rate": "1e-2"}, "self_adapting": True},
            "ppo": {"config": {"contexts": 2, "samples": 2, "batch_size": 4}},
            "untrained": {},
            "best_of_2": {"agent": "best_of_k", "config": {"k": 2}},
        },
        "seeds": [3],
        "budget": 12,
        "num_envs": 4,
        "evaluation": {"tasks": 3, "every": 4, "sequences": 2},
    }
    path.write_text(json.dumps(small))
    return path


def start(*arguments: str) -> int:
    return main(["run", "--no-report", *map(str, arguments)])


def lines_of(folder: Path) -> dict[str, list[dict]]:
    """Every line of a run directory, without the seconds that rounds took."""
    lines_by_file = {}
    for path in sorted(folder.glob("**/*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines_by_file[str(path.relative_to(folder))] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return lines_by_file


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert start("--config", config, "--out", folder) == 0
    return folder


def test_a_run_directory_holds_what_is_promised(unbroken):
    lines = lines_of(unbroken)
    for label in ("rest_em", "grpo", "ppo"):
        own = f"runs/{label}/seed-3"
        assert [line["edit"] for line in lines[f"{own}/edits.jsonl"]] == list(range(12))
        assert [line["edits"] for line in lines[f"{own}/rounds.jsonl"]] == [4, 8, 12]
        assert [line["edits"] for line in lines[f"{own}/evaluation.jsonl"]] == [0] * 3 + [4] * 3 + [8] * 3 + [12] * 3
        assert json.loads((unbroken / own / "done.json").read_text()) == {"edits": 12, "rounds": 3}
        resolved = json.loads((unbroken / own / "environment.json").read_text())
        assert [resolved["env"][name] for name in ("template", "student_template")] == ["base", "base"]
        assert resolved["policy"]["template"] == "base" and resolved["evaluation"]["split"] == "test"
        assert (unbroken / own / "policy" / "adapter_model.safetensors").is_file()
        assert list((unbroken / own / "tensorboard").iterdir())
        policy = open_policy(unbroken / own / "policy")
        assert policy.max_new_tokens == 8 and agent_of(unbroken / own / "policy")["self_adapting"] is (label == "grpo")
    for label in ("untrained", "best_of_2"):
        assert [line["edits"] for line in lines[f"runs/{label}/seed-3/evaluation.jsonl"]] == [0] * 3
    for label in ("rest_em", "grpo", "ppo", "untrained", "best_of_2"):
        steps = lines[f"runs/{label}/seed-3/continual.jsonl"]
        assert [(line["sequence"], line["step"]) for line in steps] == [(i, t) for i in range(2) for t in range(8)]
        assert [line["task"] for line in steps] == list(range(16))
        assert all(len(line["accuracy_row"]) == line["step"] + 1 for line in steps)
    assert [line["task"] for line in lines["tasks.jsonl"]] == [0, 1, 2]
    (session,) = json.loads((unbroken / "about.json").read_text())["sessions"]
    assert session["versions"]["torch"] and session["command"]


def test_processes_give_the_same_lines(config, unbroken, tmp_path):
    assert start("--config", config, "--out", tmp_path / "run", "--workers", "2") == 0
    assert lines_of(tmp_path / "run") == lines_of(unbroken)


def test_a_run_on_processes_outlives_them_and_has_the_same_lines(config, unbroken, tmp_path, monkeypatch, capsys):
    class Mortal(ProcessPool):
        """All of them are killed soon after each chunk was sent."""

        mortal = True

        def submit(self, *what):
            future = super().submit(*what)
            for process in list(self.executor()._processes.values()) if self.mortal else ():
                process.kill()
            return future

    monkeypatch.setattr("seal_env.distributed.pools.ProcessPool", Mortal)
    where = ["--executor", "spawn", "--executor-workers", "2"]
    assert start("--config", config, "--out", tmp_path / "run", *where) == 2
    message = capsys.readouterr().err
    assert f"stopped; go on with: seal-bench run --resume {tmp_path / 'run'}" in message
    assert "seal-bench: workers died 4 times with the same edits" in message
    monkeypatch.setattr(Mortal, "mortal", False)
    assert start("--resume", tmp_path / "run", *where) == 0
    assert lines_of(tmp_path / "run") == lines_of(unbroken)


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_no_process_behind(config, tmp_path, how):
    environment, tag = tagged_environment(tmp_path)
    command = [sys.executable, "-m", "benchmarks.cli", "run", "--config", str(config), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    while process.poll() is None and not list((tmp_path / "run").glob("runs/*/*/.lock")):
        time.sleep(0.1)
    assert len(running(tag)) >= 4  # itself, two workers, and what carries their messages
    process.send_signal(how)
    _, message = process.communicate(timeout=60)
    assert not still_running(tag)
    if how == signal.SIGINT:
        assert (
            process.returncode == 130
            and "stopped; go on with: seal-bench run --resume" in message
            and "Traceback" not in message
        )


def test_a_killed_run_goes_on_to_the_same_lines_and_table(config, unbroken, tmp_path):
    """Killed at random moments, with a torn line left in every file of the runs that were not complete.

    SEAL_ENV_KILLS=20 sets how many kills; if a run ends before, another starts.
    """
    rng, kills, wanted, folder = random.Random(1), 0, int(os.environ.get("SEAL_ENV_KILLS", "2")), tmp_path / "run-0"
    command = [sys.executable, "-m", "benchmarks.cli", "run", "--no-report"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while kills < wanted:
        begun = (folder / "benchmark.json").is_file()
        arguments = ["--resume", str(folder)] if begun else ["--config", str(config), "--out", str(folder)]
        process = subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        while not (folder / "benchmark.json").is_file() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(rng.uniform(1, 8))
        if process.poll() is None:
            kills += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
            tear(folder)
        else:
            assert process.returncode == 0 and lines_of(folder) == lines_of(unbroken)
            folder = tmp_path / f"run-{kills}"
    if (folder / "benchmark.json").is_file():
        assert start("--resume", folder) == 0
        assert lines_of(folder) == lines_of(unbroken)
        assert table_text(read([folder])) == table_text(read([unbroken]))


def tear(folder: Path) -> None:
    for path in folder.glob("runs/*/*/e*.jsonl"):
        if not (path.parent / "done.json").is_file():
            with path.open("a") as file:
                file.write('{"edits": 4, "torn')


def test_a_run_directory_with_old_names_resumes_to_the_same_lines(unbroken, tmp_path, monkeypatch):
    """``places`` is ``num_envs`` of version 0.1.0; a key of the JSON lines is renamed for this test."""
    monkeypatch.setitem(renamed_keys._KEYS, "old_reward", "reward")
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    settings = json.loads((folder / "benchmark.json").read_text())
    settings["places"] = settings.pop("num_envs")
    (folder / "benchmark.json").write_text(json.dumps(settings))
    for path in folder.glob("runs/*/*/*.jsonl"):
        path.write_text(path.read_text().replace('"reward": ', '"old_reward": '))
    assert table_text(read([folder])) == table_text(read([unbroken]))
    (folder / "runs" / "rest_em" / "seed-3" / "done.json").unlink()
    assert start("--resume", folder) == 0
    assert lines_of(folder) == lines_of(unbroken)
    assert json.loads((folder / "benchmark.json").read_text()) == json.loads((unbroken / "benchmark.json").read_text())


def test_stored_answers_are_graded_again(unbroken, tmp_path, capsys):
    def regrade(*arguments: object) -> int:
        return main(["regrade", *map(str, arguments)])

    same, other = tmp_path / "same", tmp_path / "other"
    assert regrade(unbroken, "--grader", "exact", "--out", same) == 0
    names = [name for name in lines_of(same) if name.startswith("runs") and not name.endswith("continual.jsonl")]
    assert {name: lines_of(unbroken)[name] for name in names} == {name: lines_of(same)[name] for name in names}
    assert any(name.endswith("evaluation.jsonl") for name in names)
    assert regrade(unbroken, "--grader", "tests.test_run:yes_to_all", "--out", other) == 0
    for line in lines_of(other)["runs/grpo/seed-3/evaluation.jsonl"]:
        assert (line["score_before"], line["score"], line["reward"], line["gain"]) == (1.0, 1.0, 1.0, 0.0)
        assert all(question["correct"] is True for question in line["questions"])
    records = read([other])
    assert {run.label for run in records.runs} == {run.label for run in read([unbroken]).runs}
    assert from_mapping(read_config(other / "benchmark.json")).evaluation.env_options["grader"] == "tests.test_run:yes_to_all"
    capsys.readouterr()
    assert regrade(unbroken, "--grader", "exact", "--out", same) == 2
    assert "exists: choose another folder" in capsys.readouterr().err
    assert regrade(unbroken, "--grader", "exakt", "--out", tmp_path / "new") == 2
    assert "Did you mean 'exact'?" in capsys.readouterr().err
    assert regrade(tmp_path, "--grader", "exact", "--out", tmp_path / "new") == 2
    settings = json.loads((same / "benchmark.json").read_text())
    settings["evaluation"]["env_options"]["evaluations_per_edit"] = 3
    (same / "benchmark.json").write_text(json.dumps(settings))
    assert regrade(same, "--grader", "exact", "--out", tmp_path / "new") == 2
    assert "evaluations_per_edit=3" in capsys.readouterr().err and not (tmp_path / "new").exists()


def yes_to_all(answered):
    return [True for _ in answered]


def test_a_run_is_not_resumed_with_another_data_type(unbroken, tmp_path, capsys):
    folder = shutil.copytree(unbroken, tmp_path / "run")
    (path,) = folder.glob("runs/grpo/seed-3/environment.json")
    resolved = json.loads(path.read_text())
    resolved["env"]["dtype"] = "bfloat16"  # as "auto" is on another processor
    path.write_text(json.dumps(resolved))
    (path.parent / "done.json").unlink()
    assert start("--resume", folder) == 2
    assert "was begun with dtype='bfloat16', and this processor computes with 'float32'" in capsys.readouterr().err


def test_resume_refuses_other_settings_and_shows_them(unbroken, capsys):
    assert start("--resume", unbroken, "--budget", "24", "-P", "agents.grpo.config.beta=0.1") == 2
    message = capsys.readouterr().err
    assert "budget: 12 -> 24" in message and "agents.grpo.config.beta: not set -> 0.1" in message
    assert start("--resume", unbroken, "--budget", "12") == 0


def test_seeds_and_sequences_can_be_added(config, unbroken, tmp_path, capsys):
    """What there is stays; a run of another seed and the sequences of every run come to it."""
    folder, small = tmp_path / "run", ["-P", "agents={rest_em: {config: {contexts: 2, samples: 2}}}"]
    assert start("--config", config, *small, "-P", "evaluation.sequences=0", "--out", folder) == 0
    assert not list(folder.glob("runs/*/*/continual.jsonl"))
    assert start("--resume", folder, "-P", "seeds=[3, 4]", "-P", "evaluation.sequences=2") == 0
    after, before = lines_of(folder), lines_of(unbroken)
    for name in ("edits", "rounds", "evaluation", "continual"):
        assert after[f"runs/rest_em/seed-3/{name}.jsonl"] == before[f"runs/rest_em/seed-3/{name}.jsonl"]
    assert len(after["runs/rest_em/seed-4/edits.jsonl"]) == 12 and after["runs/rest_em/seed-4/continual.jsonl"]
    assert start("--resume", folder, "-P", "seeds=[4]") == 2
    assert start("--resume", folder, "-P", "evaluation.sequences=3") == 2
    assert "evaluation.sequences: 2 -> 3" in capsys.readouterr().err


def test_weights_and_biases_gets_every_round_in_one_run(config, unbroken, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder, small = tmp_path / "run", ["-P", "agents={rest_em: {config: {contexts: 2, samples: 2}}}"]
    assert start("--config", config, *small, "--out", folder, "--wandb", "seal") == 0
    own = folder / "runs" / "rest_em" / "seed-3"
    (kept,) = (own / "wandb" / "wandb").glob("offline-run-*/*.wandb")
    assert kept.name == f"run-{(own / 'wandb' / 'id').read_text()}.wandb"
    held = kept.read_bytes()  # values are JSON texts in it
    rounds = [json.loads(line) for line in (own / "rounds.jsonl").read_text().splitlines()]
    assert all(json.dumps(line["seconds"]["collect"]).encode() in held for line in rounds)
    assert lines_of(folder)["runs/rest_em/seed-3/edits.jsonl"] == lines_of(unbroken)["runs/rest_em/seed-3/edits.jsonl"]
    (own / "done.json").unlink()
    assert start("--resume", folder, "--wandb", "seal") == 0
    assert {path.name for path in (own / "wandb" / "wandb").glob("offline-run-*/*.wandb")} == {kept.name}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-P", "env=SEAL-SQUAD-v0"], "Did you mean 'SEAL-SQuAD-v0'"),
        (["--agents", "rest_me"], "no agent 'rest_me'. Did you mean 'rest_em'"),
        (["-P", "agents.grpo.config.epsylon=1"], "no option 'epsylon'. Did you mean 'epsilon'"),
        (["-P", "agents.grpo.config.num_generations=1"], "agents.grpo: num_generations must be at least 2"),
        (["-P", "evaluation.task=1"], "no option 'task'. Did you mean 'tasks'"),
        (["-P", "env_options.edit_fromat=rewrite"], "Did you mean 'edit_format'"),
        (["-P", "policy.top_q=1"], "Did you mean 'top_p'"),
        (["-P", "bugdet=1"], "Did you mean 'budget'"),
        (["-P", "budget"], "-P takes key=value"),
        (["-P", "budget.x=1"], "'budget' is a value"),
        (["-P", "seeds=[1, 1]"], "seeds must be"),
        (["--seeds", "0"], "at least 1"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--budget", "0"], "budget must be an integer >= 1"),
        (["--budget", "1", "-P", "agents={grpo: {}}"], "a budget of 1 edits is too small for one round of GRPO"),
        (["-P", "agents={../x: {agent: grpo}}"], "label"),
        (["-P", "agents=[unclosed"], "is not a YAML value"),
        (["-P", "env_options.mode=refine"], "agents.rest_em: agents learn from episodes of one update"),
        (["--agents", "tool_ppo"], "agents.tool_ppo: a choice of tools is the self-edit of few-shot tasks"),
        (
            ["-P", "agents={oracle: {}}", "-P", "evaluation.env_options.dataset=notes"],
            "the oracle needs the answers to all questions, and dataset='notes' has documents",
        ),
        (["-P", "agents={passage_only: {}}", "-P", "env=SEAL-ARC-v0", "-P", "env_options={}"], "passage_only is for passages"),
    ],
)
def test_bad_settings_give_a_one_line_error_and_leave_nothing(config, tmp_path, capsys, arguments, message):
    assert start("--config", config, "--out", tmp_path / "new" / "run", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("seal-bench: ") and message in error
    assert not (tmp_path / "new" / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["--env", "SEAL-SQuAD-v0"], set()),
        (["--env", "SEAL-SQuAD-v0", "-P", "env_options.dataset=notes"], {"oracle"}),
        (["--env", "SEAL-ARC-v0", "-P", "agents.best_of_k.config.k=2"], {"passage_only"}),
        (["--env", "SEAL-SQuAD-v0", "--no-baselines"], set(BASELINES)),
    ],
)
def test_baselines_are_those_that_fit(arguments, missing, capsys):
    assert start(*arguments, "--agents", "rest_em", "--dry-run") == 0
    settings = json.loads(capsys.readouterr().out.rpartition("}")[0] + "}")
    assert set(settings["agents"]) == {"rest_em", *BASELINES} - missing


def test_directories_that_cannot_be_used_are_named(config, unbroken, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("")
    half = tmp_path / "half"
    half.mkdir()
    (half / "benchmark.json").write_text('{"env": ')
    for arguments, message in (
        (["--config", config, "--out", tmp_path / "other"], "is no run directory"),
        (["--config", config, "--out", tmp_path / "file"], "is no run directory"),
        (["--config", config, "--out", tmp_path / "file" / "below"], "cannot write a run directory"),
        (["--config", config, "--out", unbroken], "--resume"),
        (["--resume", tmp_path / "other"], "no benchmark.json"),
        (["--resume", half], "is not JSON"),
        (["--config", tmp_path / "file"], "must hold a mapping"),
        (["--config", "sqaud"], "no config 'sqaud'"),
    ):
        assert start(*arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1, error
    assert (tmp_path / "other" / "thesis.txt").read_text() == "precious"


def test_a_full_disk_is_reported_and_the_run_goes_on_later(config, unbroken, tmp_path, capsys, monkeypatch):
    import agents.callbacks

    real, count = agents.callbacks.append_lines, 0

    def fill(path, lines):
        nonlocal count
        count += 1
        if count == 9:
            path.open("a").write('{"edits": 8, "to')
            raise OSError(28, "No space left on device")
        real(path, lines)

    with monkeypatch.context() as patch:
        patch.setattr(agents.callbacks, "append_lines", fill)
        assert start("--config", config, "--out", tmp_path / "run") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert start("--resume", tmp_path / "run") == 0
    assert lines_of(tmp_path / "run") == lines_of(unbroken)


def test_dry_run_checks_and_prints_and_writes_nothing(config, tmp_path, capsys):
    assert start("--config", config, "--out", tmp_path / "run", "--dry-run", "-P", "seeds=4") == 0
    message = capsys.readouterr().out
    assert '"budget": 12' in message and "5 agents x 4 seeds, 144 scored edits" in message
    assert not (tmp_path / "run").exists()


def test_every_config_that_comes_with_the_package_is_sound():
    names = [path.stem for path in (ROOT / "benchmarks" / "configs").glob("*.yaml") if path.stem != "defaults"]
    for name in names:
        settings = from_mapping(read_config(name))
        assert from_mapping(settings.to_json()) == settings
    paper = from_mapping({"env": "SEAL-SQuAD-Qwen2.5-7B-v0", "agents": ["rest_em"]})
    rest_em = paper.agents["rest_em"]
    config = rest_em.type.Config(**rest_em.config)
    assert (config.contexts, config.samples, config.selection, config.learning_rate) == (50, 5, "best", 3e-4)
    assert paper.policy["max_new_tokens"] == 1024 and paper.num_envs == 5


def test_yaml_values_are_what_a_person_means():
    assert value_of("3e-4") == 3e-4 and value_of("[1e5, a]") == [1e5, "a"] and value_of("on") is True


def test_differences_of_settings_are_named_with_their_place():
    first, second = {"a": {"b": 1, "c": {}}, "d": [1]}, {"a": {"b": 2, "c": {}}, "d": [1], "e": None}
    assert differences(first, second) == {"a.b": ("1", "2"), "e": ("not set", "None")}
