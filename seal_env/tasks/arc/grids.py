"""Grids of colours, and grids as text.

A grid is a tuple of rows, each a tuple of colours 0 to 9, at most 30 by 30, as in ARC-AGI (Chollet, arXiv 1911.01547). As text
it has one line per row::

    3 1 4
    1 5 9

``labelled`` text, which the bundled student reads, has no blanks and begins each row with its letter, so that the first token
identifies a row, and the distance from it a column::

    a314
    b159
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Any, Literal, get_args

from seal_env.checks import check_choice

Grid = tuple[tuple[int, ...], ...]
GridText = Literal["spaced", "labelled"]

COLOURS = 10
LARGEST = 30  # rows and columns
LABELS = string.ascii_letters[:LARGEST]

_ROW = re.compile(r"[0-9](?: ?[0-9])*")


def as_grid(rows: Any, what: str = "a grid") -> Grid:
    """``rows`` as a grid.

    Raises:
        ValueError: it is no grid; the message names ``what`` and the problem.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)) or not rows:
        raise ValueError(f"{what} must be a list of rows, got {rows!r:.80}")
    if not all(isinstance(row, Sequence) and not isinstance(row, (str, bytes)) and row for row in rows):
        raise ValueError(f"{what} must have rows that are lists of colours, got {rows!r:.80}")
    height, widths = len(rows), {len(row) for row in rows}
    if len(widths) > 1:
        raise ValueError(f"{what} must have rows of one length, got lengths {', '.join(map(str, sorted(widths)))}")
    if height > LARGEST or max(widths) > LARGEST:
        raise ValueError(f"{what} must be at most {LARGEST} x {LARGEST}, got {height} x {max(widths)}")
    for row in rows:
        for colour in row:
            if isinstance(colour, bool) or not isinstance(colour, int) or not 0 <= colour < COLOURS:
                raise ValueError(f"{what} must hold colours 0 to {COLOURS - 1}, got {colour!r}")
    return tuple(tuple(row) for row in rows)


def size(grid: Grid) -> tuple[int, int]:
    """Rows and columns."""
    return len(grid), len(grid[0])


def fits(grid: Grid) -> bool:
    """Whether ``grid`` is at most 30 by 30."""
    return max(size(grid)) <= LARGEST


def grid_text(grid: Grid, style: GridText = "spaced") -> str:
    """``grid`` as text, without a line end after the last row."""
    check_choice("style", style, get_args(GridText))
    if style == "labelled":
        return "\n".join(label + "".join(map(str, row)) for label, row in zip(LABELS, grid))
    return "\n".join(" ".join(map(str, row)) for row in grid)


def read_grid(text: str, style: GridText = "spaced") -> Grid | None:
    """The grid at the beginning of ``text``, up to the first line that is no row; None if there is none.

    Rows of different lengths, or more than 30 rows, are no grid.
    """
    check_choice("style", style, get_args(GridText))
    rows = []
    for i, line in enumerate(text.strip().splitlines()):
        line = line.strip()
        if style == "labelled":
            if i >= LARGEST or not line.startswith(LABELS[i]):
                break
            line = line[1:]
        if not _ROW.fullmatch(line):
            break
        rows.append(tuple(int(colour) for colour in line if colour != " "))
    try:
        return as_grid(rows)
    except ValueError:
        return None
