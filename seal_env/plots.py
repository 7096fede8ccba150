"""What a continual episode remembers: the accuracy on each passage after each self-edit, as a matrix and as a heat map.

infos = [env.step(edit)[4] for edit in edits]  # of one episode with mode="continual"
plot_accuracy_matrix(accuracy_matrix(infos), "matrix.svg")

Drawing needs matplotlib (``pip install 'seal-env[plots]'``), the matrix does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seal_env.files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMATS = (".png", ".svg", ".pdf")
_COLOURS = "viridis"  # even steps in lightness, and readable with any colour blindness; dark is low
_DARK = 0.43  # of the scale: in darker cells, figures are white; here white and black stand out equally (4.5 to 1)


def accuracy_matrix(
    infos: Iterable[Mapping[str, Any]], place: int | None = None, before: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Accuracy, 0 to 1, on passage ``j`` after self-edit ``i``; NaN where the passage had not come yet.

    Args:
        infos: of the steps of one continual episode, in order; each brings its ``accuracy_row``.
        place: whose episode, where the infos are those of many places (``gym.make_vec``).
        before: accuracy on every passage of a student without any self-edit, for a first row of its own.

    Returns:
        ``(k, k)``, lower-triangular, for ``k`` steps; with ``before`` ``(k + 1, k)``.

    Raises:
        ValueError: an info without a row, rows that are not those of one episode in order, or another number of ``before``.
    """
    rows = [_row(info, i, place) for i, info in enumerate(infos)]
    if not rows:
        raise ValueError("an accuracy matrix needs the infos of one step at least, got none")
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
    """Draw a heat map, with the accuracy in percent in each cell, on one scale from 0 to 100; NaN cells stay empty.

    Args:
        matrix: of :func:`accuracy_matrix`, ``(k, k)``, or ``(k + 1, k)`` with a row for "before".
        target: matplotlib axes to draw on, or a PNG, SVG or PDF file, which is written whole or not at all.
        title: above the map.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: another shape, a value that is no share from 0 to 1, or another kind of file.
    """
    shares = _checked(matrix)
    try:
        from matplotlib import rc_context
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'seal-env[plots]'") from error
    if isinstance(target, Axes):
        _draw(shares, target, title)
        return
    path = Path(target)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"a plot is written as {', '.join(_FORMATS)}, got {str(path)!r}")
    rows, columns = shares.shape
    figure = Figure(figsize=(max(4.0, 2.4 + 0.62 * columns), 1.5 + 0.5 * rows), layout="constrained")
    _draw(shares, figure.subplots(), title)
    kind = path.suffix.lower()[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    dates: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    # Equal matrices make equal files.
    with whole(path) as partial, rc_context({"svg.hashsalt": "seal-env", "svg.fonttype": "none"}):
        figure.savefig(partial, format=kind, dpi=150, metadata=dates.get(kind))


def _row(info: Mapping[str, Any], step: int, place: int | None) -> NDArray[np.float64]:
    """The accuracy row of one step; of many places, a step that ended the place's episode has it in ``final_info``."""
    if place is not None and place in np.flatnonzero(info.get("_final_info", [])):
        info = info["final_info"]
    if "accuracy_row" not in info or (place is not None and not info["_accuracy_row"][place]):
        raise ValueError(f"the info of step {step} has no 'accuracy_row': only steps with mode='continual' have")
    return np.asarray(info["accuracy_row"] if place is None else info["accuracy_row"][place], float)


def _checked(matrix: ArrayLike) -> NDArray[np.float64]:
    shares = np.asarray(matrix, float)
    if shares.ndim != 2 or shares.shape[1] < 1 or shares.shape[0] - shares.shape[1] not in (0, 1):
        raise ValueError(f"an accuracy matrix is (k, k), or (k + 1, k) with a row for before, got shape {shares.shape}")
    wrong = shares[~np.isnan(shares) & ~((shares >= 0) & (shares <= 1))]
    if wrong.size:
        raise ValueError(f"accuracies are shares from 0 to 1, got {wrong[0]}")
    return shares


def _draw(shares: NDArray[np.float64], axes: Axes, title: str) -> None:
    rows, columns = shares.shape
    image = axes.imshow(np.ma.masked_invalid(100 * shares), cmap=_COLOURS, vmin=0, vmax=100, aspect="auto")
    for i, j in np.argwhere(~np.isnan(shares)):
        colour = "white" if shares[i, j] < _DARK else "black"
        axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(columns), [str(j + 1) for j in range(columns)])
    first = ["before"] if rows > columns else []
    axes.set_yticks(range(rows), [*first, *[f"edit {i + 1}" for i in range(columns)]])
    axes.set_xlabel("accuracy on passage")
    axes.set_ylabel("after")
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, loc="left", wrap=True)
    bar = axes.figure.colorbar(image, ax=axes, label="accuracy (%)")
    bar.outline.set_visible(False)
