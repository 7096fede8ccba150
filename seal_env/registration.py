"""The ids that ``gym.make`` knows after ``import seal_env``, with the keywords that each sets."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

# SEAL's published setting (paper, section 4.1); the adapter and the inner loop of these models are SEAL's by default.
_PAPER: dict[str, Any] = {
    "dataset": "rajpurkar/squad",
    "dtype": "bfloat16",
    "device": "cuda",
    "evaluations_per_edit": 3,
    "template": "base",  # these are base models, although their tokenizers have a chat template
    "student_template": "base",
}

# SQuAD's development set after a shuffle with seed 42: SEAL's evaluation passages are the first 200.
_SQUAD: dict[str, Any] = {"dataset": "squad", "held_out": {"test": 200, "validation": 200, "seed": 42}}

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "SEAL-SQuAD-v0": {},
    "SEAL-SQuAD-Continual-v0": {"mode": "continual", "updates_per_episode": 8},
    "SEAL-SQuAD-Corpus-v0": {"mode": "corpus", "updates_per_episode": 8},
    "SEAL-SQuAD-Qwen2.5-7B-v0": {**_PAPER, "model": "Qwen/Qwen2.5-7B"},
    "SEAL-SQuAD-Qwen2.5-3B-v0": {**_PAPER, "model": "Qwen/Qwen2.5-3B"},
    "SEAL-SQuAD-SmolLM2-135M-v0": {**_SQUAD, "model": "smollm2-135m"},
    "SEAL-ARC-v0": {"domain": "arc"},
}


def register_all() -> None:
    """Register every id of :data:`ENVIRONMENTS` that is not registered yet; nothing is imported before ``gym.make``."""
    for name, keywords in ENVIRONMENTS.items():
        if name not in gym.registry:
            gym.register(
                name,
                entry_point="seal_env.envs:SealEnv",
                vector_entry_point="seal_env.envs:SealVectorEnv",
                kwargs=keywords,
            )
