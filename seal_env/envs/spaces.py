"""A space of free text: self-edits and passages hold any Unicode, which ``gymnasium.spaces.Text`` cannot say."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Text
from gymnasium.spaces.utils import flatdim, flatten, flatten_space, unflatten
from numpy.typing import NDArray

_SAMPLED = string.ascii_letters + string.digits + " .,\n"
_SAMPLED_LENGTH = 64
_NOTHING = -1  # fills up a flattened text


class FreeText(Text):
    """Any ``str`` of at most ``max_length`` characters, whatever they are.

    :meth:`sample` draws up to 64 letters, digits and blanks. Flattened, a text is ``(max_length,)`` code points, then -1.
    """

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=0, charset=_SAMPLED, seed=seed)

    def sample(self, mask: None = None, probability: None = None) -> str:  # type: ignore[override]
        length = int(self.np_random.integers(0, min(self.max_length, _SAMPLED_LENGTH) + 1))
        return "".join(self.np_random.choice(list(_SAMPLED), length))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"FreeText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeText) and other.max_length == self.max_length


@flatdim.register(FreeText)
def _flatdim(space: FreeText) -> int:
    return space.max_length


@flatten_space.register(FreeText)
def _flatten_space(space: FreeText) -> Box:
    return Box(_NOTHING, 0x10FFFF, (space.max_length,), np.int32)


@flatten.register(FreeText)
def _flatten(space: FreeText, x: str) -> NDArray[np.int32]:  # type: ignore[misc]
    points = np.full(space.max_length, _NOTHING, np.int32)
    points[: len(x)] = [ord(character) for character in x]
    return points


@unflatten.register(FreeText)
def _unflatten(space: FreeText, x: NDArray[np.int32]) -> str:  # type: ignore[misc]
    return "".join(chr(point) for point in x if point != _NOTHING)
