"""Episodes of a vector environment, for any number of tasks up to its places; the other places idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def begin(
    env: Env, tasks: Sequence[int] | Sequence[Sequence[int]], seeds: Sequence[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Reset one sub-environment for each task (by index; a list of them where an episode has several), with its seed.

    Returns their observations and infos.
    """
    idle = env.num_envs - len(tasks)
    name = "task" if isinstance(tasks[0], int) else "tasks"
    observations, infos = env.reset(
        seed=[*seeds, *[seeds[-1]] * idle],  # type: ignore[arg-type]
        options={name: [*tasks, *[tasks[-1]] * idle]},
    )
    return _shown(observations, len(tasks)), [_info_of(infos, i) for i in range(len(tasks))]


def act(env: Env, edits: Sequence[str]) -> tuple[dict[str, Any], list[tuple[float, dict[str, Any]]]]:
    """An edit at each place that :func:`begin` gave a task: what is observed then, and reward and info of each."""
    observations, rewards, _, _, infos = env.step([*edits, *[""] * (env.num_envs - len(edits))])
    infos = infos.get("final_info", infos)  # all places begin together, so all end together
    return _shown(observations, len(edits)), [(float(rewards[i]), _info_of(infos, i)) for i in range(len(edits))]


def score(env: Env, edits: Sequence[str]) -> list[tuple[float, dict[str, Any]]]:
    """Reward and info of an edit at each place that :func:`begin` gave a task."""
    return act(env, edits)[1]


def _shown(observations: Mapping[str, Any], count: int) -> dict[str, Any]:
    return {name: values[:count] for name, values in observations.items()}


def _info_of(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The info of sub-environment ``i`` out of a vector environment's, without what only others have (Gymnasium's masks)."""
    return {name: values[i] for name, values in infos.items() if not name.startswith("_") and infos[f"_{name}"][i]}
