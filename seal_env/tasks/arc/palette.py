"""The layout of drawings of ARC tasks, in a terminal or a figure: grids with headings, and ARC's colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.grids import Grid, as_grid

PALETTE = (
    "#000000",  # black
    "#0074D9",  # blue
    "#FF4136",  # red
    "#2ECC40",  # green
    "#FFDC00",  # yellow
    "#AAAAAA",  # grey
    "#F012BE",  # magenta
    "#FF851B",  # orange
    "#7FDBFF",  # light blue
    "#870C25",  # maroon
)
"""By colour, as on ARC's web pages."""

_HEADLINE = 80  # characters


class Panel(NamedTuple):
    """A grid of a drawing with its heading; ``right`` is whether an attempt is right, None for other grids."""

    heading: str
    grid: Grid
    right: bool | None = None


class PanelRow(NamedTuple):
    """A demonstration or a test: panels that belong side by side, the input first."""

    name: str
    panels: tuple[Panel, ...]


def panel_rows(task: ArcTask, attempts: Sequence[Sequence[Grid]] | None = None) -> list[PanelRow]:
    """Demonstrations with input and output, then tests with input, attempts and truth.

    Args:
        task: to be drawn.
        attempts: for each test the predicted grids, if any; None: no test has any.

    Raises:
        ValueError: attempts for a different number of tests, or an attempt that is no grid.
    """
    if attempts is None:
        attempts = ((),) * len(task.tests)
    if len(attempts) != len(task.tests):
        raise ValueError(f"attempts must hold the grids for each of {len(task.tests)} tests, got {len(attempts)}")
    rows = []
    for i, pair in enumerate(task.demonstrations, 1):
        name = f"demonstration {i}"
        rows.append(PanelRow(name, (_panel("input", pair.input, name), _panel("output", pair.output, name))))
    for i, (pair, tried) in enumerate(zip(task.tests, attempts), 1):
        name = f"test {i}"
        truth = _panel("truth", pair.output, name)
        grids = [as_grid(grid, f"attempt {n} of {name}") for n, grid in enumerate(tried, 1)]
        attempted = [(n, grid, grid == truth.grid) for n, grid in enumerate(grids, 1)]
        # In words, for readers who do not see the colours.
        panels = [Panel(f"attempt {n} {'✓ right' if right else '✗ wrong'}", grid, right) for n, grid, right in attempted]
        rows.append(PanelRow(name, (_panel("input", pair.input, name), *panels, truth)))
    return rows


def headline(task: ArcTask) -> str:
    """The title on one line of bounded length, without control characters."""
    title = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in task.title[: 2 * _HEADLINE]).split())
    return title if len(title) <= _HEADLINE else title[: _HEADLINE - 1] + "…"


def red_green_blue(colour: int) -> tuple[int, int, int]:
    """The red, green and blue components of a colour 0 to 9, each 0 to 255."""
    red, green, blue = bytes.fromhex(PALETTE[colour][1:])
    return red, green, blue


def dark(colour: int) -> bool:
    """Whether white has more contrast to a colour than black, by relative luminance (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in red_green_blue(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.179


def _panel(heading: str, grid: Grid, name: str) -> Panel:
    return Panel(heading, as_grid(grid, f"the {heading} of {name}"))
