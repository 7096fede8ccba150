"""The interface of a language model to the inner loop: a training step and decoding, with many adapters at once.

There are two implementations: :class:`~seal_env.student.llama.LlamaNetwork` (Llama, Qwen2 and Mistral: a decoder written for
stacked adapters) and :class:`~seal_env.student.generic.GenericNetwork` (any other causal LM, with its own forward pass and
autograd).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seal_env.student.layout import AdapterLayout
from seal_env.student.native import best_ops


@dataclass(frozen=True)
class TrainBatch:
    """One optimizer step of several adapters: sequences one after the other, sorted by adapter.

    Attributes:
        tokens: ``(n,)`` token ids.
        lengths: of each sequence; all equal (padded on the right) unless the network is :attr:`Network.ragged`.
        group_lengths: tokens of each adapter.
        label_positions: ``(labels,)`` indices into ``tokens`` of the positions that predict a learnt token.
        label_ids: ``(labels,)`` tokens to predict there.
        label_weights: ``(labels,)`` weight of each in its adapter's loss (1 / learnt tokens of that adapter's step).
        label_groups: ``(labels,)`` adapter of each label.
    """

    tokens: Tensor
    lengths: list[int]
    group_lengths: list[int]
    label_positions: Tensor
    label_ids: Tensor
    label_weights: Tensor
    label_groups: Tensor

    def to(self, device: torch.device) -> TrainBatch:
        """The batch with its tensors on ``device``."""
        tensors = (self.tokens, self.label_positions, self.label_ids, self.label_weights, self.label_groups)
        tokens, *labels = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return TrainBatch(tokens, self.lengths, self.group_lengths, *labels)


class DecodingSession(ABC):
    """Rows that are decoded together, each with its own adapter and its own key-value cache."""

    @abstractmethod
    def prefill(self) -> Tensor:
        """Process all prompts; return the logits after each, ``(rows, vocabulary)``."""

    @abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each row, ``tokens: (rows,)``; return the next logits, ``(rows, vocabulary)``."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (ascending indices)."""


class Network(ABC):
    """A frozen causal LM that trains and applies adapters given as flat vectors.

    Attributes:
        static_decoding: decode with the same tensor shapes for many steps, as a CUDA graph on a GPU, if the network supports
            it.
    """

    static_decoding = False
    bfloat16_kernels = False  # whether the network computes in float32 where its operations do, with bfloat16 weights

    def __init__(self, model: PreTrainedModel, layout: AdapterLayout) -> None:
        self.model = model
        self.layout = layout
        self.ops = best_ops(model, self.bfloat16_kernels)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the computation, mostly that of the base weights; trained adapters and the optimizer state are always float32."""
        return self.model.dtype if self.ops.dtype is None or not self.bfloat16_kernels else self.ops.dtype

    @property
    def ragged(self) -> int:
        """Sequences up to this length are batched without padding; 0: all are padded to one length."""
        return 0

    @abstractmethod
    def train_step(self, state: Tensor, slots: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Losses ``(groups,)`` and gradients ``(groups, numel)``, in float32, of one optimizer step.

        The adapters are rows ``slots: (groups,)`` of ``state: (n, numel)``. The gradients are overwritten by the next call.
        """

    def release(self) -> None:  # noqa: B027 (most networks keep nothing)
        """Free buffers that are kept between training steps."""

    @abstractmethod
    def token_log_probs(self, adapters: Tensor, adapter_of_row: list[int], tokens: Tensor) -> Tensor:
        """Log-probability of every token after the first given those before it, ``(rows, time - 1)``.

        ``tokens: (rows, time)`` is padded on the right; values at padded positions are undefined.
        """

    @abstractmethod
    def decode(
        self, adapters: Tensor, adapter_of_row: list[int], prompts: list[list[int]], max_new_tokens: int
    ) -> DecodingSession:
        """Begin to decode ``prompts``, one in each row; ``adapter_of_row`` ascends."""

    def length_class(self, length: int) -> int:
        """Class of a sequence; sequences of one class can share a batch without changing each other's results."""
        return 0

    def prompt_class(self, length: int) -> int:
        """Class of a prompt; prompts of one class can be decoded together without changing each other's results."""
        return 0

    @abstractmethod
    def training_bytes_per_token(self) -> int:
        """Estimate of the memory that one token of a training batch needs until its backward pass."""
