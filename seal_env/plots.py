"""Plots: the accuracy matrix of a continual episode as a heat map, and ARC tasks as images.

infos = [env.step(edit)[4] for edit in edits]  # of one episode with mode="continual"
plot_accuracy_matrix(accuracy_matrix(infos), "matrix.svg")
plot_arc_task(MiniArc().task("test", 0)).savefig("task.png")

Plots need matplotlib (``pip install 'seal-env[plots]'``); :func:`accuracy_matrix` does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seal_env.files import atomic_write
from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.grids import COLOURS, Grid, size
from seal_env.tasks.arc.palette import PALETTE, Panel, headline, panel_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_FORMATS = (".png", ".svg", ".pdf")
_COLOURS = "viridis"  # perceptually uniform and readable with colour blindness; dark is low
_DARK = 0.43  # of the scale: numbers in darker cells are white; at this value white and black have equal contrast (4.5 to 1)

# Layout of ARC images, in pixels unless noted.
_DPI = 100
_PANEL = 330  # size of a task's largest grid
_CELLS = (11, 40)  # smallest and largest cell; cells are whole pixels, so that all look alike
_MARGIN, _GAP = 16, 36
_ROW_NAME = 124  # width of "demonstration 1"
_HEADING, _HEADING_GAP = 24, 6  # height of the heading above a grid, and the gap below it
_HEADING_WIDTH = 124  # of "attempt 1 ✗ wrong"
_LETTER = 11  # width of a wide letter of the title
_GRID_LINES = "#555555"  # visible on ARC's black and on its grey
_HEADING_COLOURS = {True: "#1A7F37", False: "#C62828", None: "black"}  # by the verdict on an attempt


def accuracy_matrix(
    infos: Iterable[Mapping[str, Any]], env_index: int | None = None, before: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Accuracy, 0 to 1, on passage ``j`` after self-edit ``i``; NaN for passages that come later in the episode.

    Args:
        infos: of the steps of one continual episode, in order, each with its ``accuracy_row``.
        env_index: the sub-environment, if the infos are those of a vector environment.
        before: accuracy on every passage before any self-edit, for an additional first row.

    Returns:
        ``(k, k)``, lower-triangular, for ``k`` steps; with ``before`` ``(k + 1, k)``.

    Raises:
        ValueError: an info without a row, rows that are not those of one episode in order, or ``before`` of another length.
    """
    rows = [_row(info, i, env_index) for i, info in enumerate(infos)]
    if not rows:
        raise ValueError("an accuracy matrix needs the infos of at least one step, got none")
    matrix = np.full((len(rows), len(rows)), np.nan)
    for i, row in enumerate(rows):
        if row.shape != (i + 1,):
            raise ValueError(
                f"accuracy_row of step {i} has shape {row.shape}, not {(i + 1,)}: give one episode's infos in order"
            )
        matrix[i, : i + 1] = row
    if before is None:
        return matrix
    if np.shape(before) != (len(rows),):
        raise ValueError(f"before needs the accuracy on each of {len(rows)} passages, got {before!r}")
    return np.vstack([np.asarray(before, float), matrix])


def plot_accuracy_matrix(matrix: ArrayLike, target: str | os.PathLike[str] | Axes, title: str = "") -> None:
    """Draw a heat map with the accuracy in percent in each cell, on a scale from 0 to 100; NaN cells stay empty.

    Args:
        matrix: from :func:`accuracy_matrix`, ``(k, k)``, or ``(k + 1, k)`` with a row for "before".
        target: matplotlib axes to draw on, or a PNG, SVG or PDF file, which is written atomically.
        title: above the map.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: another shape, a value outside 0 to 1, or another file format.
    """
    shares = np.asarray(matrix, float)
    if shares.ndim != 2 or shares.shape[1] < 1 or shares.shape[0] - shares.shape[1] not in (0, 1):
        raise ValueError(f"an accuracy matrix is (k, k), or (k + 1, k) with a row for before, got shape {shares.shape}")
    _check_shares(shares)
    rows, columns = shares.shape
    if isinstance(target, (str, os.PathLike)):
        _check_file(Path(target))
        figure = _figure(figsize=(max(4.0, 2.4 + 0.62 * columns), 1.5 + 0.5 * rows), layout="constrained")
        plot_accuracy_matrix(shares, figure.subplots(), title)
        _save(figure, Path(target))
        return
    axes, row_names = target, ["before"] * (rows - columns) + [f"edit {i + 1}" for i in range(columns)]
    image = _heat_map(shares, axes, row_names, [str(j + 1) for j in range(columns)])
    axes.set_xlabel("accuracy on passage")
    axes.set_ylabel("after")
    if title:
        axes.set_title(title, loc="left", wrap=True)
    axes.figure.colorbar(image, ax=axes, label="accuracy (%)").outline.set_visible(False)


def plot_success(
    shares: Mapping[str, ArrayLike], learning_rates: Sequence[float], epochs: Sequence[int], target: str | os.PathLike[str]
) -> None:
    """Draw success over learning rate and epochs: a heat map for each choice of augmentations, on a common scale.

    Args:
        shares: ``(learning_rates, epochs)`` shares of solved tasks, 0 to 1, by name of the choice.
        learning_rates: of the rows.
        epochs: of the columns.
        target: a PNG, SVG or PDF file, which is written atomically.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: another shape, a value outside 0 to 1, or another file format.
    """
    maps = {name: np.asarray(values, float) for name, values in shares.items()}
    for name, values in maps.items():
        if values.shape != (len(learning_rates), len(epochs)):
            raise ValueError(f"{name!r} must have shape {(len(learning_rates), len(epochs))}, got {values.shape}")
        _check_shares(values)
    _check_file(Path(target))
    figure = _figure(figsize=(1.6 + 3.6 * len(maps), 1.4 + 0.45 * len(learning_rates)), layout="constrained")
    for i, (axes, (name, values)) in enumerate(zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items())):
        image = _heat_map(values, axes, [f"{rate:g}" for rate in learning_rates], [str(n) for n in epochs])
        axes.set_title(name, loc="left", size=10)
        axes.set_xlabel("epochs")
        axes.set_ylabel("" if i else "learning rate")
    figure.colorbar(image, ax=figure.axes, label="tasks solved (%)").outline.set_visible(False)
    _save(figure, Path(target))


