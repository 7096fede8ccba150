"""Updates: the training examples of a self-edit, and the settings of the inner loop that learns them.

update = Update([Example("Otrar\\nOtrar fell in 1219.")], UpdateConfig(learning_rate=5e-4, epochs=5), seed=0)

An edit format (``seal_env.edits``) turns an edit into an :class:`Update`, and the student (``seal_env.student``) fits it.
Nothing here needs torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

from seal_env.checks import check_choice
from seal_env.optimizers import Optimizer, make_optimizer

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
class UpdateConfig:
    """Settings of the inner loop. The defaults are SEAL's (paper, section 3.1 and its published code).

    The loss of a step is the mean over its learnt tokens.

    Attributes:
        optimizer: a name registered in :data:`seal_env.optimizers.OPTIMIZERS`, ``package.module:object``, or a subclass of
            :class:`seal_env.optimizers.Optimizer`.
        optimizer_options: keyword arguments of the optimizer.
        learning_rate: peak learning rate.
        epochs: passes over the examples.
        batch_size: sequences per optimizer step; 0: all sequences in one step.
        schedule: decay after the warm-up: ``linear`` to zero, ``cosine`` to zero, or ``constant``.
        warmup_steps: steps over which the learning rate climbs linearly from zero.
        max_grad_norm: the adapter's gradient is scaled down to this L2 norm; ``inf`` never clips.
        weight_decay: on A and B; decoupled for AdamW.
        max_length: longer sequences are cut to this many tokens (and reported as truncated).
        shuffle: visit the examples in a random order (True) or as given.

    Raises:
        ValueError: a value is out of range, or there is no such optimizer.
    """

    optimizer: str | type[Optimizer] = "adamw"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    learning_rate: float = 1e-3
    epochs: int = 10
    batch_size: int = 1
    schedule: Schedule = "linear"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    max_length: int = 2048
    shuffle: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer_options, Mapping):
            raise ValueError(f"optimizer_options must be a dictionary, got {self.optimizer_options!r}")
        if self.optimizer != UpdateConfig.optimizer or self.optimizer_options:  # the default one would import torch
            self.make_optimizer()
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise ValueError(f"learning_rate must be a finite number >= 0, got {self.learning_rate}")
        for name, least in (("epochs", 0), ("batch_size", 0), ("warmup_steps", 0), ("max_length", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        check_choice("schedule", self.schedule, get_args(Schedule))
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be > 0 (inf never clips), got {self.max_grad_norm}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be a finite number >= 0, got {self.weight_decay}")
        if not isinstance(self.shuffle, bool):
            raise ValueError(f"shuffle must be True or False, got {self.shuffle!r}")

    def make_optimizer(self) -> Optimizer:
        """Instantiate ``optimizer`` with its options; see :func:`seal_env.optimizers.make_optimizer` for errors."""
        return make_optimizer(self.optimizer, self.optimizer_options)

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


@dataclass(frozen=True)
class Update:
    """One run of the inner loop, which gives one adapter.

    Attributes:
        examples: training sequences, kept as a tuple; each epoch visits all of them in a fresh order drawn from ``seed``.
        config: how they are learnt.
        seed: of a fresh adapter's initial weights and of the order of examples.
    """

    examples: Sequence[Example | TokenExample] = ()
    config: UpdateConfig = UpdateConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", tuple(self.examples))
        for example in self.examples:
            if not isinstance(example, (Example, TokenExample)):
                raise TypeError(f"Update.examples takes Example or TokenExample, got {type(example).__name__}: {example!r}")

    def steps(self, sequences: int) -> list[list[int]]:
        """Which of ``sequences`` examples each optimizer step takes, over all epochs; a function of ``seed``."""
        rng = random.Random(self.seed)
        batch_size = self.config.batch_size or max(1, sequences)
        steps = []
        for _ in range(self.config.epochs):
            order = list(range(sequences))
            if self.config.shuffle:
                rng.shuffle(order)
            steps += [order[i : i + batch_size] for i in range(0, sequences, batch_size)]
        return steps


@dataclass(frozen=True)
class InnerLoopSettings:
    """Base class of the settings by which self-edits become updates: own fields beside an :class:`UpdateConfig`.

    Attributes:
        update_config: how the training examples are learnt.
    """

    update_config: UpdateConfig = field(default=UpdateConfig(), kw_only=True)

    not_options: ClassVar[frozenset[str]] = frozenset()  # fields that are no options of an environment's ``inner_loop``

    @classmethod
    def option_names(cls) -> list[str]:
        """Options of ``inner_loop``, a flat mapping: fields of this class and of :class:`UpdateConfig`."""
        own = [f.name for f in fields(cls) if f.name != "update_config"]
        return [name for name in [*own, *(f.name for f in fields(UpdateConfig))] if name not in cls.not_options]

    def with_options(self, **options: Any) -> Self:
        """A copy with other values; those of :class:`UpdateConfig` are given by their own names."""
        config = {f.name: options.pop(f.name) for f in fields(UpdateConfig) if f.name in options}
        return replace(self, update_config=replace(self.update_config, **config), **options)
