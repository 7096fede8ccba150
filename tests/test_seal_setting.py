"""SEAL's own setting through the environment, and what its continual experiment looks like here."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from conftest import CONFIGS
from transformers import Qwen2Config

import seal_env  # noqa: F401 (registers the ids)
from benchmarks.cli import main
from benchmarks.measurements.shapes import save_random_model
from benchmarks.reports.run_records import read
from seal_env.edits import pairs_text
from seal_env.plots import accuracy_matrix
from seal_env.tasks.almanac import Almanac
from tests.shared import SQUAD_VAL, needs_squad


@needs_squad
@pytest.mark.parametrize("model", ["seal-nano", "qwen2"])
def test_the_paper_s_passages_run_through_the_environment(model_path, model):
    keywords = {} if model == "seal-nano" else {"model": model_path("qwen2")}
    envs = gym.make_vec(
        "SEAL-SQuAD-v0",
        num_envs=200,
        dataset=str(SQUAD_VAL),
        shuffle_seed=42,
        limit=200,
        inner_loop={"epochs": 1, "batch_size": 0, "append_passage": False},
        max_new_tokens=3,
        adapter_observation="none",
        **keywords,
    )
    observations, infos = envs.reset(seed=0, options={"task": list(range(200))})
    _, rewards, _, _, infos = envs.step([context[:80] for context in observations["context"]])
    final = infos["final_info"]
    assert sum(len(questions) for questions in final["questions"]) == 974
    assert set(final["fit_status"]) == {"trained"} and np.isfinite(rewards).all() and rewards.mean() < 0.2


@needs_squad
def test_the_paper_s_experiment_runs_from_its_config_with_a_small_qwen2(tmp_path, capsys):
    """As docs/paper.md says: a round of ReST-EM, evaluations, a continual sequence and a joint update, on the real passages."""
    config = Qwen2Config(**{**CONFIGS["qwen2"].to_dict(), "max_position_embeddings": 8192})
    save_random_model(config, tmp_path / "qwen2")
    data = [f"model={tmp_path / 'qwen2'}", "device=cpu", "dtype=float32", f"dataset={SQUAD_VAL}", "shuffle_seed=42"]
    small = [
        "policy.max_new_tokens=8",
        "env_options.inner_loop.epochs=1",
        "env_options.max_new_tokens=4",
        "evaluation.every=20",
    ]
    smaller = [
        "agents.rest_em.config.contexts=4",
        "evaluation.tasks=2",
        "evaluation.sequences=1",
        "env_options.evaluations_per_edit=1",
    ]
    apart = ["env_options.offset=200", "evaluation.env_options.offset=0"]
    given = [f"-P{override}" for override in [*(f"env_options.{override}" for override in data), *apart, *small, *smaller]]
    assert main(["run", "--config", "paper", "--budget", "20", "--out", str(tmp_path / "run"), *given]) == 0
    assert "passages learnt one after the other" in capsys.readouterr().out
    (run,) = read([tmp_path / "run"]).of("rest_em")
    assert (len(run.edits), len(run.sequences[0]), list(run.points.index)) == (20, 8, [0, 20])
    policy = ["--policy", str(tmp_path / "run" / "runs" / "rest_em" / "seed-0" / "policy"), "--tasks", "8"]
    joint = ["-Pinner_loop.epochs=1", "-Pmax_new_tokens=4", *(f"-P{override}" for override in data)]
    assert main(["eval", "--env", "SEAL-SQuAD-Corpus-v0", *policy, *joint]) == 0
    assert "tasks 8  edits that trained nothing 0" in capsys.readouterr().out


def test_a_continual_run_has_the_shape_of_the_paper_s_matrix():
    """Each passage is learnt, and eight updates later mostly forgotten (paper, section 5)."""
    env = gym.make("SEAL-SQuAD-Continual-v0")
    almanac, matrices = Almanac(), []
    for seed in range(2):
        _, info = env.reset(seed=seed)
        infos = []
        for index in info["task_indices"]:
            article = almanac.article("train", 500_000 + index)
            *_, info = env.step(pairs_text(article.oracle_pairs()))
            infos.append(info)
        matrices.append(accuracy_matrix(infos))
    matrix = np.mean(matrices, axis=0)
    assert matrix.shape == (8, 8) and np.isnan(matrix[0, 1:]).all()
    assert np.diag(matrix).mean() > np.nanmean(matrix[-1]) + 0.15
