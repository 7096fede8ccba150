"""What an action turned into: the training examples and settings of one inner loop.

An edit format (``seal_env.edits``) writes an :class:`UpdatePlan`; the student (``seal_env.student``) carries it out.
Nothing here needs torch.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

from seal_env.checks import check_choice

Schedule = Literal["linear", "cosine", "constant"]

# SEAL's adapter, on PEFT's default targets (paper, section 3.1 and its published code).
SEAL_LORA: dict[str, object] = {"r": 32, "lora_alpha": 64}


@dataclass(frozen=True)
class Example:
    """One training sequence, as text.

    Attributes:
        text: the sequence. Special tokens are added as the student's tokenizer does by default.
        loss_from: character offset; tokens that begin before it are read but not learnt (0: loss on everything).
    """

    text: str
    loss_from: int = 0


@dataclass(frozen=True)
class TokenExample:
    """One training sequence, already tokenized: nothing is added to it.

    Attributes:
        ids: token ids, ``(time,)``.
        loss_from: token offset of the first token to learn.
    """

    ids: tuple[int, ...]
    loss_from: int = 0


@dataclass(frozen=True)
class UpdatePlan:
    """One inner loop: what to train on and how. The defaults are SEAL's (paper, section 3.1 and its published code).

    AdamW with betas (0.9, 0.999) and eps 1e-8, the loss of a step being the mean over its learnt tokens.

    Attributes:
        examples: training sequences; each epoch visits all of them in a fresh order drawn from ``seed``.
        learning_rate: peak learning rate.
        epochs: passes over the examples.
        batch_size: sequences per optimizer step.
        schedule: decay after the warm-up: ``linear`` to zero, ``cosine`` to zero, or ``constant``.
        warmup_steps: steps over which the learning rate climbs linearly from zero.
        max_grad_norm: the adapter's gradient is scaled down to this L2 norm; ``inf`` never clips.
        weight_decay: decoupled weight decay on A and B.
        max_length: longer sequences are cut to this many tokens (and reported as truncated).
        shuffle: visit the examples in a random order (True) or as given.
        seed: of a fresh adapter's initial weights and of the order of examples.
    """

    examples: tuple[Example | TokenExample, ...] = ()
    learning_rate: float = 1e-3
    epochs: int = 10
    batch_size: int = 1
    schedule: Schedule = "linear"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    max_length: int = 2048
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", tuple(self.examples))
        for example in self.examples:
            if not isinstance(example, (Example, TokenExample)):
                raise TypeError(f"UpdatePlan.examples takes Example or TokenExample, got {type(example).__name__}: {example!r}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise ValueError(f"learning_rate must be a finite number >= 0, got {self.learning_rate}")
        for name, least in (("epochs", 0), ("batch_size", 1), ("warmup_steps", 0), ("max_length", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        check_choice("schedule", self.schedule, get_args(Schedule))
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be > 0 (inf never clips), got {self.max_grad_norm}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be a finite number >= 0, got {self.weight_decay}")

    def steps(self, sequences: int) -> list[list[int]]:
        """Which of ``sequences`` examples each optimizer step takes, over all epochs; a function of ``seed``."""
        rng = random.Random(self.seed)
        steps = []
        for _ in range(self.epochs):
            order = list(range(sequences))
            if self.shuffle:
                rng.shuffle(order)
            steps += [order[i : i + self.batch_size] for i in range(0, sequences, self.batch_size)]
        return steps

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """Learning rate of optimizer step ``step`` (from 0) of ``total_steps``, as ``transformers`` computes it."""
        if step < self.warmup_steps:
            return self.learning_rate * step / max(1, self.warmup_steps)
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        if self.schedule == "linear":
            return self.learning_rate * max(0.0, 1.0 - progress)
        return self.learning_rate * max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