def plot_arc_task(task: ArcTask, attempts: Sequence[Sequence[Grid]] | None = None) -> Figure:
    """Draw a row for each demonstration (input, output) and for each test (input, attempts, truth).

    All grids of a task have cells of the same size, at least 11 pixels.

    Args:
        task: the task to draw.
        attempts: up to two predicted grids for each test; None to leave them out.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: attempts for another number of tests, or a value that is not a grid.
    """
    rows = panel_rows(task, attempts)
    largest = max(max(size(panel.grid)) for row in rows for panel in row.panels)
    cell = min(max(_PANEL // largest, _CELLS[0]), _CELLS[1])
    columns = range(max(len(row.panels) for row in rows))
    widths = [max(len(row.panels[j].grid[0]) for row in rows if j < len(row.panels)) * cell for j in columns]
    heights = [max(len(panel.grid) for panel in row.panels) * cell for row in rows]
    lefts = [_MARGIN + _ROW_NAME + sum(max(width, _HEADING_WIDTH) + _GAP for width in widths[:j]) for j in columns]
    title = headline(task)
    width = max(lefts[-1] + max(widths[-1], _HEADING_WIDTH), _MARGIN + _LETTER * len(title)) + _MARGIN
    height = 2 * _MARGIN + sum(_HEADING + tallest + _MARGIN for tallest in heights)
    figure = _figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.text(_MARGIN / width, 1 - _MARGIN / height, title, size=10, weight="bold", va="center", parse_math=False)
    top = 2 * _MARGIN + _HEADING
    for row, tallest in zip(rows, heights):
        figure.text(_MARGIN / width, 1 - (top - _HEADING_GAP) / height, row.name, size=9, va="baseline")
        for j, (left, panel) in enumerate(zip(lefts, row.panels)):
            high, wide = (cells * cell for cells in size(panel.grid))
            _draw_panel(figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height)), panel)
            if j == 1:
                middle = top + min(size(row.panels[0].grid)[0] * cell, high) / 2
                figure.text((left - _GAP / 2) / width, 1 - middle / height, "→", size=14, ha="center", va="center")
        top += tallest + _MARGIN + _HEADING
    return figure


def arc_image(task: ArcTask, attempts: Sequence[Sequence[Grid]] | None = None) -> NDArray[np.uint8]:
    """The figure of :func:`plot_arc_task` as RGB values, ``(height, width, 3)``."""
    figure = plot_arc_task(task, attempts)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure(**options: Any) -> Figure:
    try:
        from matplotlib import figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'seal-env[plots]'") from error
    return figure.Figure(**options)


def _row(info: Mapping[str, Any], step: int, env_index: int | None) -> NDArray[np.float64]:
    """The accuracy row of one step; in a vector environment, the last step of an episode has it in ``final_info``."""
    if env_index is not None and env_index in np.flatnonzero(info.get("_final_info", [])):
        info = info["final_info"]
    if "accuracy_row" not in info or (env_index is not None and not info["_accuracy_row"][env_index]):
        raise ValueError(f"the info of step {step} has no 'accuracy_row': only steps with mode='continual' have one")
    return np.asarray(info["accuracy_row"] if env_index is None else info["accuracy_row"][env_index], float)


def _check_shares(shares: NDArray[np.float64]) -> None:
    wrong = shares[~np.isnan(shares) & ~((shares >= 0) & (shares <= 1))]
    if wrong.size:
        raise ValueError(f"accuracies are shares from 0 to 1, got {wrong[0]}")


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"a plot is written as {', '.join(_FORMATS)}, got {str(path)!r}")


def _save(figure: Figure, path: Path) -> None:
    """Write the file atomically; equal figures give equal files."""
    from matplotlib import rc_context

    kind = path.suffix.lower()[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    dates: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with atomic_write(path) as partial, rc_context({"svg.hashsalt": "seal-env", "svg.fonttype": "none"}):
        figure.savefig(partial, format=kind, dpi=150, metadata=dates.get(kind))


def _heat_map(shares: NDArray[np.float64], axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> AxesImage:
    """A heat map of shares in percent, with the number in each cell, on a scale from 0 to 100; NaN cells stay empty."""
    image = axes.imshow(np.ma.masked_invalid(100 * shares), cmap=_COLOURS, vmin=0, vmax=100, aspect="auto")
    for i, j in np.argwhere(~np.isnan(shares)):
        colour = "white" if shares[i, j] < _DARK else "black"
        axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return image


def _draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw the cells on axes of their size, and the heading above."""
    from matplotlib.colors import ListedColormap

    axes.pcolormesh(
        np.array(panel.grid),
        cmap=ListedColormap(PALETTE),
        vmin=0,
        vmax=COLOURS - 1,
        edgecolors=_GRID_LINES,
        linewidth=0.5,
        clip_on=False,
    )
    axes.invert_yaxis()
    axes.set_axis_off()
    axes.set_title(panel.heading, loc="left", size=9, pad=72 * _HEADING_GAP / _DPI, color=_HEADING_COLOURS[panel.right])
