"""One-step episodes as Stable-Baselines3 sees them: a step with a place for each edit, and every episode is over after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from agents.base import Scored

try:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise ImportError("ppo and tool_ppo need Stable-Baselines3: pip install 'stable-baselines3>=2.9'") from error


class OneStep(VecEnv):
    """Shows ``observations``, one a place, and has ``score`` say what came of the actions.

    Args:
        observations: ``(places, ...)``.
        observation_space: of one.
        action_space: of a place.
        score: from actions, one a place, to scored edits.
    """

    def __init__(
        self,
        observations: NDArray[Any],
        observation_space: Space[Any],
        action_space: Space[Any],
        score: Callable[[NDArray[Any]], Sequence[Scored]],
    ) -> None:
        self._observations, self._score = observations, score
        super().__init__(len(observations), observation_space, action_space)

    def reset(self) -> NDArray[Any]:
        return self._observations

    def step_async(self, actions: NDArray[Any]) -> None:
        self._acted = self._score(actions)

    def step_wait(self) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], list[dict[str, Any]]]:
        rewards = np.array([one.reward for one in self._acted])
        infos = [{**one.info, "terminal_observation": shown} for one, shown in zip(self._acted, self._observations)]
        return self.reset(), rewards, np.ones(self.num_envs, bool), infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        found = {"render_mode": None}
        if attr_name not in found:
            raise AttributeError(f"the places of a rollout have no {attr_name!r}")
        return [found[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"the places of a rollout have no {attr_name!r}")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        raise AttributeError(f"the places of a rollout have no {method_name!r}")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def logged(ppo: OnPolicyAlgorithm) -> dict[str, float]:
    """What it logged of its training, by name."""
    return {name.removeprefix("train/"): float(value) for name, value in ppo.logger.name_to_value.items()}


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Within: numpy's global generator, from which Stable-Baselines3 draws minibatches, begins at ``seed``."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
