"""How good are an agent's edits on given tasks: the same for every agent and baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.base import Agent
from agents.episodes import Env, begin, score


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


def evaluate(agent: Agent, env: Env, tasks: Sequence[int], *, seed: int = 0) -> list[Evaluated]:
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
        observations, infos = begin(env, part, rng)
        edits = agent.predict(observations, infos, seed=int(rng.integers(2**31)))
        outcomes = score(env, edits)
        found += [Evaluated(task, edit, reward, info) for task, edit, (reward, info) in zip(part, edits, outcomes)]
    return found
