"""What the inner loop needs of a language model: a training step and decoding, with many adapters at once.

Two classes fulfil it: :class:`~seal_env.student.llama.LlamaNetwork` (Llama, Qwen2, Mistral and their kin: a decoder written
for stacked adapters) and :class:`~seal_env.student.generic.GenericNetwork` (any other causal LM, through its own forward
pass and autograd).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seal_env.student.layout import AdapterLayout


@dataclass(frozen=True)
class TrainBatch:
    """One optimizer step of several adapters: ``groups`` adapters with ``rows`` sequences each, padded on the right.

    Attributes:
        tokens: ``(groups * rows, time)`` token ids.
        groups: number of adapters.
        label_positions: ``(labels,)`` flat indices into ``tokens`` of the positions that predict a learnt token.
        label_ids: ``(labels,)`` the tokens to predict there.
        label_weights: ``(labels,)`` weight of each in its adapter's loss (1 / learnt tokens of that adapter's step).
        label_groups: ``(labels,)`` which adapter each belongs to.
    """

    tokens: Tensor
    groups: int
    label_positions: Tensor
    label_ids: Tensor
    label_weights: Tensor
    label_groups: Tensor


class RowMap:
    """Which adapter each row of a decoding batch uses; rows of one adapter are neighbours.

    Products with the adapters run on a rectangle ``(adapters, most rows of one, ...)``: ``spread`` brings rows into it
    and ``collect`` brings them back. At least two rows an adapter, so that a product never falls into the
    matrix-vector kernels, whose rounding differs.
    """

    def __init__(self, adapter_of_row: Tensor, adapters: int) -> None:
        counts = torch.bincount(adapter_of_row, minlength=adapters)
        self.adapters = adapters
        self.width = max(2, int(counts.max()))
        starts = torch.cumsum(counts, 0) - counts
        within = torch.arange(len(adapter_of_row), device=adapter_of_row.device) - starts[adapter_of_row]
        self._cell = adapter_of_row * self.width + within
        self._rectangular = bool((counts == self.width).all())
        row_of_cell = torch.zeros(adapters * self.width, dtype=torch.long, device=adapter_of_row.device)
        row_of_cell[self._cell] = torch.arange(len(adapter_of_row), device=adapter_of_row.device)
        self._row_of_cell = row_of_cell

    def spread(self, x: Tensor) -> Tensor:
        """``(rows, time, features)`` to ``(adapters, width * time, features)``; unused cells repeat some row."""
        if not self._rectangular:
            x = x.index_select(0, self._row_of_cell)
        return x.reshape(self.adapters, self.width * x.shape[1], x.shape[2])

    def collect(self, x: Tensor, time: int) -> Tensor:
        """The inverse of :meth:`spread`: ``(adapters, width * time, features)`` to ``(rows, time, features)``."""
        x = x.reshape(self.adapters * self.width, time, x.shape[-1])
        return x if self._rectangular else x.index_select(0, self._cell)


class DecodingSession(ABC):
    """Rows being decoded together, each with its own adapter and its own key-value cache."""

    @abstractmethod
    def prefill(self) -> Tensor:
        """Read all prompts; return the logits after each, ``(rows, vocabulary)``."""

    @abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """Append one token a row, ``tokens: (rows,)``; return the next logits, ``(rows, vocabulary)``."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these (ascending indices)."""


class Network(ABC):
    """A frozen causal LM that trains and applies adapters given as flat vectors."""

    def __init__(self, model: PreTrainedModel, layout: AdapterLayout) -> None:
        self.model = model
        self.layout = layout

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the base weights and of the computation; adapters and their optimizer are always float32."""
        return self.model.dtype

    @abstractmethod
    def train_step(self, state: Tensor, slots: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Losses ``(groups,)`` and gradients ``(groups, numel)``, in float32, of one optimizer step.

        The adapters are rows ``slots: (groups,)`` of ``state: (n, numel)``. The gradients are overwritten by the next call.
        """

    @abstractmethod
    def token_log_probs(self, adapters: Tensor, adapter_of_row: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of every token after the first given those before it, ``(rows, time - 1)``.

        ``tokens: (rows, time)`` is padded on the right; what stands at padded places has no meaning.
        """

    @abstractmethod
    def decode(
        self, adapters: Tensor, adapter_of_row: Tensor, prompts: list[list[int]], max_new_tokens: int
    ) -> DecodingSession:
        """Open a session for ``prompts``, one a row, ``adapter_of_row: (rows,)`` ascending."""

    def length_class(self, length: int) -> int:
        """Sequences of one class may share a batch without changing each other's rounding."""
        return 0

    @abstractmethod
    def training_bytes_per_token(self) -> int:
        """Estimate of the memory that one token of a training batch holds until its backward pass is over."""
