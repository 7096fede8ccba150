"""An ARC task as text for a terminal: its grids side by side in ARC's colours, each cell with its digit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from seal_env.domains.ansi import BOLD, DIM, END, GREEN, RED
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.grids import COLOURS, Grid
from seal_env.tasks.arc.palette import Panel, dark, headline, panel_rows, red_green_blue

_MARKS = {True: GREEN, False: RED, None: DIM}  # of a heading: a right attempt's, a wrong one's, any other's
_GAP, _ARROW = "      ", "  ->  "


def render_arc(task: ArcTask, attempts: Sequence[Sequence[Grid]] | None = None, *, colour: bool = True) -> str:
    """Each demonstration as input and output, then each test as input, attempts and truth, side by side.

    A cell is two characters wide, so that four grids of 30 columns need a terminal of 258.

    Args:
        task: to be drawn.
        attempts: for each test the grids predicted for it, none to two; None before there are any.
        colour: with ANSI's 24-bit colours, every line ending without; False: plain digits.

    Raises:
        ValueError: attempts for another number of tests, or something that is no grid.
    """
    lines = [f"{BOLD}{headline(task)}{END}" if colour else headline(task)]
    for name, panels in panel_rows(task, attempts):
        lines += ["", f"{BOLD}{name}{END}" if colour else name, *_side_by_side(panels, colour)]
    return "\n".join(lines)


def _side_by_side(panels: Sequence[Panel], colour: bool) -> list[str]:
    """Lines with the headings, then with the rows of all grids; an arrow leads from the first to the others."""
    lines = [""] * (1 + max(len(panel.grid) for panel in panels))
    for i, (heading, grid, right) in enumerate(panels):
        width = max(len(heading), 2 * len(grid[0]))
        mark = _MARKS[right] if colour else ""
        above = f"{mark}{heading}{END if colour else ''}{' ' * (width - len(heading))}"
        rows = [_cells(row, colour) + " " * (width - 2 * len(row)) for row in grid]
        block = [above, *rows, *[" " * width] * (len(lines) - 1 - len(rows))]
        gaps = ["" if i == 0 else _ARROW if i == 1 and n == 0 else _GAP for n in range(len(lines))]
        lines = [line + gap + part for line, gap, part in zip(lines, gaps, block)]
    return [line.rstrip() for line in lines]


def _cells(row: Sequence[int], colour: bool) -> str:
    """A row of cells, each its digit and a blank; with ``colour`` on its colour, in black or white."""
    runs = ("".join(f"{c} " for c in run) for _, run in groupby(row))
    return "".join(_CODES[int(run[0])] + run for run in runs) + END if colour else "".join(runs)


def _code(colour: int) -> str:
    """The code for a cell's foreground and background."""
    ink = 255 if dark(colour) else 0
    return "\x1b[38;2;{};{};{};48;2;{};{};{}m".format(ink, ink, ink, *red_green_blue(colour))


_CODES = [_code(colour) for colour in range(COLOURS)]
