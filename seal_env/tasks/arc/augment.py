"""Augmentations: invertible changes to every grid of a task, after which its pairs still follow one rule.

The four groups are those of SEAL's tools (paper, section 4.2; its published code, after Akyürek et al., arXiv 2411.07279).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seal_env.tasks.arc.grids import COLOURS, Grid, size
from seal_env.tasks.arc.rules import flip, rot90, shift, transpose

_FARTHEST = 4  # a random translation moves less than this


class Pair(NamedTuple):
    """A demonstration or a test: an input grid and its output grid."""

    input: Grid
    output: Grid


@dataclass(frozen=True)
class Augmentation:
    """A change to a grid, and its inverse: ``invert(apply(grid)) == grid`` for every grid."""

    name: str
    apply: Callable[[Grid], Grid]
    invert: Callable[[Grid], Grid]

    def pairs(self, pairs: Iterable[Pair]) -> tuple[Pair, ...]:
        """Apply the augmentation to all inputs and outputs."""
        return tuple(Pair(self.apply(pair.input), self.apply(pair.output)) for pair in pairs)

    def then(self, other: Augmentation) -> Augmentation:
        """This augmentation, followed by ``other``."""
        return Augmentation(
            f"{self.name}, {other.name}", lambda g: other.apply(self.apply(g)), lambda g: self.invert(other.invert(g))
        )


def _repeat_rows(grid: Grid, times: int) -> Grid:
    return tuple(row for row in grid for _ in range(times))


def _repeat_columns(grid: Grid, times: int) -> Grid:
    return tuple(tuple(c for c in row for _ in range(times)) for row in grid)


def _beside(left: Grid, right: Grid) -> Grid:
    return tuple(a + b for a, b in zip(left, right))


def _halves(axis: int, second: bool) -> Callable[[Grid], Grid]:
    """The first or second half along an axis."""

    def half(grid: Grid) -> Grid:
        if axis == 1:
            middle = len(grid[0]) // 2
            return tuple(row[middle:] if second else row[:middle] for row in grid)
        return grid[len(grid) // 2 :] if second else grid[: len(grid) // 2]

    return half


def _rotation(times: int) -> Augmentation:
    return Augmentation(f"rotate {90 * times}", lambda g: rot90(g, times), lambda g: rot90(g, -times))


def _flip(axis: int) -> Augmentation:
    return Augmentation(f"flip {axis}", lambda g: flip(g, axis), lambda g: flip(g, axis))


def _reflection(axis: int, before: bool) -> Augmentation:
    """The grid and its mirror image side by side, the image first if ``before``."""

    def reflect(grid: Grid) -> Grid:
        image = flip(grid, axis)
        first, second = (image, grid) if before else (grid, image)
        return first + second if axis == 0 else _beside(first, second)

    return Augmentation(f"reflect {axis}{' before' if before else ''}", reflect, _halves(axis, second=before))


def translation(down: int, right: int) -> Augmentation:
    """Move every cell; cells that leave the grid enter on the opposite side."""
    return Augmentation(f"translate {down} {right}", lambda g: shift(g, down, right), lambda g: shift(g, -down, -right))


def colour_permutation(new: Sequence[int]) -> Augmentation:
    """Colour ``c`` becomes ``new[c]``; ``new`` holds 0 to 9, each once."""
    old = [new.index(colour) for colour in range(COLOURS)]
    return Augmentation(
        "permute colours",
        lambda g: tuple(tuple(new[c] for c in row) for row in g),
        lambda g: tuple(tuple(old[c] for c in row) for row in g),
    )


IDENTITY = Augmentation("identity", lambda g: g, lambda g: g)
TRANSPOSITION = Augmentation("transpose", transpose, transpose)
ROTATIONS = tuple(_rotation(times) for times in (1, 2, 3))
FLIPS = (_flip(0), _flip(1))
RESOLUTION = Augmentation(
    "resolution x2", lambda g: _repeat_columns(_repeat_rows(g, 2), 2), lambda g: tuple(row[::2] for row in g[::2])
)

BASIC = (*ROTATIONS, *FLIPS, *(_reflection(axis, before) for axis in (0, 1) for before in (True, False)), TRANSPOSITION)
SIZE = (
    RESOLUTION,
    Augmentation("height x2", lambda g: _repeat_rows(g, 2), lambda g: g[::2]),
    Augmentation("width x2", lambda g: _repeat_columns(g, 2), lambda g: tuple(row[::2] for row in g)),
)
CHAIN = tuple(first.then(RESOLUTION) for first in (ROTATIONS[0], ROTATIONS[2], ROTATIONS[1], *FLIPS, TRANSPOSITION))
REPEAT = (
    Augmentation("repeat 0", lambda g: g * 2, _halves(0, second=False)),
    Augmentation("repeat 1", lambda g: tuple(row * 2 for row in g), _halves(1, second=False)),
    Augmentation(
        "repeat both", lambda g: tuple(row * 2 for row in g) * 2, lambda g: tuple(r[: len(r) // 2] for r in g[: len(g) // 2])
    ),
)
GROUPS = {"basic": BASIC, "size": SIZE, "chain": CHAIN, "repeat": REPEAT}


def augmentations(group: str, pairs: Sequence[Pair], rng: random.Random) -> tuple[Augmentation, ...]:
    """The augmentations of a group of :data:`GROUPS`; ``basic`` also has a random translation of 0 to 3 cells each way."""
    if group != "basic":
        return GROUPS[group]
    return (*BASIC, random_translation(pairs, rng))


def random_translation(pairs: Sequence[Pair], rng: random.Random) -> Augmentation:
    """A translation by less than four cells, and less than the smallest grid, each way."""
    grids = [size(grid) for pair in pairs for grid in pair]
    return translation(*(rng.randrange(min(_FARTHEST, *(shape[axis] for shape in grids))) for axis in (0, 1)))


def random_colours(rng: random.Random) -> Augmentation:
    """A permutation of the colours 1 to 9; the background stays."""
    new = list(range(1, COLOURS))
    rng.shuffle(new)
    return colour_permutation([0, *new])
