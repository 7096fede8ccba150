"""How good are an agent's edits on given tasks: the same for every agent and baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from agents.base import Agent, info_of


@dataclass(frozen=True)
class Evaluated:
    """One task: the edit that was predicted for it and what came of it.

    Attributes:
        task: its index.
        edit: the text.
        reward: of the environment.
        info: of the environment's step.
    """

    task: int
    edit: str
    reward: float
    info: Mapping[str, Any]


def evaluate(agent: Agent, env: VectorEnv[Any, Any, Any], tasks: Sequence[int], *, seed: int = 0) -> list[Evaluated]:
    """Predict one edit for each task of ``env`` (by index) and score it; nothing is learnt.

    A self-adapting agent's student is its policy, here as in training. The result is a function of agent, environment, tasks
    and seed.

    Args:
        env: one-update episodes, for example of ``split="test"``; not the one that the agent learns from.
    """
    if agent.self_adapting:
        agent.adapt(env)
    rng, found = np.random.default_rng([seed, 2]), list[Evaluated]()
    for start in range(0, len(tasks), env.num_envs):
        part = list(tasks[start : start + env.num_envs])
        idle = env.num_envs - len(part)
        seeds = [int(s) for s in rng.integers(0, 2**31, env.num_envs)]
        observations, infos = env.reset(seed=seeds, options={"task": part + part[-1:] * idle})  # type: ignore[arg-type]
        shown = {name: values[: len(part)] for name, values in observations.items()}
        about = [info_of(infos, i) for i in range(len(part))]
        edits = agent.predict(shown, about, seed=int(rng.integers(2**31)))
        _, rewards, _, _, infos = env.step(edits + [""] * idle)
        final = infos["final_info"]
        found += [Evaluated(task, edits[i], float(rewards[i]), info_of(final, i)) for i, task in enumerate(part)]
    return found
