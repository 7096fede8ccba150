"""A toy that every agent must learn in seconds: the reward is how much of an edit is letters, the update next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from peft import LoraConfig

from agents import Agent, Callback, Policy, Round

# Keywords of an environment whose inner loop takes no time.
SMALL = {"lora": {"r": 2, "lora_alpha": 4}, "inner_loop": {"epochs": 1, "batch_size": 0}, "max_new_tokens": 2}
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")


class Curve(Callback):
    """The metrics of each round; ``curve["reward"]`` are those of one name."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []

    def on_round(self, agent: Agent, result: Round) -> bool:
        self.rounds.append(result.metrics)
        return True

    def __getitem__(self, name: str) -> list[float]:
        return [metrics[name] for metrics in self.rounds]


class Rewarded(VectorWrapper):
    """The environment with ``reward(edit)`` in place of its own reward and gain; everything else is as it was."""

    def __init__(self, env: VectorEnv, reward: Callable[[str], float]) -> None:
        super().__init__(env)
        self.reward = reward

    def step(self, actions: list[str]) -> tuple[Any, ...]:
        observations, _, terminated, truncated, infos = self.env.step(actions)
        rewards = np.array([self.reward(edit) for edit in actions])
        infos["final_info"]["gain"] = rewards
        return observations, rewards, terminated, truncated, infos


def share_of_letters(edit: str) -> float:
    """Share of the edit's characters that are English letters; about a fifth of what a random model writes, 0 for nothing."""
    return sum(character.isascii() and character.isalpha() for character in edit) / max(1, len(edit))


def toy(model: str, num_envs: int, reward: Callable[[str], float] | None = share_of_letters, **options: Any):
    """An environment over ``model`` (a folder), with the toy reward or (None) its own, and a policy over the same model."""
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=num_envs, model=model, limit=4, **SMALL)
    policy = Policy.from_pretrained(model, **{"lora": LORA, "max_new_tokens": 12, **options})
    return (Rewarded(env, reward) if reward else env), policy
