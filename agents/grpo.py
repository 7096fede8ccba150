"""GRPO (Shao et al., arXiv 2402.03300), with the variants that the field has given names to, under TRL's names for them.

Each round writes a group of edits for each of some passages; an edit's advantage is its reward against its group's. The policy
gradient is clipped as in PPO, token by token or for the whole sequence (GSPO, arXiv 2507.18071), and a KL penalty may hold the
policy near the model that it began as.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from agents.base import Agent, Clock, Preset, Round, load_optimizer_state, optimizer_state
from agents.policy import Completion, Policy
from seal_env.checks import check_at_least, check_choice

LossType = Literal["grpo", "bnpo", "dr_grpo"]
ScaleRewards = Literal["group", "batch", "none"]
Level = Literal["token", "sequence"]


@dataclass(frozen=True)
class GRPOConfig:
    """Hyperparameters, named as in TRL's ``GRPOConfig``; the learning rate is one for models of billions of parameters.

    Attributes:
        contexts: passages a round.
        num_generations: edits a passage, the group.
        learning_rate: AdamW's, constant.
        num_iterations: updates on the edits of one round.
        epsilon: how far the ratio may fall before it is clipped.
        epsilon_high: how far it may rise; None: as far.
        beta: weight of the KL divergence from the reference; 0: none is computed.
        loss_type: ``grpo``, mean over each edit's tokens, then over edits; ``bnpo``, mean over all tokens; ``dr_grpo``, sum
            over tokens by the longest edit allowed (no length bias, arXiv 2503.20783).
        scale_rewards: advantages are divided by the standard deviation of the ``group``, of the whole ``batch``, or by nothing
            (``none``, Dr. GRPO).
        importance_sampling_level: ratio of each ``token``, or of the ``sequence`` (GSPO).
        max_grad_norm: of the gradient.
    """

    contexts: int = 8
    num_generations: int = 6
    learning_rate: float = 1e-5
    num_iterations: int = 1
    epsilon: float = 0.2
    epsilon_high: float | None = None
    beta: float = 0.0
    loss_type: LossType = "bnpo"
    scale_rewards: ScaleRewards = "batch"
    importance_sampling_level: Level = "token"
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("contexts", 1), ("num_generations", 2), ("num_iterations", 1)):
            check_at_least(name, getattr(self, name), least)
        for name, choices in (
            ("loss_type", get_args(LossType)),
            ("scale_rewards", get_args(ScaleRewards)),
            ("importance_sampling_level", get_args(Level)),
        ):
            check_choice(name, getattr(self, name), choices)


class GRPO(Agent):
    """See the module's docstring."""

    Config = GRPOConfig
    config: GRPOConfig
    presets: ClassVar = {
        # Of three learning rates on validation articles, 480 edits each: half of it is slow, twice as much collapses.
        "seal-nano": Preset({"learning_rate": 1e-3}, tuned_on=3 * 480),
        "seal-nano-arc": Preset({"learning_rate": 1e-3, "contexts": 4, "num_generations": 15}, tuned_on=0),
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=self.config.learning_rate, weight_decay=0.0)

    def round(self, budget: int) -> Round | None:
        config, clock = self.config, Clock()
        contexts = min(config.contexts, budget // config.num_generations)
        if contexts == 0:
            return None
        tasks = self.draw_tasks(contexts)
        with clock("collect"):
            scored = self.collect(tasks, config.num_generations, top_p=1.0)
        completions = [one.completion for one in scored]
        rewards = torch.tensor([one.reward for one in scored], dtype=torch.float64)
        with clock("learn"):
            advantages = group_advantages(rewards.view(contexts, -1), config.scale_rewards).flatten()
            metrics = self.update(completions, advantages)
        return Round(scored, metrics=metrics, seconds=clock.seconds)

    def update(self, completions: Sequence[Completion], advantages: Tensor) -> dict[str, float]:
        """``num_iterations`` steps on these edits; ``advantages: (completions,)``."""
        policy, config = self.policy, self.config
        old = policy.log_probs(completions) if config.num_iterations > 1 else None
        reference = policy.log_probs(completions, reference=True) if config.beta else None
        metrics: dict[str, float] = {}
        for _ in range(config.num_iterations):
            metrics = accumulate_gradient(policy, completions, advantages, old, reference, config)
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
            metrics["grad_norm"] = float(norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return metrics

    def state(self) -> dict[str, Tensor]:
        return optimizer_state(self.optimizer)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        load_optimizer_state(self.optimizer, state)


def group_advantages(rewards: Tensor, scale: ScaleRewards) -> Tensor:
    """Advantages ``(groups, edits)`` of ``rewards: (groups, edits)``: what each has more than its group's mean, scaled."""
    centred = rewards - rewards.mean(1, keepdim=True)
    if scale == "none":
        return centred
    deviation = rewards.std(1, keepdim=True) if scale == "group" else rewards.std()
    return centred / (deviation + 1e-4)


def accumulate_gradient(
    policy: Policy,
    completions: Sequence[Completion],
    advantages: Tensor,
    old: Tensor | None,
    reference: Tensor | None,
    config: GRPOConfig,
) -> dict[str, float]:
    """Add the loss's gradient to the policy's parameters, a batch at a time; returns the loss and what it is made of.

    Args:
        advantages: ``(completions,)``.
        old: ``(completions, time)`` log-probabilities when the edits were written; None: those of now.
        reference: ``(completions, time)`` log-probabilities under the reference; needed for ``beta``.
    """
    tokens = sum(len(c.ids) for c in completions)
    totals = dict.fromkeys(("loss", "kl", "entropy", "clipped"), 0.0)
    device = policy.model.device
    for scores in policy.scores(completions):
        mask, time = scores.mask, scores.mask.shape[1]
        lengths = mask.sum(1, keepdim=True)
        before = scores.log_probs.detach() if old is None else old[scores.rows, :time].to(device)
        log_ratio = scores.log_probs - before
        if config.importance_sampling_level == "sequence":
            log_ratio = ((log_ratio * mask).sum(1, keepdim=True) / lengths).expand(-1, time)
        ratio = log_ratio.exp()
        high = config.epsilon if config.epsilon_high is None else config.epsilon_high
        advantage = advantages[scores.rows].to(ratio)[:, None]
        loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - config.epsilon, 1 + high) * advantage)
        if reference is not None:
            away = reference[scores.rows, :time].to(device) - scores.log_probs
            kl = away.exp() - away - 1  # never negative, unbiased (Schulman's k3)
            loss = loss + config.beta * kl
            totals["kl"] += float((kl.detach() * mask).sum()) / tokens
        if config.loss_type == "grpo":
            total = ((loss * mask).sum(1, keepdim=True) / lengths).sum() / len(completions)
        elif config.loss_type == "bnpo":
            total = (loss * mask).sum() / tokens
        else:
            total = (loss * mask).sum() / (len(completions) * policy.max_new_tokens)
        total.backward()
        outside = ((ratio < 1 - config.epsilon) & (advantage < 0)) | ((ratio > 1 + high) & (advantage > 0))
        totals["loss"] += total.item()
        with torch.no_grad():
            totals["entropy"] += float(scores.entropies.sum()) / tokens
        totals["clipped"] += float((outside * mask).sum()) / tokens
    if reference is None:
        totals["kl"] = math.nan
    return totals
