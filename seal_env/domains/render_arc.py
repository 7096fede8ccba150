"""An ARC task as text for a terminal: grids side by side in ARC's colours, with a digit in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from seal_env.domains.render import BOLD, DIM, END, GREEN, RED
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.grids import COLOURS, Grid
from seal_env.tasks.arc.palette import Panel, dark, headline, panel_rows, red_green_blue

_HEADINGS = {True: GREEN, False: RED, None: DIM}  # of correct attempts, of wrong ones, of other grids
_GAP, _ARROW = "      ", "  ->  "


def render_arc(task: ArcTask, attempts: Sequence[Sequence[Grid]] | None = None, *, colour: bool = True) -> str:
    """Render each demonstration as input and output, then each test as input, attempts and truth, side by side.

    A cell is two characters wide: four grids of 30 columns need a terminal of 258 columns.

    Args:
        task: to render.
        attempts: for each test, the up to two grids predicted for it; None if there are none yet.
        colour: whether to use ANSI's 24-bit colours, which are reset at the end of each line.

    Raises:
        ValueError: ``attempts`` is not about this number of tests, or holds something other than grids.
    """
    lines = [f"{BOLD}{headline(task)}{END}" if colour else headline(task)]
    for name, panels in panel_rows(task, attempts):
        lines += ["", f"{BOLD}{name}{END}" if colour else name, *_side_by_side(panels, colour)]
    return "\n".join(lines)


def _side_by_side(panels: Sequence[Panel], colour: bool) -> list[str]:
    """The headings, then the rows of all grids; an arrow points from the first grid to the others."""
    lines = [""] * (1 + max(len(panel.grid) for panel in panels))
    for i, (heading, grid, right) in enumerate(panels):
        width = max(len(heading), 2 * len(grid[0]))
        code = _HEADINGS[right] if colour else ""
        above = f"{code}{heading}{END if colour else ''}{' ' * (width - len(heading))}"
        rows = [_cells(row, colour) + " " * (width - 2 * len(row)) for row in grid]
        block = [above, *rows, *[" " * width] * (len(lines) - 1 - len(rows))]
        gaps = ["" if i == 0 else _ARROW if i == 1 and n == 0 else _GAP for n in range(len(lines))]
        lines = [line + gap + part for line, gap, part in zip(lines, gaps, block)]
    return [line.rstrip() for line in lines]


def _cells(row: Sequence[int], colour: bool) -> str:
    """A row of cells, a digit and a blank each; with ``colour`` on their background, in black or white."""
    runs = ("".join(f"{c} " for c in run) for _, run in groupby(row))
    return "".join(_CODES[int(run[0])] + run for run in runs) + END if colour else "".join(runs)


def _code(colour: int) -> str:
    """The ANSI code of a cell's foreground and background."""
    ink = 255 if dark(colour) else 0
    return "\x1b[38;2;{};{};{};48;2;{};{};{}m".format(ink, ink, ink, *red_green_blue(colour))


_CODES = [_code(colour) for colour in range(COLOURS)]
