"""ReST-EM, the outer loop of SEAL (paper, section 3.1; Singh et al., arXiv 2312.06585).

A round of :class:`ReSTEM`: the E-step samples several edits for each passage and scores them; the M-step selects the good ones
(:data:`SELECTIONS`) and fine-tunes the policy on them (:func:`fine_tune`). The adapter is merged after each round, as in the
authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from agents.agent_config import Preset, check_config
from agents.base import Agent, Clock, Round, ScoredEdit
from agents.policy import Completion, Policy
from agents.seeding import generator


@dataclass(frozen=True)
class ReSTEMConfig:
    """Hyperparameters of :class:`ReSTEM`. Defaults: SEAL's for passages and Qwen2.5-7B (paper, section 4.1 and appendix).

    Attributes:
        contexts: passages per round.
        samples: edits per passage.
        selection: name of the rule that selects edits, see :data:`SELECTIONS`.
        rescore: number of best edits of each passage that are scored again before the selection; 0: the first score is used.
        quantile: quantile of ``selection="quantile"``.
        learning_rate: initial learning rate of AdamW, which falls linearly to zero within the round.
        epochs: passes over the selected edits.
        batch_size: selected edits per step.
        max_grad_norm: maximum norm of the gradient.
        same_contexts: use the passages of the first round in all rounds.
    """

    contexts: int = 50
    samples: int = 5
    selection: Literal["best", "positive", "quantile", "shrunk"] = "best"
    rescore: int = 0
    quantile: float = 0.9
    learning_rate: float = 3e-4
    epochs: int = 2
    batch_size: int = 10
    max_grad_norm: float = 1.0
    same_contexts: bool = True

    def __post_init__(self) -> None:
        check_config(self, contexts=1, samples=1, epochs=1, batch_size=1, learning_rate=0, max_grad_norm=0)
        if not 0 <= self.rescore <= self.samples:
            raise ValueError(f"rescore must be from 0 to samples={self.samples}, got {self.rescore!r}")
        if not 0 <= self.quantile < 1:
            raise ValueError(f"quantile must be in [0, 1), got {self.quantile!r}")


class ReSTEM(Agent):
    """SEAL's outer loop: sample, select, fine-tune on the selected edits, merge."""

    Config = ReSTEMConfig
    config: ReSTEMConfig
    presets: ClassVar = {
        # Chosen on validation articles, 14 settings of 480 edits each: the best edit of a passage is often one that taught
        # little, and 8 epochs learn single edits by heart. The Almanac is endless, so that every round has new passages.
        "seal-nano": Preset(
            {"contexts": 48, "selection": "quantile", "learning_rate": 3e-3, "epochs": 4, "same_contexts": False},
            tuned_on=14 * 480,
        ),
        # One round of the paper's, 12 tasks x 15 edits, every correct edit kept; the epochs were chosen on training tasks.
        "seal-nano-arc": Preset(
            {
                "contexts": 12,
                "samples": 15,
                "selection": "positive",
                "learning_rate": 3e-3,
                "epochs": 12,
                "same_contexts": False,
            },
            tuned_on=1170,
        ),
        # The same with SEAL's learning rate and epochs, for Llama-3.2-1B (paper, section 4.2).
        "arc": Preset({"contexts": 12, "samples": 15, "selection": "positive", "learning_rate": 5e-5, "epochs": 8}),
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.seal_env.config.approximate:
            _check_proxy(self.config)

    def round(self, budget: int) -> Round | None:
        config, clock = self.config, Clock()
        contexts = min(config.contexts, budget // (config.samples + config.rescore))
        if contexts == 0:
            return None

        # E-step: sample from p(SE | C) and score by the reward.
        clock.start("collect")
        if config.same_contexts:
            first_round = generator(self.seed, "tasks", 0)
            tasks = self.seal_env.draw_tasks(first_round, config.contexts)[:contexts]
        else:
            tasks = self.draw_tasks(contexts)
        rollout = self.collect(tasks, config.samples)
        rescored: list[ScoredEdit] = []
        if config.rescore:
            clock.start("rescore")
            ranked = [sorted(group, key=lambda edit: -edit.reward) for group in by_task(rollout)]
            rescored = self.rescore([edit for group in ranked for edit in group[: config.rescore]])

        # M-step: select, and maximise the likelihood of the selected edits (equation 2).
        clock.start("learn")
        selected = SELECTIONS[config.selection](rescored or rollout, config.quantile)
        seed = int(self.rng("learn").integers(2**31))
        loss = fine_tune(self.policy, [edit.completion for edit in selected], config, seed)
        self.policy.merge()
        metrics = {"kept": len(selected) / len(rollout), "loss": loss}
        return Round(rollout, rescored, metrics=metrics, seconds=clock.stop())


def fine_tune(policy: Policy, completions: Sequence[Completion], config: ReSTEMConfig, seed: int) -> float:
    """Supervised fine-tuning on the completions, with the loss on their tokens and not on the prompts.

    Returns:
        Mean loss of the last epoch in nats per token; NaN without completions.
    """
    if not completions:
        return float("nan")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=config.learning_rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    steps, step, total, count = -(-len(completions) // config.batch_size) * config.epochs, 0, 0.0, 0.0
    for _ in range(config.epochs):
        order = torch.randperm(len(completions), generator=generator).tolist()
        total, count = 0.0, 0.0
        for start in range(0, len(order), config.batch_size):
            batch = [completions[i] for i in order[start : start + config.batch_size]]
            tokens = sum(len(c.ids) for c in batch)
            for scores in policy.scores(batch):
                loss = -scores.log_probs.sum() / tokens
                loss.backward()
                total, count = total + loss.item() * tokens, count + float(scores.mask.sum())
            torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - step / steps)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return total / count


# Selections -----------------------------------------------------------------------------------------------------------


def best(edits: Sequence[ScoredEdit], quantile: float) -> list[ScoredEdit]:
    """The best edit of each task, the first of equals, whether or not it helped (the authors' code)."""
    return [max(group, key=lambda edit: edit.reward) for group in by_task(edits)]


def positive(edits: Sequence[ScoredEdit], quantile: float) -> list[ScoredEdit]:
    """Every edit that improved the score (paper, section 3.1, equation 2)."""
    return [edit for edit in edits if edit.info["gain"] > 0]


def above_quantile(edits: Sequence[ScoredEdit], quantile: float) -> list[ScoredEdit]:
    """Every edit whose reward is at or above the quantile of all rewards, unless that is the lowest reward of all."""
    rewards = np.array([edit.reward for edit in edits])
    least = np.quantile(rewards, quantile)
    return [edit for edit, reward in zip(edits, rewards) if reward >= least and reward > rewards.min()]


def shrunk(edits: Sequence[ScoredEdit], quantile: float) -> list[ScoredEdit]:
    """The best edit of each task, if it stands out from the noise.

    A score is a mean of few verdicts, so some edits look better by chance. The variance of rewards within tasks is split, by
    analysis of variance, into variance between edits and noise (from repeated evaluations if there are any, otherwise the
    variance of a mean of independent verdicts). An edit's advantage over its task's mean is shrunk by variance / (variance +
    noise) (James and Stein, 1961). The best edit is selected if its shrunk advantage exceeds half a standard deviation of the
    noise that remains in it.
    """
    groups = by_task(edits)
    variances = [float(np.var([edit.reward for edit in group], ddof=1)) for group in groups if len(group) > 1]
    within = float(np.mean(variances or [0.0]))
    noise = float(np.mean([_noise(edit) for edit in edits]))
    signal = max(0.0, within - noise)
    if signal == 0.0:
        return []
    share = signal / (signal + noise)
    selected = []
    for group in groups:
        leader = max(group, key=lambda edit: edit.reward)
        advantage = share * (leader.reward - float(np.mean([edit.reward for edit in group])))
        if advantage > 0.5 * (share * noise) ** 0.5:
            selected.append(leader)
    return selected


SELECTIONS: dict[str, Callable[[Sequence[ScoredEdit], float], list[ScoredEdit]]] = {
    "best": best,
    "positive": positive,
    "quantile": above_quantile,
    "shrunk": shrunk,
}


def by_task(edits: Sequence[ScoredEdit]) -> list[list[ScoredEdit]]:
    """The edits of each task, in order of appearance."""
    groups: dict[int, list[ScoredEdit]] = {}
    for edit in edits:
        groups.setdefault(edit.task, []).append(edit)
    return list(groups.values())


def _noise(edit: ScoredEdit) -> float:
    """Variance of an edit's reward around its expected value."""
    scores = edit.info["scores"]
    if len(scores) > 1:
        return float(np.var(scores, ddof=1)) / len(scores)
    questions = max(1, len(edit.info["questions"]) - edit.info.get("ungraded", 0))
    score = (scores[0] * questions + 1) / (questions + 2)  # never certain (Laplace)
    return score * (1 - score) / questions


def _check_proxy(config: ReSTEMConfig) -> None:
    """Raise a ValueError for settings that a proxy's reward, which is deterministic and not a score, does not support."""
    if config.selection in ("positive", "shrunk"):
        raise ValueError(f"selection={config.selection!r} needs scores, and reward='proxy' has none: 'best' or 'quantile'")
    if config.rescore:
        raise ValueError(f"reward='proxy' is the same each time: rescore must be 0, got {config.rescore}")
