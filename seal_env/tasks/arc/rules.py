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


def _swap_colours(grid: Grid, first: int, second: int) -> Grid:
    return _recoloured(grid, {first: second, second: first})


def _recolour(grid: Grid, old: int, new: int) -> Grid:
    return _recoloured(grid, {old: new})


def _fill(grid: Grid, colour: int) -> Grid:
    """Paint the background."""
    return _recoloured(grid, {0: colour})


def _keep(grid: Grid, colour: int) -> Grid:
    """Keep only this colour."""
    return tuple(tuple(c if c == colour else 0 for c in row) for row in grid)


def _border(grid: Grid, colour: int) -> Grid:
    """Paint the outermost cells."""
    last, end = len(grid) - 1, len(grid[0]) - 1
    return tuple(
        tuple(colour if i in (0, last) or j in (0, end) else c for j, c in enumerate(row)) for i, row in enumerate(grid)
    )


def _gravity(grid: Grid, turns: int) -> Grid:
    """Let coloured cells fall to the left (0), up (1), right (2) or down (3)."""
    turned = rot90(grid, turns)
    fallen: Grid = tuple(tuple(sorted(row, key=lambda c: c == 0)) for row in turned)
    return rot90(fallen, -turns)


def _sort(grid: Grid, turns: int) -> Grid:
    """Sort lines by their number of coloured cells, ascending and stable."""
    turned = rot90(grid, turns)
    return rot90(tuple(sorted(turned, key=lambda row: sum(c > 0 for c in row))), -turns)


def _mirror(grid: Grid, turns: int) -> Grid:
    """Reflect one half onto the other."""
    turned = rot90(grid, turns)
    width = len(turned[0])
    return rot90(tuple(tuple(row[min(j, width - 1 - j)] for j in range(width)) for row in turned), -turns)


def _spread(grid: Grid, turns: int) -> Grid:
    """Copy the outermost line of one side onto all others."""
    turned = rot90(grid, turns)
    return rot90((turned[0],) * len(turned), -turns)


def _line(grid: Grid, axis: int, index: int, colour: int) -> Grid:
    """Paint row (axis 0) or column (axis 1) ``index``."""
    if axis:
        return transpose(_line(transpose(grid), 0, index, colour))
    at = index % len(grid)
    return (*grid[:at], (colour,) * len(grid[0]), *grid[at + 1 :])


def _diagonal(grid: Grid, anti: int, colour: int) -> Grid:
    """Paint the diagonal, or (``anti``) the antidiagonal."""
    last = len(grid[0]) - 1
    return _painted(grid, colour, lambda i, j: i == (last - j if anti else j))


def _corners(grid: Grid, colour: int) -> Grid:
    """Paint the four corners."""
    ends = (0, len(grid) - 1), (0, len(grid[0]) - 1)
    return _painted(grid, colour, lambda i, j: i in ends[0] and j in ends[1])


def _cross(grid: Grid, colour: int) -> Grid:
    """Paint the middle row and the middle column."""
    row, column = len(grid) // 2, len(grid[0]) // 2
    return _painted(grid, colour, lambda i, j: i == row or j == column)


def _checker(grid: Grid, colour: int) -> Grid:
    """Paint every other cell, from the first on."""
    return _painted(grid, colour, lambda i, j: (i + j) % 2 == 0)


def _painted(grid: Grid, colour: int, where: Callable[[int, int], bool]) -> Grid:
    return tuple(tuple(colour if where(i, j) else c for j, c in enumerate(row)) for i, row in enumerate(grid))


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


KINDS: dict[str, Kind] = {
    "rotate": Kind(rot90, _each((1, 2, 3))),
    "flip": Kind(flip, _each((0, 1))),
    "transpose": Kind(transpose, _each((0, 1))),
    "shift": Kind(shift, ((0, 1), (0, -1), (1, 0), (-1, 0))),
    "swap_lines": Kind(_swap_lines, _each((0, 1), (0, 1))),
    "gravity": Kind(_gravity, _each((0, 1, 2, 3))),
    "sort": Kind(_sort, _each((0, 1, 2, 3))),
    "mirror": Kind(_mirror, _each((0, 1, 2, 3))),
    "spread": Kind(_spread, _each((0, 1, 2, 3))),
    "swap_colours": Kind(_swap_colours, ((),), colours=2),
    "recolour": Kind(_recolour, ((),), colours=2),
    "fill": Kind(_fill, ((),), colours=1),
    "keep": Kind(_keep, ((),), colours=1),
    "border": Kind(_border, ((),), colours=1),
    "line": Kind(_line, _each((0, 1), (0, 1, 2)), colours=1),
    "diagonal": Kind(_diagonal, _each((0, 1)), colours=1),
    "corners": Kind(_corners, ((),), colours=1),
    "cross": Kind(_cross, ((),), colours=1),
    "checker": Kind(_checker, ((),), colours=1),
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
