"""Evaluation of an agent's edits on given tasks, the same for all agents and baselines."""

from __future__ import annotations

from collections.abc import Sequence

from agents.base import Agent, Infos, Observations, ScoredEdit, score_episodes
from agents.episodes import Env, act, begin, seal_vector_env
from agents.policy import Completion
from agents.seeding import derive_seed, task_seeds


def evaluate(agent: Agent, env: Env, tasks: Sequence[int], *, seed: int = 0) -> list[ScoredEdit]:
    """Predict an edit for each task and score it, without learning.

    A self-adapting agent's policy becomes the student of ``env``, as in training. The result for a task depends on the agent,
    the environment's settings, the task and the seed, not on the other tasks or on ``env.num_envs``.

    Args:
        agent: a trained or untrained agent.
        env: a vector environment with one update per episode, for example of ``split="test"``; not the agent's own.
        tasks: task indices.
        seed: seed of the evaluation.

    Raises:
        ValueError: ``env`` is not a SEAL vector environment.
    """
    seal_vector_env(env)
    if agent.self_adapting:
        agent.adapt(env)
    seeds = task_seeds(seed, tasks, "evaluate")

    def write(part: slice, observations: Observations, infos: Infos) -> list[Completion]:
        return list(map(Completion.from_text, agent.predict(observations, infos, seed=seeds[part])))

    return score_episodes(env, list(tasks), seeds, write)


def evaluate_sequences(agent: Agent, env: Env, sequences: Sequence[Sequence[int]], *, seed: int = 0) -> list[list[ScoredEdit]]:
    """Evaluate episodes of several tasks, with an edit for each task in turn, without learning.

    With ``mode="continual"`` (paper, figure 6) each edit updates the student that the edits before it left, and
    ``accuracy_row`` in the info of step t holds the accuracies on the first t + 1 tasks. With ``mode="corpus"`` the student
    learns all edits together in the last step.

    Args:
        agent: a trained or untrained agent.
        env: ``gym.make_vec`` in one of these modes, with ``updates_per_episode`` equal to the length of the sequences.
        sequences: task indices of each episode.
        seed: seed of the evaluation.

    Returns:
        The scored edits of each sequence.

    Raises:
        ValueError: the environment has another mode or another number of updates.
    """
    config = seal_vector_env(env).config
    if config.mode not in ("continual", "corpus") or any(len(sequence) != config.updates for sequence in sequences):
        lengths = sorted({len(sequence) for sequence in sequences})
        raise ValueError(
            f"sequences of {lengths} tasks need mode='continual' or 'corpus' with as many updates_per_episode; this"
            f" environment has mode={config.mode!r} and {config.updates}"
        )
    if agent.self_adapting:
        agent.adapt(env)
    seeds, results = task_seeds(seed, map(tuple, sequences), "sequences"), list[list[ScoredEdit]]()
    for start in range(0, len(sequences), env.num_envs):
        part = slice(start, start + env.num_envs)
        results += _run_sequences(agent, env, [list(sequence) for sequence in sequences[part]], seeds[part])
    return results


def _run_sequences(agent: Agent, env: Env, sequences: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[list[ScoredEdit]]:
    """One episode in each sub-environment."""
    source, results = seal_vector_env(env).engine.source, [list[ScoredEdit]() for _ in sequences]
    observations, _ = begin(env, sequences, seeds)
    for step, tasks in enumerate(zip(*sequences)):
        infos = [{"task_indices": (task,), "task_id": source[task].id, "title": source[task].title} for task in tasks]
        instructions = observations["instruction"]
        edits = agent.predict(observations, infos, seed=[derive_seed(s, "step", step) for s in seeds])
        observations, outcomes = act(env, edits)
        for steps, task, instruction, edit, (reward, info) in zip(results, tasks, instructions, edits, outcomes):
            steps.append(ScoredEdit(task, instruction, Completion.from_text(edit), reward, info))
    return results
