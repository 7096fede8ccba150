"""SEAL's own setting through the environment, and what its continual experiment looks like here."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import seal_env  # noqa: F401 (registers the ids)
from seal_env.edits import pairs_text
from seal_env.plots import accuracy_matrix
from seal_env.tasks.almanac import Almanac

SQUAD_VAL = Path(__file__).parents[2] / "shared" / "data" / "squad" / "squad_val.json"


@pytest.mark.skipif(not SQUAD_VAL.is_file(), reason=f"SQuAD is not at {SQUAD_VAL}")
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


def test_a_continual_run_has_the_shape_of_the_paper_s_matrix():
    """Each passage is learnt, and eight updates later mostly forgotten (paper, section 5)."""
    env = gym.make("SEAL-SQuAD-Continual-v0")
    almanac, matrices = Almanac(), []
    for seed in range(2):
        _, info = env.reset(seed=seed)
        infos = []
        for index in info["task_indices"]:
            article = almanac.article("train", 500_000 + index)
            *_, info = env.step(pairs_text(article.hand_made_pairs()))
            infos.append(info)
        matrices.append(accuracy_matrix(infos))
    matrix = np.mean(matrices, axis=0)
    assert matrix.shape == (8, 8) and np.isnan(matrix[0, 1:]).all()
    assert np.diag(matrix).mean() > np.nanmean(matrix[-1]) + 0.15
