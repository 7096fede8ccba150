"""How good are an agent's edits on given tasks: the same for every agent and baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.base import Agent
from agents.episodes import Env, act, begin, score, seal_of
from agents.seeding import derive_seed, task_seeds


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

    A self-adapting agent's student is its policy, here as in training. What a task comes to is a function of agent,
    environment settings, task and seed, not of the other tasks or of ``env.num_envs``.

    Args:
        env: one-update episodes, for example of ``split="test"``; not the one that the agent learns from.
    """
    if agent.self_adapting:
        agent.adapt(env)
    seeds, found = task_seeds(seed, tasks, "evaluate"), list[Evaluated]()
    for start in range(0, len(tasks), env.num_envs):
        chosen = slice(start, start + env.num_envs)
        part = list(tasks[chosen])
        observations, infos = begin(env, part, seeds[chosen])
        edits = agent.predict(observations, infos, seed=seeds[chosen])
        outcomes = score(env, edits)
        found += [Evaluated(task, edit, reward, info) for task, edit, (reward, info) in zip(part, edits, outcomes)]
    return found


def evaluate_sequences(agent: Agent, env: Env, sequences: Sequence[Sequence[int]], *, seed: int = 0) -> list[list[Evaluated]]:
    """Episodes of several tasks: an edit for each task of a sequence in turn.

    With ``mode="continual"`` (paper, figure 6) each is learnt on top of those before it, and ``accuracy_row`` in the info of
    step t is the accuracy on each of the first t + 1 tasks after it; with ``mode="corpus"`` all are learnt together at the last
    step. The agent learns nothing; the result is a function of agent, environment, sequences and seed.

    Args:
        env: ``gym.make_vec`` in one of these modes, whose ``updates_per_episode`` is the length of each sequence.
        sequences: task indices.

    Returns:
        The steps of each sequence.

    Raises:
        ValueError: an environment of another mode, or a sequence of another length.
    """
    config = seal_of(env).config
    if config.mode not in ("continual", "corpus") or any(len(sequence) != config.updates for sequence in sequences):
        lengths = sorted({len(sequence) for sequence in sequences})
        raise ValueError(
            f"sequences of {lengths} tasks need mode='continual' or 'corpus' with as many updates_per_episode; this"
            f" environment has mode={config.mode!r} and {config.updates}"
        )
    if agent.self_adapting:
        agent.adapt(env)
    seeds, found = task_seeds(seed, map(tuple, sequences), "sequences"), list[list[Evaluated]]()
    for start in range(0, len(sequences), env.num_envs):
        chosen = slice(start, start + env.num_envs)
        found += _play(agent, env, [list(sequence) for sequence in sequences[chosen]], seeds[chosen])
    return found


def _play(agent: Agent, env: Env, sequences: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[list[Evaluated]]:
    """One episode in each sub-environment, side by side."""
    source, found = seal_of(env).engine.source, [list[Evaluated]() for _ in sequences]
    observations, _ = begin(env, sequences, seeds)
    for step, tasks in enumerate(zip(*sequences)):
        infos = [{"task_indices": (task,), "task_id": source[task].id, "title": source[task].title} for task in tasks]
        edits = agent.predict(observations, infos, seed=[derive_seed(one, "step", step) for one in seeds])
        observations, outcomes = act(env, edits)
        for steps, task, edit, (reward, info) in zip(found, tasks, edits, outcomes):
            steps.append(Evaluated(task, edit, reward, info))
    return found
