"""The adapter and the sequence of each row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


class Groups:
    """Rows ``(n, features)`` of several adapters, sorted by adapter.

    Batched products with the adapters need a rectangle ``(adapters, width, features)``: :meth:`spread` copies rows into it and
    :meth:`collect` copies them back. It is at least two rows wide, so that a product never falls into matrix-vector kernels,
    whose rounding differs.

    Args:
        counts: number of rows of each adapter.
        device: of the rows.
    """

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        self.adapters = len(counts)
        self.most = max(counts)
        self._counts, self._device = counts, device
        self._width = max(2, self.most)
        self._full = min(counts) == self._width
        self._cells: tuple[Tensor, Tensor] | None = None

    @cached_property
    def starts(self) -> Tensor:
        """The first row of each adapter, and the number of rows, ``(adapters + 1,)``."""
        return _offsets(self._counts, self._device)

    def spread(self, x: Tensor) -> Tensor:
        """``(n, features)`` to ``(adapters, width, features)``; unused cells repeat a row."""
        if not self._full:
            x = x.index_select(0, self._cell_indices()[1])
        return x.view(self.adapters, self._width, x.shape[1])

    def collect(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`spread`."""
        x = x.reshape(self.adapters * self._width, x.shape[2])
        return x if self._full else x.index_select(0, self._cell_indices()[0])

    def _cell_indices(self) -> tuple[Tensor, Tensor]:
        """The cell of each row, and the row of each cell."""
        if self._cells is None:  # from the counts, without a synchronization with the device
            cell_of_row = torch.cat([torch.arange(count) + i * self._width for i, count in enumerate(self._counts)])
            row_of_cell = torch.zeros(self.adapters * self._width, dtype=torch.long)
            row_of_cell[cell_of_row] = torch.arange(len(cell_of_row))
            self._cells = cell_of_row.to(self._device, non_blocking=True), row_of_cell.to(self._device, non_blocking=True)
        return self._cells


class Sequences:
    """Rows ``(n, features)`` of the positions of several sequences, one sequence after the other.

    Args:
        lengths: number of rows of each sequence.
        device: of the rows.
        prefixes: first row and number of rows of what each sequence continues: the rows of another sequence, or none of them
            (0, 0). Only kernels that ``TorchOps.shares_prefixes`` support this.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, prefixes: Sequence[tuple[int, int]] | None = None) -> None:
        self.count = len(lengths)
        self.longest = max(lengths) if prefixes is None else max(n + before for n, (_, before) in zip(lengths, prefixes))
        self.even = prefixes is None and min(lengths) == self.longest
        self._lengths, self._device, self._prefixes = lengths, device, prefixes

    @cached_property
    def starts(self) -> Tensor:
        """The first row of each sequence, and the number of rows, ``(sequences + 1,)``."""
        return _offsets(self._lengths, self._device)

    @cached_property
    def prefixes(self) -> Tensor | None:
        """``(sequences, 2)``: the first row and the number of rows of each prefix; None if there are none."""
        return None if self._prefixes is None else torch.tensor(self._prefixes).to(self._device)

    @property
    def shape(self) -> tuple[int, int]:
        """``(sequences, time)`` of sequences of equal lengths."""
        assert self.even
        return self.count, self.longest


def _offsets(counts: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(counts)]).to(device, non_blocking=True)


def row_counts(adapter_of_row: Sequence[int], adapters: int) -> list[int]:
    """Number of rows of each of ``adapters``."""
    counts = [0] * adapters
    for adapter in adapter_of_row:
        counts[adapter] += 1
    return counts


def keep_rows(adapter_of_row: Sequence[int], rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """The adapters that ``rows`` (ascending) use, and the adapter of each row as an index into these."""
    used = sorted({adapter_of_row[row] for row in rows})
    index = {adapter: i for i, adapter in enumerate(used)}
    return used, [index[adapter_of_row[row]] for row in rows]
