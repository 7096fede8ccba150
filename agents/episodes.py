"""One-update episodes of a vector environment, for any number of tasks up to its places; the other places idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from seal_env.envs import SealVectorEnv

Env = VectorEnv[Any, Any, Any]


def seal_of(env: Env) -> SealVectorEnv:
    """The SEAL environment under any wrappers.

    Raises:
        ValueError: there is none.
    """
    inner = env.unwrapped
    if not isinstance(inner, SealVectorEnv):
        raise ValueError(f"an agent needs gym.make_vec('SEAL-...', num_envs=n), got {type(inner).__name__}")
    return inner


def begin(env: Env, tasks: list[int], rng: np.random.Generator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Reset one place for each task (by index), with seeds drawn by ``rng``; their observations and infos."""
    seeds = [int(seed) for seed in rng.integers(0, 2**31, env.num_envs)]
    idle = env.num_envs - len(tasks)
    observations, infos = env.reset(seed=seeds, options={"task": tasks + tasks[-1:] * idle})  # type: ignore[arg-type]
    shown = {name: values[: len(tasks)] for name, values in observations.items()}
    return shown, [_info_of(infos, i) for i in range(len(tasks))]


def score(env: Env, edits: Sequence[str]) -> list[tuple[float, dict[str, Any]]]:
    """Reward and info of an edit at each place that :func:`begin` gave a task."""
    _, rewards, _, _, infos = env.step([*edits, *[""] * (env.num_envs - len(edits))])
    return [(float(rewards[i]), _info_of(infos["final_info"], i)) for i in range(len(edits))]


def _info_of(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The info of place ``i`` out of a vector environment's."""
    return {name: values[i] for name, values in infos.items() if not name.startswith("_")}
