"""A toy reward that every agent must learn in seconds: how much of an edit is letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper


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
