"""Which scored edits ReST-EM keeps: the M-step's filter, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from agents.base import Scored

Selection = Callable[[Sequence[Scored], float], list[Scored]]


def by_task(scored: Sequence[Scored]) -> list[list[Scored]]:
    """The edits of each task, in order of appearance."""
    groups: dict[int, list[Scored]] = {}
    for one in scored:
        groups.setdefault(one.task, []).append(one)
    return list(groups.values())


def best(scored: Sequence[Scored], quantile: float) -> list[Scored]:
    """The best edit of each task, the first of equals, whether or not it helped (the authors' code)."""
    return [max(group, key=lambda one: one.reward) for group in by_task(scored)]


def positive(scored: Sequence[Scored], quantile: float) -> list[Scored]:
    """Every edit that made the score better (paper, section 3.1, equation 2)."""
    return [one for one in scored if one.info["gain"] > 0]


def above_quantile(scored: Sequence[Scored], quantile: float) -> list[Scored]:
    """Every edit whose reward is at or above the quantile of all rewards, unless that is the lowest reward of all."""
    rewards = np.array([one.reward for one in scored])
    least = np.quantile(rewards, quantile)
    return [one for one, reward in zip(scored, rewards) if reward >= least and reward > rewards.min()]


def shrunk(scored: Sequence[Scored], quantile: float) -> list[Scored]:
    """The best edit of each task where it stands out from the noise.

    A score is a mean of few verdicts, so that part of what looks better is luck. What rewards of one task differ by is split,
    by analysis of variance, into what edits differ by and noise (from repeated evaluations where there are some, otherwise
    that of a mean of independent verdicts). An edit's advantage over its task's mean is shrunk by edits' variance / (edits'
    variance + noise) (James and Stein, 1961), and the best edit is kept if what is left of its advantage exceeds half a
    standard deviation of the noise that is left in it.
    """
    groups = by_task(scored)
    variances = [float(np.var([one.reward for one in group], ddof=1)) for group in groups if len(group) > 1]
    within = float(np.mean(variances or [0.0]))
    noise = float(np.mean([_noise(one) for one in scored]))
    signal = max(0.0, within - noise)
    if signal == 0.0:
        return []
    share = signal / (signal + noise)
    kept = []
    for group in groups:
        leader = max(group, key=lambda one: one.reward)
        advantage = share * (leader.reward - float(np.mean([one.reward for one in group])))
        if advantage > 0.5 * (share * noise) ** 0.5:
            kept.append(leader)
    return kept


def _noise(one: Scored) -> float:
    """Variance of a reward around what the edit is worth."""
    scores = one.info["scores"]
    if len(scores) > 1:
        return float(np.var(scores, ddof=1)) / len(scores)
    questions = max(1, len(one.info["questions"]) - one.info.get("ungraded", 0))
    score = (scores[0] * questions + 1) / (questions + 2)  # never certain (Laplace)
    return score * (1 - score) / questions


SELECTIONS: dict[str, Selection] = {"best": best, "positive": positive, "quantile": above_quantile, "shrunk": shrunk}
