"""ReST-EM, the outer loop that SEAL published (paper, section 3.1; Singh et al., arXiv 2312.06585).

E-step: write several edits for each of some passages and score each of them. M-step: keep the good ones and fine-tune the
policy on them. The adapter is merged after each round, and the next one starts afresh, as the authors do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from agents.base import Agent, Clock, Preset, Round, Scored
from agents.policy import Completion, Policy
from agents.selection import SELECTIONS, by_task
from seal_env.checks import check_at_least, did_you_mean


@dataclass(frozen=True)
class ReSTEMConfig:
    """Hyperparameters; the defaults are SEAL's, for passages and Qwen2.5-7B (paper, section 4.1 and appendix).

    Attributes:
        contexts: passages a round.
        samples: edits a passage.
        selection: ``best``, ``positive``, ``quantile`` or ``shrunk``, see :mod:`agents.selection`.
        rescore: leaders of each passage that are scored once more before one is chosen; 0: the first score is trusted.
        quantile: of ``selection="quantile"``.
        learning_rate: peak of AdamW's, which falls linearly to zero within the round.
        epochs: passes over the kept edits.
        batch_size: kept edits a step.
        max_grad_norm: of the gradient.
        same_contexts: whether all rounds use the first round's passages.
    """

    contexts: int = 50
    samples: int = 5
    selection: str = "best"
    rescore: int = 0
    quantile: float = 0.9
    learning_rate: float = 3e-4
    epochs: int = 2
    batch_size: int = 10
    max_grad_norm: float = 1.0
    same_contexts: bool = True

    def __post_init__(self) -> None:
        for name in ("contexts", "samples", "epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1)
        if self.selection not in SELECTIONS:
            hint = did_you_mean(self.selection, list(SELECTIONS))
            raise ValueError(f"selection must be one of {', '.join(SELECTIONS)}, got {self.selection!r}.{hint}")
        if not 0 <= self.rescore <= self.samples:
            raise ValueError(f"rescore must be from 0 to samples={self.samples}, got {self.rescore!r}")
        if not 0 <= self.quantile < 1:
            raise ValueError(f"quantile must be in [0, 1), got {self.quantile!r}")


class ReSTEM(Agent):
    """See the module's docstring."""

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
        if self.seal.config.approximate:
            _check_proxy(self.config)

    def round(self, budget: int) -> Round | None:
        config, clock = self.config, Clock()
        contexts = min(config.contexts, budget // (config.samples + config.rescore))
        if contexts == 0:
            return None
        tasks = self.draw_tasks(contexts)
        with clock("collect"):
            scored = self.collect(tasks, config.samples)
        again: list[Scored] = []
        judged: list[Scored] = scored
        if config.rescore:
            with clock("rescore"):
                leaders = [one for group in by_task(scored) for one in _leaders(group, config.rescore)]
                again = self.rescore(leaders)
                judged = again
        kept = SELECTIONS[config.selection](judged, config.quantile)
        with clock("learn"):
            loss = fine_tune(self.policy, [one.completion for one in kept], config, seed=int(self.rng("learn").integers(2**31)))
            self.policy.merge()
        metrics = {"kept": len(kept) / len(scored), "loss": loss}
        return Round(scored, again, metrics=metrics, seconds=clock.seconds)


def _check_proxy(config: ReSTEMConfig) -> None:
    """Raise a ValueError for what needs more than a proxy's reward, which is the same each time."""
    if config.selection in ("positive", "shrunk"):
        raise ValueError(f"selection={config.selection!r} needs scores, and reward='proxy' has none: 'best' or 'quantile'")
    if config.rescore:
        raise ValueError(f"reward='proxy' is the same each time: rescore must be 0, got {config.rescore}")


def _leaders(group: Sequence[Scored], count: int) -> list[Scored]:
    return sorted(group, key=lambda one: -one.reward)[:count]


def fine_tune(policy: Policy, completions: Sequence[Completion], config: ReSTEMConfig, seed: int) -> float:
    """SFT on the completions, with the loss on what was written and not on the prompts; the last epoch's mean loss in nats."""
    if not completions:
        return float("nan")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=config.learning_rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(completions) // config.batch_size)
    steps, step, total, count = batches * config.epochs, 0, 0.0, 0.0
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
