"""A toy environment that every agent must learn in seconds: the reward is the share of letters in an edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from peft import LoraConfig

from agents import Agent, Callback, Policy, Round

# Keywords of an environment with a minimal inner loop.
SMALL = {"lora": {"r": 2, "lora_alpha": 4}, "inner_loop": {"epochs": 1, "batch_size": 0}, "max_new_tokens": 2}
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")


class Curve(Callback):
    """Records the metrics of each round; ``curve["reward"]`` is the list of one metric."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []

    def on_round(self, agent: Agent, result: Round) -> bool:
        self.rounds.append(result.metrics)
        return True

    def __getitem__(self, name: str) -> list[float]:
        return [metrics[name] for metrics in self.rounds]


class EditReward(VectorWrapper):
    """Replaces reward and gain by ``reward(edit)``."""

    def __init__(self, env: VectorEnv, reward: Callable[[str], float]) -> None:
        super().__init__(env)
        self.reward = reward

    def step(self, actions: list[str]) -> tuple[Any, ...]:
        observations, _, terminated, truncated, infos = self.env.step(actions)
        rewards = np.array([self.reward(edit) for edit in actions])
        infos["final_info"]["gain"] = rewards
        return observations, rewards, terminated, truncated, infos


def share_of_letters(edit: str) -> float:
    """Share of ASCII letters in an edit: about a fifth for a random model, 0 for an empty edit."""
    return sum(character.isascii() and character.isalpha() for character in edit) / max(1, len(edit))


def make_toy(model: str, num_envs: int, reward: Callable[[str], float] | None = share_of_letters, **options: Any):
    """An environment and a policy on ``model`` (a folder); ``reward=None`` keeps the reward of the environment."""
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=num_envs, model=model, limit=4, **SMALL)
    policy = Policy.from_pretrained(model, **{"lora": LORA, "max_new_tokens": 12, **options})
    return (EditReward(env, reward) if reward else env), policy
