"""What ``ppo.py`` and ``tool_ppo.py`` share of Stable-Baselines3: a ``VecEnv`` of one-step episodes, seeds, and metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray

from agents.base import ScoredEdit

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise ImportError("ppo and tool_ppo need Stable-Baselines3: pip install 'seal-env[ppo]'") from error


class OneStepVecEnv(VecEnv):
    """One sub-environment for each self-edit of a round, whose episodes end after one step.

    Args:
        observations: ``(num_envs, ...)`` what each sub-environment shows.
        observation_space: of one sub-environment.
        action_space: of one sub-environment.
        score: from actions ``(num_envs, ...)`` to scored edits.

    Attributes:
        rollout: the scored edits of the last step.
    """

    def __init__(
        self,
        observations: NDArray[Any],
        observation_space: Space[Any],
        action_space: Space[Any],
        score: Callable[[NDArray[Any]], Sequence[ScoredEdit]],
    ) -> None:
        self._observations, self._score = observations, score
        self.rollout: Sequence[ScoredEdit] = ()
        super().__init__(len(observations), observation_space, action_space)

    def reset(self) -> NDArray[Any]:
        return self._observations

    def step_async(self, actions: NDArray[Any]) -> None:
        self.rollout = self._score(actions)

    def step_wait(self) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], list[dict[str, Any]]]:
        rewards = np.array([edit.reward for edit in self.rollout])
        infos = [
            {**edit.info, "terminal_observation": observation} for edit, observation in zip(self.rollout, self._observations)
        ]
        return self.reset(), rewards, np.ones(self.num_envs, bool), infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name != "render_mode":
            raise AttributeError(f"{type(self).__name__} has no attribute {attr_name!r} per sub-environment")
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{type(self).__name__} has no attribute {attr_name!r} per sub-environment")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        raise AttributeError(f"{type(self).__name__} has no method {method_name!r} per sub-environment")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def make_ppo(policy: Any, env: VecEnv, config: Any, **options: Any) -> PPO:
    """Stable-Baselines3's PPO for episodes of one step, with the fields of ``config`` that it has arguments for; no logs."""
    names = inspect.signature(PPO).parameters.keys() & {field.name for field in fields(config)}
    arguments = {name: getattr(config, name) for name in names} | options
    ppo = PPO(policy, env, n_steps=1, gamma=1.0, gae_lambda=1.0, **arguments)
    ppo.set_logger(Logger(None, []))
    return ppo


def train_metrics(ppo: OnPolicyAlgorithm) -> dict[str, float]:
    """The metrics of the last update, by Stable-Baselines3's names."""
    names = ("policy_gradient_loss", "value_loss", "explained_variance", "approx_kl", "clip_fraction", "entropy_loss")
    return {name: float(ppo.logger.name_to_value[f"train/{name}"]) for name in names}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within: the global generators of NumPy and PyTorch (CPU), which Stable-Baselines3 draws from, start at ``seed``."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        np.random.set_state(before)
