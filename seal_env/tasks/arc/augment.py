"""Augmentations: invertible changes to every grid of a task, after which its pairs still follow one rule.

The four groups are those of SEAL's tools (paper, section 4.2; its published code, after Akyürek et al., arXiv 2411.07279).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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


def _enlarged(grid: Grid, rows: int, columns: int) -> Grid:
    return tuple(tuple(c for c in row for _ in range(columns)) for row in grid for _ in range(rows))


def _every_other(grid: Grid, rows: int, columns: int) -> Grid:
    return tuple(row[::columns] for row in grid[::rows])


def _half(grid: Grid, axis: int, second: bool = False) -> Grid:
    """The first or second half along an axis."""
    if axis == 1:
        return transpose(_half(transpose(grid), 0, second))
    middle = len(grid) // 2
    return grid[middle:] if second else grid[:middle]


def _joined(first: Grid, second: Grid, axis: int) -> Grid:
    """One above the other (axis 0) or side by side (axis 1)."""
    return first + second if axis == 0 else tuple(a + b for a, b in zip(first, second))


def _size(name: str, rows: int, columns: int) -> Augmentation:
    return Augmentation(name, lambda g: _enlarged(g, rows, columns), lambda g: _every_other(g, rows, columns))


def _reflection(axis: int, before: bool) -> Augmentation:
    """The grid and its mirror image side by side, the image first if ``before``."""
    return Augmentation(
        f"reflect {axis}{' before' if before else ''}",
        lambda g: _joined(flip(g, axis), g, axis) if before else _joined(g, flip(g, axis), axis),
        lambda g: _half(g, axis, second=before),
    )


def _repetition(axis: int) -> Augmentation:
    return Augmentation(f"repeat {axis}", lambda g: _joined(g, g, axis), lambda g: _half(g, axis))


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
ROTATIONS = tuple(Augmentation(f"rotate {90 * n}", partial(rot90, times=n), partial(rot90, times=-n)) for n in (1, 2, 3))
FLIPS = tuple(Augmentation(f"flip {axis}", partial(flip, axis=axis), partial(flip, axis=axis)) for axis in (0, 1))
RESOLUTION = _size("resolution x2", 2, 2)

BASIC = (*ROTATIONS, *FLIPS, *(_reflection(axis, before) for axis in (0, 1) for before in (True, False)), TRANSPOSITION)
SIZE = (RESOLUTION, _size("height x2", 2, 1), _size("width x2", 1, 2))
CHAIN = tuple(first.then(RESOLUTION) for first in (ROTATIONS[0], ROTATIONS[2], ROTATIONS[1], *FLIPS, TRANSPOSITION))
_DOWN, _ACROSS = _repetition(0), _repetition(1)
REPEAT = (_DOWN, _ACROSS, replace(_ACROSS.then(_DOWN), name="repeat both"))
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
