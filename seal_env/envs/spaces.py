"""A space of free text: self-edits and passages hold any Unicode, but ``gymnasium.spaces.Text`` enforces a character set."""

from __future__ import annotations

import multiprocessing
import string
from collections.abc import Sequence
from multiprocessing.heap import BufferWrapper
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Text
from gymnasium.spaces.utils import flatdim, flatten, flatten_space, unflatten
from gymnasium.vector.utils import batch_differing_spaces
from gymnasium.vector.utils.shared_memory import create_shared_memory, read_from_shared_memory, write_to_shared_memory
from numpy.typing import NDArray

_SAMPLE_CHARACTERS = string.ascii_letters + string.digits + " .,\n"
_SAMPLE_LENGTH = 64
_PADDING = -1  # after the end of a flattened text


class FreeText(Text):
    """Any ``str`` of at most ``max_length`` characters.

    :meth:`sample` draws up to 64 letters, digits, blanks and punctuation. A flattened text is ``(max_length,)`` int32: its code
    points, padded with -1.
    """

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=0, charset=_SAMPLE_CHARACTERS, seed=seed)

    def sample(self, mask: None = None, probability: None = None) -> str:  # type: ignore[override]
        length = int(self.np_random.integers(0, min(self.max_length, _SAMPLE_LENGTH) + 1))
        return "".join(self.np_random.choice(list(_SAMPLE_CHARACTERS), length))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"FreeText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeText) and other.max_length == self.max_length


flatdim.register(FreeText)(lambda space: space.max_length)
flatten_space.register(FreeText)(lambda space: Box(_PADDING, 0x10FFFF, (space.max_length,), np.int32))
unflatten.register(FreeText)(lambda space, x: "".join(chr(point) for point in x if point != _PADDING))  # type: ignore[misc]
batch_differing_spaces.register(FreeText)(batch_differing_spaces.dispatch(Text))  # type: ignore[misc]  # it dispatches on the exact type


@flatten.register(FreeText)
def _flatten(space: FreeText, x: str) -> NDArray[np.int32]:  # type: ignore[misc]
    points = np.full(space.max_length, _PADDING, np.int32)
    points[: len(x)] = [ord(character) for character in x]
    return points


class _SharedTexts(Sequence[str]):
    """A view of the texts of ``n`` sub-environments in shared memory; a row is a length, followed by code points.

    Gymnasium reads shared memory once, keeps the view, and returns deep copies of it, which are tuples of ``str`` here. The
    memory comes from multiprocessing's heap, as for ``multiprocessing.Array``, but is not filled with zeros, so that only the
    pages that texts fill are used.
    """

    def __init__(self, n: int, max_length: int) -> None:
        self._shape = (n, 1 + max_length)
        self._buffer = BufferWrapper(4 * n * (1 + max_length))
        self._rows[:, 0] = 0

    @property
    def _rows(self) -> NDArray[np.int32]:
        size = self._shape[0] * self._shape[1]
        return np.frombuffer(self._buffer.create_memoryview(), np.int32, size).reshape(self._shape)

    def write(self, index: int, text: str) -> None:
        row = self._rows[index]
        row[0] = len(text)
        row[1 : 1 + len(text)] = [ord(character) for character in text]

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        row = self._rows[index]
        return "".join(map(chr, row[1 : 1 + row[0]]))

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)


create_shared_memory.register(FreeText)(lambda space, n=1, ctx=multiprocessing: _SharedTexts(n, space.max_length))
read_from_shared_memory.register(FreeText)(lambda space, shared_memory, n=1: shared_memory)


@write_to_shared_memory.register(FreeText)
def _write_to_shared_memory(space: FreeText, index: int, value: str, shared_memory: _SharedTexts) -> None:
    if not space.contains(value):
        raise ValueError(f"{space} holds texts of at most {space.max_length} characters, got {value!r:.80}")
    shared_memory.write(index, value)
