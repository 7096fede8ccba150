"""Tool-choice wrappers, for libraries that take only numbers: SEAL-ARC's self-edit as ``MultiDiscrete`` or ``Dict``.

env = ToolChoices(gym.make("SEAL-ARC-v0"))
observation, info = env.reset(seed=0)  # (demonstrations, 2, rows, columns) colours
env.step(env.action_space.sample())    # seven numbers: four switches, strategy, learning rate, epochs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from seal_env.checks import check_choice, check_count
from seal_env.domains import DOMAINS, EnvConfig
from seal_env.edits import STRATEGIES, SWITCHES, ToolEdit
from seal_env.envs.engine import Engine
from seal_env.envs.env import SealEnv, SealVectorEnv
from seal_env.tasks.arc import Pair

View = Literal["multi_discrete", "dict"]

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10)
_NAMES = (*SWITCHES, "strategy", "learning_rate", "num_train_epochs")
_EMPTY = -1  # outside a grid
_MAX_DEMONSTRATIONS = 10  # in an observation, for datasets whose tasks differ in number


class ToolCodec:
    """Decodes numbers to a choice of tools and encodes a task as an array; see :class:`ToolChoices` for the arguments.

    Attributes:
        action_space: indices of the choices.
        observation_space: of :meth:`observation`.
        shape: of an observation.
    """

    def __init__(
        self,
        config: EnvConfig,
        view: View = "multi_discrete",
        learning_rates: Sequence[float] = RATES,
        epochs: Sequence[int] = EPOCHS,
        max_demonstrations: int | None = None,
        max_size: int | None = None,
    ) -> None:
        shape = DOMAINS.get(config.domain).tool_shape(config)
        if shape is None:
            raise TypeError("a choice of tools is the self-edit of few-shot tasks: wrap SEAL-ARC-v0")
        check_choice("view", view, get_args(View))
        self.learning_rates, self.epochs = tuple(learning_rates), tuple(epochs)
        for name, values in (("learning_rates", self.learning_rates), ("epochs", self.epochs)):
            if not values:
                raise ValueError(f"{name} must hold at least one value")
        sizes = [2] * (len(SWITCHES) + 1) + [len(self.learning_rates), len(self.epochs)]
        for i in range(max(sizes)):
            self.edit(np.minimum(i, np.array(sizes) - 1))  # ToolEdit validates its arguments
        self.demonstrations, self.size = max_demonstrations or shape[0], max_size or shape[1]
        for name, value in (("max_demonstrations", self.demonstrations), ("max_size", self.size)):
            check_count(name, value)
        self.action_space: Space[Any] = MultiDiscrete(sizes)
        if view == "dict":
            self.action_space = Dict({name: Discrete(n) for name, n in zip(_NAMES, sizes)})
        self.shape = (self.demonstrations, 2, self.size, self.size)
        self.observation_space = Box(_EMPTY, 9, self.shape, np.int8)

    def edit(self, action: Mapping[str, Any] | NDArray[np.integer]) -> ToolEdit:
        """The choice of tools that the numbers stand for."""
        numbers = [int(action[name]) for name in _NAMES] if isinstance(action, Mapping) else [int(i) for i in action]
        basic, larger, chain, repeat, strategy, rate, epochs = numbers
        switches = (bool(basic), bool(larger), bool(chain), bool(repeat))
        return ToolEdit(*switches, STRATEGIES[strategy], self.learning_rates[rate], self.epochs[epochs])

    def text(self, action: Any) -> str:
        """The self-edit that an action stands for.

        Raises:
            ValueError: it is not in the action space.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"an action is one of {self.action_space}, got {action!r:.200}")
        return self.edit(action).text()

    def observation(self, demonstrations: Sequence[Pair]) -> NDArray[np.int8]:
        """Colours of the demonstrations' inputs and outputs, ``(demonstrations, 2, size, size)``; -1 outside a grid.

        More demonstrations than that, and larger grids, are cut off.
        """
        observation = np.full(self.shape, _EMPTY, np.int8)
        for i, pair in enumerate(demonstrations[: self.demonstrations]):
            for j, grid in enumerate(pair):
                cells = np.array(grid, np.int8)[: self.size, : self.size]
                observation[i, j, : cells.shape[0], : cells.shape[1]] = cells
        return observation


