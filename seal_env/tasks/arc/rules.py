"""The rules of mini-arc: nineteen kinds, each a family of functions from a grid to a grid.

A rule is a kind and its parameters, ``Rule("shift", (0, 1))``; a composition is a tuple of rules, applied in order. Colour 0 is
the background, as in ARC.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from seal_env.tasks.arc.grids import COLOURS, Grid

Parameters = tuple[int, ...]
Function = Callable[..., Grid]
_PAINTS = range(1, COLOURS)


def rot90(grid: Grid, times: int = 1) -> Grid:
    """Rotate counterclockwise by ``times`` quarters, as ``numpy.rot90``."""
    for _ in range(times % 4):
        grid = tuple(zip(*grid))[::-1]
    return grid


def flip(grid: Grid, axis: int) -> Grid:
    """Upside down (axis 0) or left to right (axis 1), as ``numpy.flip``."""
    return grid[::-1] if axis == 0 else tuple(row[::-1] for row in grid)


def transpose(grid: Grid, anti: int = 0) -> Grid:
    """Mirror at the diagonal, or (``anti``) at the antidiagonal."""
    turned: Grid = tuple(zip(*grid))
    return rot90(turned, 2) if anti else turned


def shift(grid: Grid, down: int, right: int) -> Grid:
    """Move every cell, cyclically, as ``numpy.roll``."""
    down, right = down % len(grid), right % len(grid[0])
    return tuple(row[-right:] + row[:-right] for row in grid[-down:] + grid[:-down])


def _swap_lines(grid: Grid, axis: int, first: int) -> Grid:
    """Swap row (axis 0) or column (axis 1) ``first`` with the next one."""
    if axis:
        return transpose(_swap_lines(transpose(grid), 0, first))
    rows = list(grid)
    second = (first + 1) % len(rows)
    first %= len(rows)
    rows[first], rows[second] = rows[second], rows[first]
    return tuple(rows)


def _keep(grid: Grid, colour: int) -> Grid:
    """Keep only this colour."""
    return tuple(tuple(c if c == colour else 0 for c in row) for row in grid)


def _turned(change: Function) -> Function:
    """``change`` from another side: of the grid rotated by ``turns``, which is then rotated back."""
    return lambda grid, turns: rot90(change(rot90(grid, turns)), -turns)


def _line(grid: Grid, axis: int, index: int, colour: int) -> Grid:
    """Paint row (axis 0) or column (axis 1) ``index``."""
    if axis:
        return transpose(_line(transpose(grid), 0, index, colour))
    at = index % len(grid)
    return (*grid[:at], (colour,) * len(grid[0]), *grid[at + 1 :])


def _paint(where: Callable[..., bool]) -> Function:
    """Paint the cells for which ``where(row, column, last row, last column, *parameters)`` is true."""

    def paint(grid: Grid, *parameters: int) -> Grid:
        *rest, colour = parameters
        last = len(grid) - 1, len(grid[0]) - 1
        return tuple(tuple(colour if where(i, j, *last, *rest) else c for j, c in enumerate(row)) for i, row in enumerate(grid))

    return paint


def _recoloured(grid: Grid, new: dict[int, int]) -> Grid:
    return tuple(tuple(new.get(c, c) for c in row) for row in grid)


@dataclass(frozen=True)
class Kind:
    """A family of rules.

    Attributes:
        apply: from a grid and parameters to a grid.
        parameters: all parameters of the family, without colours.
        colours: the number of colours that follow as the last parameters.
    """

    apply: Function
    parameters: tuple[Parameters, ...]
    colours: int = 0


def _each(*values: Sequence[int]) -> tuple[Parameters, ...]:
    return tuple(product(*values))


_SIDES = _each((0, 1, 2, 3))  # quarter turns

KINDS: dict[str, Kind] = {
    "rotate": Kind(rot90, _each((1, 2, 3))),
    "flip": Kind(flip, _each((0, 1))),
    "transpose": Kind(transpose, _each((0, 1))),
    "shift": Kind(shift, ((0, 1), (0, -1), (1, 0), (-1, 0))),
    "swap_lines": Kind(_swap_lines, _each((0, 1), (0, 1))),
    # Coloured cells fall to the left (0), up (1), right (2) or down (3).
    "gravity": Kind(_turned(lambda grid: tuple(tuple(sorted(row, key=lambda c: c == 0)) for row in grid)), _SIDES),
    # Lines are sorted by their number of coloured cells, ascending and stable.
    "sort": Kind(_turned(lambda grid: tuple(sorted(grid, key=lambda row: sum(c > 0 for c in row)))), _SIDES),
    # One half is reflected onto the other.
    "mirror": Kind(
        _turned(lambda grid: tuple(row[: (len(row) + 1) // 2] + row[: len(row) // 2][::-1] for row in grid)), _SIDES
    ),
    # The outermost line of one side is copied onto all others.
    "spread": Kind(_turned(lambda grid: (grid[0],) * len(grid)), _SIDES),
    "swap_colours": Kind(lambda grid, first, second: _recoloured(grid, {first: second, second: first}), ((),), colours=2),
    "recolour": Kind(lambda grid, old, new: _recoloured(grid, {old: new}), ((),), colours=2),
    "fill": Kind(lambda grid, colour: _recoloured(grid, {0: colour}), ((),), colours=1),  # the background
    "keep": Kind(_keep, ((),), colours=1),
    "border": Kind(_paint(lambda i, j, last, end: i in (0, last) or j in (0, end)), ((),), colours=1),
    "line": Kind(_line, _each((0, 1), (0, 1, 2)), colours=1),
    "diagonal": Kind(_paint(lambda i, j, last, end, anti: i == (end - j if anti else j)), _each((0, 1)), colours=1),
    "corners": Kind(_paint(lambda i, j, last, end: i in (0, last) and j in (0, end)), ((),), colours=1),
    "cross": Kind(_paint(lambda i, j, last, end: i == (last + 1) // 2 or j == (end + 1) // 2), ((),), colours=1),
    "checker": Kind(_paint(lambda i, j, last, end: (i + j) % 2 == 0), ((),), colours=1),
}
NEW = ("diagonal", "corners", "cross", "checker")  # the bundled student was not trained on these, not even as single rules
KNOWN = tuple(kind for kind in KINDS if kind not in NEW)


@dataclass(frozen=True)
class Rule:
    """One rule: ``Rule("recolour", (3, 5))(grid)``."""

    kind: str
    parameters: Parameters = ()

    def __call__(self, grid: Grid) -> Grid:
        return KINDS[self.kind].apply(grid, *self.parameters)

    @property
    def colours(self) -> Parameters:
        """The parameters that are colours."""
        return self.parameters[len(self.parameters) - KINDS[self.kind].colours :]

    def with_colours(self, colours: Iterable[int]) -> Rule:
        """The same rule with other colours."""
        return Rule(self.kind, (*self.parameters[: len(self.parameters) - KINDS[self.kind].colours], *colours))

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.parameters))})"


Composition = tuple[Rule, ...]


def compose(rules: Composition, grid: Grid) -> Grid:
    """Apply the rules in order."""
    for rule in rules:
        grid = rule(grid)
    return grid


def draw_rule(rng: random.Random, kind: str, palette: Sequence[int] = _PAINTS) -> Rule:
    """A random rule of this kind, with distinct colours of ``palette``."""
    family = KINDS[kind]
    return Rule(kind, (*rng.choice(family.parameters), *rng.sample(palette, family.colours)))


def all_rules(kind: str, palette: Sequence[int] = _PAINTS) -> list[Rule]:
    """Every rule of this kind with colours of ``palette``."""
    family = KINDS[kind]
    return [Rule(kind, (*p, *colours)) for p in family.parameters for colours in permutations(palette, family.colours)]
