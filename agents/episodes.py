"""Episodes of a SEAL vector environment for up to ``num_envs`` tasks; the other sub-environments get empty edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium.vector import VectorEnv

from seal_env.envs import SealVectorEnv

Env = VectorEnv[Any, Any, Any]


def seal_vector_env(env: Env) -> SealVectorEnv:
    """The SEAL environment under any wrappers.

    Raises:
        ValueError: ``env`` is not a SEAL vector environment.
    """
    base = env.unwrapped
    if not isinstance(base, SealVectorEnv):
        raise ValueError(f"an agent needs gym.make_vec('SEAL-...', num_envs=n), got {type(base).__name__}")
    return base


def begin(
    env: Env, tasks: Sequence[int] | Sequence[Sequence[int]], seeds: Sequence[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Reset one sub-environment for each task.

    Args:
        env: a vector environment.
        tasks: task indices, or a list of them for episodes of several tasks.
        seeds: one for each sub-environment.

    Returns:
        The observations, and the info of each sub-environment.
    """
    idle = env.num_envs - len(tasks)
    option = "task" if isinstance(tasks[0], int) else "tasks"
    observations, infos = env.reset(
        seed=[*seeds, *[seeds[-1]] * idle],  # type: ignore[arg-type]
        options={option: [*tasks, *[tasks[-1]] * idle]},
    )
    return _first(observations, len(tasks)), [_info_of(infos, i) for i in range(len(tasks))]


def act(env: Env, edits: Sequence[str]) -> tuple[dict[str, Any], list[tuple[float, dict[str, Any]]]]:
    """Step with an edit for each task of :func:`begin`; returns the next observations, and reward and info of each edit."""
    observations, rewards, _, _, infos = env.step([*edits, *[""] * (env.num_envs - len(edits))])
    infos = infos.get("final_info", infos)  # all episodes start together, so they end together
    return _first(observations, len(edits)), [(float(rewards[i]), _info_of(infos, i)) for i in range(len(edits))]


def score(env: Env, edits: Sequence[str]) -> list[tuple[float, dict[str, Any]]]:
    """Reward and info of an edit for each task of :func:`begin`."""
    return act(env, edits)[1]


def instructions_of(env: Env, tasks: Sequence[int], seeds: Sequence[int]) -> list[str]:
    """The prompt of each task, for any number of tasks."""
    instructions: list[str] = []
    for start in range(0, len(tasks), env.num_envs):
        part = slice(start, start + env.num_envs)
        instructions += begin(env, tasks[part], seeds[part])[0]["instruction"]
    return instructions


def _first(observations: Mapping[str, Any], count: int) -> dict[str, Any]:
    return {name: values[:count] for name, values in observations.items()}


def _info_of(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Info of sub-environment ``i``, without Gymnasium's masks and without keys that only other sub-environments have."""
    return {name: values[i] for name, values in infos.items() if not name.startswith("_") and infos[f"_{name}"][i]}