class ToolChoices(gym.Wrapper[NDArray[np.int8], Any, dict[str, Any], str], RecordConstructorArgs):
    """Presents an ARC task as an array and takes the self-edit as numbers.

    ## Action Space
    ``MultiDiscrete([2, 2, 2, 2, 2, len(learning_rates), len(epochs)])``: basic, size, chain and repeat augmentations off or on,
    loss on all tokens or on outputs, and which learning rate and number of epochs. With ``view="dict"`` a ``Dict`` of
    ``Discrete``, with the names of the JSON keys.

    ## Observation Space
    ``Box`` of int8 ``(max_demonstrations, 2, max_size, max_size)``: the demonstrations' inputs and outputs, -1 outside a
    grid. Stable-Baselines3's ``MlpPolicy`` takes it as it is.

    Args:
        env: from ``gym.make("SEAL-ARC-v0")``.
        view: ``multi_discrete`` or ``dict``.
        learning_rates: to choose from.
        epochs: to choose from.
        max_demonstrations: demonstrations in an observation; by default mini-arc's, or 10.
        max_size: rows and columns of a grid in an observation; by default mini-arc's, or 30.

    Raises:
        TypeError: ``env`` is no SEAL environment of few-shot tasks.
        ValueError: an invalid argument; on ``step``, an action outside the space.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        view: View = "multi_discrete",
        learning_rates: Sequence[float] = RATES,
        epochs: Sequence[int] = EPOCHS,
        max_demonstrations: int | None = None,
        max_size: int | None = None,
    ) -> None:
        options: dict[str, Any] = {"view": view, "learning_rates": tuple(learning_rates), "epochs": tuple(epochs)}
        options |= {"max_demonstrations": max_demonstrations, "max_size": max_size}
        RecordConstructorArgs.__init__(self, **options)
        gym.Wrapper.__init__(self, env)
        base = env.unwrapped
        if not isinstance(base, SealEnv):
            raise TypeError(
                f"ToolChoices wraps a SEAL environment from gym.make (of gym.make_vec: VectorToolChoices), got {env!r}"
            )
        self._base, self.codec = base, ToolCodec(base.config, **options)
        self.observation_space, self.action_space = self.codec.observation_space, self.codec.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        _, info = self.env.reset(seed=seed, options=options)
        return self._observation(), info

    def step(self, action: Any) -> tuple[NDArray[np.int8], Any, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = self.env.step(self.codec.text(action))
        return self._observation(), reward, terminated, truncated, info

    def _observation(self) -> NDArray[np.int8]:
        return _encode_states(self.codec, self._base.engine)[0]


class VectorToolChoices(VectorWrapper[NDArray[np.int8], Any, dict[str, Any], Any, NDArray[Any]]):
    """:class:`ToolChoices` over ``gym.make_vec``: observations ``(num_envs, ...)``, and actions of the batched space."""

    def __init__(self, env: VectorEnv[dict[str, Any], Any, NDArray[Any]], **options: Any) -> None:
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, SealVectorEnv):
            raise TypeError(
                f"VectorToolChoices wraps a SEAL environment from gym.make_vec (of gym.make: ToolChoices), got {env!r}"
            )
        self._base, self.codec = base, ToolCodec(base.config, **options)
        self.single_observation_space, self.single_action_space = self.codec.observation_space, self.codec.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.int8], dict[str, Any]]:
        _, infos = self.env.reset(seed=seed, options=options)
        return self._observation(), infos

    def step(self, actions: Any) -> tuple[NDArray[np.int8], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        before = self._observation()
        edits = [self.codec.text(action) for action in iterate(self.action_space, actions)]
        _, rewards, terminated, truncated, infos = self.env.step(edits)
        if "final_obs" in infos:  # an episode ends with the task that it began with
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(infos["_final_obs"]):
                final[i] = before[i]
            infos["final_obs"] = final
        return self._observation(), rewards, terminated, truncated, infos

    def _observation(self) -> NDArray[np.int8]:
        return _encode_states(self.codec, self._base.engine)


def _encode_states(codec: ToolCodec, engine: Engine) -> NDArray[np.int8]:
    return np.stack([codec.observation(engine.domain.demonstrations(state.task)) for state in engine.states])
