"""The learning curves of a benchmark as PNG and SVG, and the colours and line styles of agents, which the page shares."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.reports.metrics import Metric, curve_metrics
from benchmarks.reports.summary import Summary, mean_accuracy_matrix
from seal_env.plots import plot_accuracy_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Style:
    """How an agent is drawn in every figure. Colours can be told apart by colour-blind readers, on white and on black.

    Attributes:
        dash: Plotly's name.
        symbol: Plotly's name.
    """

    colour: str
    dash: str = "solid"
    symbol: str = "circle"


# After Okabe and Ito, the light ones darkened.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#C4649A", "#A87900", "#2E95CF", "#7D6BC9", "#8A5A3B")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
_GREY = "#7F7F7F"
_LEARNERS = {"rest_em": 0, "grpo": 1, "ppo": 2}
_BASELINES = {"untrained": 0, "passage_only": 1, "no_update": 2, "oracle": 3, "best_of_k": 4}
_MATPLOTLIB_DASHES: dict[str, Any] = {
    "solid": "solid",
    "dash": (0, (5, 3)),
    "dot": (0, (1, 2)),
    "dashdot": (0, (5, 2, 1, 2)),
    "longdash": (0, (9, 3)),
    "longdashdot": (0, (9, 2, 1, 2)),
}
SVG_DASHES = {"dash": "6 3", "dot": "2 2", "dashdot": "6 2 2 2", "longdash": "10 3", "longdashdot": "10 2 2 2"}
SVG_SHAPES = {  # around (17, 6)
    "circle": "M12.5 6a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "square": "M13 2h8v8h-8z",
    "diamond": "M17 0.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
    "triangle-up": "M17 1l5 9h-10z",
    "cross": "M15.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "x": "M13 0l4 4l4 -4l2 2l-4 4l4 4l-2 2l-4 -4l-4 4l-2 -2l4 -4l-4 -4z",
}
_MATPLOTLIB_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X"}


def styles(summary: Summary) -> dict[str, Style]:
    """By label: the same for a known label, whichever agents are compared; baselines are grey lines."""
    learners = sorted(row.label for row in summary.rows if row.learns)
    baselines = sorted(row.label for row in summary.rows if not row.learns)
    by_label = {label: Style(_GREY, _DASHES[i % len(_DASHES)]) for label, i in _numbered(baselines, _BASELINES).items()}
    for label, i in _numbered(learners, _LEARNERS).items():
        by_label[label] = Style(_COLOURS[i % len(_COLOURS)], symbol=_SYMBOLS[i % len(_SYMBOLS)])
    return by_label


def _numbered(labels: Sequence[str], known: Mapping[str, int]) -> dict[str, int]:
    others = [label for label in labels if label not in known]
    return {label: known[label] for label in labels if label in known} | {
        label: len(known) + i for i, label in enumerate(others)
    }


AXES = {"edits": "scored edits", "tokens": "inner-loop tokens", "seconds": "seconds of training"}


def drawn_metrics(summary: Summary) -> list[Metric]:
    """Those whose learning curve is known for some agent; the score comes first."""
    points = [point for curve in summary.curves.values() for point in curve]
    return [metric for metric in curve_metrics() if any(point.estimates[metric.key] for point in points)]


def _draw_forgetting(summary: Summary) -> Figure:
    """A heat map per agent: which passages the student still knows after each update."""
    rows = summary.sequence_rows
    columns = min(len(rows), 4)
    lines = math.ceil(len(rows) / 4)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * columns, 4.5 * lines), layout="constrained")
    for axes, row in itertools.zip_longest(figure.subplots(lines, columns, squeeze=False).flat, rows):
        if row is None:
            axes.set_axis_off()
        else:
            plot_accuracy_matrix(mean_accuracy_matrix(row), axes, _plain(row.label))
    return figure


def figures(summary: Summary) -> dict[str, Callable[[Summary], Figure]]:
    """The functions that draw the figures, by file name."""
    by_name: dict[str, Callable[[Summary], Figure]] = {
        "curves": lambda summary: _draw_panels(summary, [(axis, drawn_metrics(summary)[0]) for axis in AXES], shared=True),
        "edits": lambda summary: _draw_panels(summary, [("edits", metric) for metric in drawn_metrics(summary)[1:]]),
    }
    if summary.sequence_rows:
        by_name["forgetting"] = _draw_forgetting
    return by_name


def _draw_panels(summary: Summary, panels: Sequence[tuple[str, Metric]], shared: bool = False) -> Figure:
    """A panel for each axis and metric, with one legend below; panels of one metric have a ``shared`` vertical axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels), 4.2), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=shared, squeeze=False)[0]
    for axes, (across, metric) in zip(row, panels):
        _draw(summary, axes, across, metric)
        if axes is row[0] or not shared:
            axes.set_ylabel(metric.axis)
    handles, labels = row[0].get_legend_handles_labels()
    width = 60 + 5.5 * max(map(len, labels))  # of an entry, in points
    columns = max(1, min(len(labels), int(72 * figure.get_figwidth() / width)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, handlelength=3.2)
    return figure


def _draw(summary: Summary, axes: Axes, across: str, metric: Metric) -> None:
    style_of, scale = styles(summary), metric.scale
    end = max(getattr(point, across) for points in summary.curves.values() for point in points) or 1
    for row in summary.rows:
        style = style_of[row.label]
        points = [point for point in summary.curves[row.label] if point.estimates[metric.key]]
        if not points:
            continue
        x = [getattr(point, across) for point in points]
        estimates = [estimate for point in points if (estimate := point.estimates[metric.key])]
        y = [scale * estimate.value for estimate in estimates]
        line = {"color": style.colour, "linestyle": _MATPLOTLIB_DASHES[style.dash], "label": _plain(row.label)}
        if not row.learns:
            axes.plot([0, end], [y[-1]] * 2, **line, linewidth=1.3, zorder=1)
            continue
        axes.plot(x, y, **line, marker=_MATPLOTLIB_MARKERS[style.symbol], markersize=5, linewidth=1.8, zorder=3)
        band = [(at, scale * e.low, scale * e.high) for at, e in zip(x, estimates) if e.low is not None and e.high is not None]
        inside, low, high = ([limits[i] for limits in band] for i in range(3))
        axes.fill_between(inside, low, high, color=style.colour, alpha=0.16, linewidth=0, zorder=2)
        if len(x) == 1 and band:  # a band without width
            axes.vlines(x, low, high, color=style.colour, alpha=0.5, linewidth=4, zorder=2)
    axes.set_xlabel(AXES[across])
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(_thousands)
    axes.locator_params(axis="x", nbins=6)


def _thousands(value: float, _: float) -> str:
    for size, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and size == 1e6):
            return f"{value / size:g}{name}"
    return f"{value:g}"


def _plain(label: str) -> str:
    """A label without matplotlib's markup. The legend would leave out a label that begins with an underscore."""
    return label.replace("$", r"\$").replace("_", " _", 1) if label.startswith("_") else label.replace("$", r"\$")


def save(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure as ``png`` or ``svg``."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "seal-env", "svg.fonttype": "none"}):  # equal figures make equal files
        figure.savefig(path, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
