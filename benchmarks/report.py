"""``seal-bench report``: what a benchmark found, as a table, as curves and as one page that needs no network.

The headline is a seed's score: the share of questions answered right after the update, over all evaluation tasks, at the end of
its run. An agent's score is the interquartile mean over its seeds, with a bootstrap interval that resamples the seeds. An agent
of which any run is finished is judged by its finished runs alone, others by how far they have come; curves show all runs.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.integrate import trapezoid

from benchmarks.records import Point, Records, Run, read
from benchmarks.statistics import FEW, Estimate, estimate, improvement, paired_difference
from seal_env.files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLLAPSE = 0.05
MEASURES = ("score", "coverage", "length")
_TEMPLATE = Path(__file__).parent / "report_page.html.j2"


@dataclass(frozen=True)
class Options:
    """What the figures are relative to.

    Attributes:
        reference: label that others are compared with, task by task; by default ``untrained``, else ``no_update``, else nobody.
        target: score to be reached (a share); by default halfway from the learners' start to the best learner's score.
        collapse: a run has collapsed that ends so much below its best evaluation.
    """

    reference: str | None = None
    target: float | None = None
    collapse: float = COLLAPSE

    def __post_init__(self) -> None:
        if self.target is not None and not 0 <= self.target <= 1:
            raise ValueError(f"target must be a share from 0 to 1, got {self.target}")
        if not 0 <= self.collapse <= 1:
            raise ValueError(f"collapse must be a share from 0 to 1, got {self.collapse}")


@dataclass(frozen=True)
class Row:
    """One agent's figures; scores and coverage are shares.

    Attributes:
        seeds: that were counted, in the order of ``scores``.
        planned: seeds that were to run.
        finished: whether the counted runs are.
        edits: scored edits of the longest counted run.
        score: at the end.
        difference: to the reference, over tasks.
        area: mean height of the learning curve, from the first evaluation to the last.
        reached: seeds that reached the target.
        edits_to_target: scored edits at the first evaluation that did, median over seeds (infinite for those that never did).
        worst: score of the worst seed.
        worst_seed: which one.
        collapsed: seeds that ended well below their best evaluation.
        coverage: share of gold answers that occur in the final edits.
        length: characters of the final edits, mean.
        tokens: trained on in the inner loop, mean over seeds.
        seconds: of training, mean over seeds.
    """

    label: str
    learns: bool
    seeds: tuple[int, ...]
    planned: int
    finished: bool
    edits: int
    scores: tuple[float, ...]
    score: Estimate
    difference: Estimate | None
    area: Estimate | None
    reached: int
    edits_to_target: float | None
    worst: float
    worst_seed: int
    collapsed: int
    coverage: float | None
    length: float
    tokens: float
    seconds: float


@dataclass(frozen=True)
class CurvePoint:
    """An agent after so many scored edits: every figure over the ``seeds`` runs that have come so far."""

    edits: float
    seeds: int
    tokens: float
    seconds: float
    score: Estimate
    coverage: Estimate | None
    length: Estimate


@dataclass(frozen=True)
class Summary:
    """Figures of a whole benchmark.

    Attributes:
        rows: best score first.
        reference: label of the comparison over tasks, or None.
        target: score that ``edits_to_target`` is about, or None where no agent learnt anything.
        notes: what readers must know: what is missing, and what few seeds mean.
    """

    records: Records
    rows: tuple[Row, ...]
    reference: str | None
    target: float | None
    collapse: float
    notes: tuple[str, ...]

    @functools.cached_property
    def curves(self) -> dict[str, list[CurvePoint]]:
        """By label, in the order of the rows."""
        return {row.label: _curve(_begun(self.records, row.label)) for row in self.rows}

    @functools.cached_property
    def improvements(self) -> dict[tuple[str, str], Estimate]:
        """Probability that a run of the first label scores above one of the second."""
        return {
            (one.label, other.label): improvement(one.scores, other.scores)
            for one in self.rows
            for other in self.rows
            if one is not other
        }

    @functools.cached_property
    def differences(self) -> dict[tuple[str, str], Estimate]:
        """How much better the first label scores than the second, over tasks."""
        means = {row.label: _task_means(self.records, row.label) for row in self.rows}
        return {(one, other): paired_difference(means[one], means[other]) for one in means for other in means if one != other}


EXAMPLES = """examples:
  seal-bench report runs/squad
  seal-bench report runs/first runs/second --out report --reference untrained
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of a benchmark; several of equal settings pool")
    parser.add_argument("--out", type=Path, help="folder to write to (default: DIR/report)")
    parser.add_argument("--reference", help="agent that others are compared with (default: untrained)")
    parser.add_argument("--target", type=float, help="score to be reached, 0 to 1 (default: halfway to the best)")
    parser.add_argument("--collapse", type=float, default=COLLAPSE, help="drop from the best evaluation that is a collapse")


def run(arguments: argparse.Namespace) -> Path:
    """Read, print the table and write everything; returns the folder.

    Raises:
        ValueError: an argument is unusable, or the folders are; it is named.
    """
    if arguments.out is None and len(arguments.folders) > 1:
        raise ValueError("--out must name a folder where several benchmarks are pooled")
    records = read(arguments.folders)
    options = Options(arguments.reference, arguments.target, arguments.collapse)
    summary = summarise(records, options)
    print(table_text(summary))
    out: Path = arguments.out or arguments.folders[0] / "report"
    write(summary, out)
    print(f"\n{out / 'report.html'}")
    return out


def write(summary: Summary, folder: Path) -> None:
    """Write ``table.md``, ``table.csv``, ``curves.csv``, ``curves`` and ``edits`` as PNG and SVG, and ``report.html``."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": table_markdown(summary),
        "table.csv": table_csv(summary),
        "curves.csv": curves_csv(summary),
        "report.html": page(summary),
    }
    for name, text in texts.items():
        with whole(folder / name) as partial:
            partial.write_text(text, encoding="utf-8", errors="replace", newline="")
    for name, draw in {"curves": _draw_scores, "edits": _draw_edits}.items():
        for kind in ("png", "svg"):
            with whole(folder / f"{name}.{kind}") as partial:
                _save(draw(summary), partial, kind)


# Figures --------------------------------------------------------------------------------------------------------------


def summarise(records: Records, options: Options | None = None) -> Summary:
    """All figures of ``records``.

    Raises:
        ValueError: nothing was evaluated yet, or an unknown reference.
    """
    options = options or Options()
    labels = [label for label in records.agents if _begun(records, label)]
    if not labels:
        raise ValueError(f"{records.folders[0]} holds no complete evaluation yet")
    reference = options.reference
    if reference is None:
        reference = next((label for label in ("untrained", "no_update") if label in labels), None)
    elif reference not in labels:
        raise ValueError(f"no agent {reference!r} to compare with; there are {', '.join(labels)}")
    target = _halfway(records, labels) if options.target is None else options.target
    rows = [_row(records, label, reference, target, options.collapse) for label in labels]
    rows.sort(key=lambda row: -row.score.value)
    return Summary(records, tuple(rows), reference, target, options.collapse, (*records.notes, *_cautions(rows)))


def _begun(records: Records, label: str) -> list[Run]:
    return [run for run in records.of(label) if run.evaluations]


def _counted(records: Records, label: str) -> list[Run]:
    begun = _begun(records, label)
    return [run for run in begun if run.done] or begun


def _halfway(records: Records, labels: Iterable[str]) -> float | None:
    learners = [runs for runs in (_counted(records, label) for label in labels) if any(run.learns for run in runs)]
    if not learners:
        return None
    start = float(np.mean([run.points[0].score for runs in learners for run in runs]))
    best = max(estimate([run.points[-1].score for run in runs]).value for runs in learners)
    return (start + best) / 2 if best > start else None


def _row(records: Records, label: str, reference: str | None, target: float | None, collapse: float) -> Row:
    runs = _counted(records, label)
    learns = any(run.learns for run in runs)
    last = [run.points[-1] for run in runs]
    scores = tuple(point.score for point in last)
    difference, reached = None, list[float]()
    if reference is not None and label != reference:
        difference = paired_difference(_task_means(records, label), _task_means(records, reference))
    if learns and target is not None:
        reached = [next((point.edits for point in run.points if point.score >= target), math.inf) for run in runs]
    areas = [_area(run.points) for run in runs]
    coverage = float(np.mean([point.coverage for point in last]))
    return Row(
        label,
        learns,
        tuple(run.seed for run in runs),
        len(records.seeds[label]),
        all(run.done for run in runs),
        max(point.edits for point in last),
        scores,
        estimate(scores),
        difference,
        estimate([area for area in areas if area is not None]) if learns and any(areas) else None,
        sum(map(math.isfinite, reached)),
        float(np.median(reached)) if reached else None,
        min(scores),
        runs[int(np.argmin(scores))].seed,
        sum(max(point.score for point in run.points) - run.points[-1].score > collapse + 1e-12 for run in runs),
        None if math.isnan(coverage) else coverage,
        float(np.mean([point.length for point in last])),
        float(np.mean([point.tokens for point in last])),
        float(np.mean([point.seconds for point in last])),
    )


def _area(points: Sequence[Point]) -> float | None:
    """Mean height of a curve; None where it is a single point."""
    edits = [point.edits for point in points]
    return float(trapezoid([point.score for point in points], edits)) / (edits[-1] - edits[0]) if len(edits) > 1 else None


def _task_means(records: Records, label: str) -> list[float]:
    """Final score on each task, mean over seeds."""
    last = [run.evaluations[run.points[-1].edits] for run in _counted(records, label)]
    return [float(np.mean([each[task].score for each in last])) for task in sorted(records.tasks)]


def _curve(runs: Sequence[Run]) -> list[CurvePoint]:
    """At every number of scored edits at which a run was evaluated; runs that were evaluated around it are interpolated."""
    return [_curve_point(runs, edits) for edits in sorted({point.edits for run in runs for point in run.points})]


def _curve_point(runs: Sequence[Run], edits: int) -> CurvePoint:
    there = [run.points for run in runs if run.points[0].edits <= edits <= run.points[-1].edits]

    def values(name: str) -> list[float]:
        return [float(np.interp(edits, [p.edits for p in points], [getattr(p, name) for p in points])) for points in there]

    coverage = values("coverage")
    return CurvePoint(
        edits,
        len(there),
        float(np.mean(values("tokens"))),
        float(np.mean(values("seconds"))),
        estimate(values("score")),
        None if any(map(math.isnan, coverage)) else estimate(coverage),
        estimate(values("length")),
    )


def _cautions(rows: Sequence[Row]) -> list[str]:
    """What a few seeds cannot tell."""
    few = min(len(row.seeds) for row in rows)
    if few >= FEW:
        return []
    if few == 1:
        return ["An agent with one seed has no interval: nothing is known of how its runs differ."]
    said = f"Some agents have {few} seeds. Nothing is trimmed of fewer than four (the interquartile mean is the mean),"
    return [f"{said} and an interval of so few is about their range, which holds less than 95 % of what other seeds would do."]


# Tables ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What a table shows of one figure.

    Attributes:
        text: the figure.
        detail: its interval, or what it counts.
        value: what tables sort by; None: unknown, last.
    """

    text: str
    detail: str = ""
    value: float | str | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Column:
    """A column: short for the terminal, with a sentence for the page."""

    head: str
    about: str
    cells: tuple[Cell, ...]


def table_text(records: Records | Summary) -> str:
    """The table for a terminal, and what readers must know."""
    summary = summarise(records) if isinstance(records, Records) else records
    columns = [column for column in table_columns(summary) if column.head not in ("tokens", "seconds", "edits")]
    rows = [[column.head for column in columns]]
    rows += [[str(column.cells[i]) for column in columns] for i in range(len(summary.rows))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *(f"({note})" for note in [_KEY, *summary.notes])])


_KEY = "percent; interquartile means over seeds with 95 % intervals over seeds, differences with intervals over tasks"


def table_markdown(summary: Summary) -> str:
    """The table in Markdown."""
    columns = table_columns(summary)
    lines = [[column.head for column in columns], ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [[str(column.cells[i]) for column in columns] for i in range(len(summary.rows))]
    table = "\n".join(f"| {' | '.join(line if n == 1 else map(_markdown, line))} |" for n, line in enumerate(lines))
    return "\n\n".join([table, *(f"- {_markdown(note)}" for note in [_KEY, *summary.notes])]) + "\n"


def _markdown(text: str) -> str:
    for character in "\\|`*<>&":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def table_columns(summary: Summary) -> list[Column]:
    """The table, column by column."""
    rows, reference, target = summary.rows, summary.reference, summary.target
    ends = "at the end of training"
    columns = [
        Column("agent", "label in the benchmark", tuple(Cell(row.label, value=row.label) for row in rows)),
        Column("score", f"test questions answered right {ends}, percent", tuple(_percent(row.score) for row in rows)),
    ]
    if reference is not None:
        about = f"percentage points above {reference}, mean over the same tasks; the interval resamples tasks"
        cells = tuple(_percent(row.difference, signed=True) for row in rows)
        columns.append(Column(f"vs {reference}", about, cells))
    columns.append(Column("area", "mean height of the learning curve, percent", tuple(_percent(row.area) for row in rows)))
    if target is not None:
        about = f"scored edits until {100 * target:.1f} % was first reached: median over seeds, and how many seeds did"
        columns.append(Column(f"to {100 * target:.1f}", about, tuple(map(_reached, rows))))
    collapse = f"{100 * summary.collapse:g} points"
    return [
        *columns,
        Column("worst", "score of the worst seed, percent", tuple(_number(100 * row.worst, ".1f") for row in rows)),
        Column("collapsed", f"seeds that end more than {collapse} below their best evaluation", tuple(map(_collapsed, rows))),
        Column(
            "coverage",
            f"gold answers that occur in the edit {ends}, percent",
            tuple(_number(None if row.coverage is None else 100 * row.coverage, ".1f") for row in rows),
        ),
        Column("length", f"characters of an edit {ends}", tuple(_number(row.length, ",.0f") for row in rows)),
        Column("edits", "scored edits of a run", tuple(_number(row.edits, ",d") for row in rows)),
        Column("tokens", "trained on in the inner loop, mean of the runs", tuple(_cost(row, row.tokens) for row in rows)),
        Column("seconds", "of training, mean of the runs", tuple(_cost(row, row.seconds) for row in rows)),
        Column("seeds", "counted, of those that were to run", tuple(map(_seeds, rows))),
    ]


def _percent(found: Estimate | None, signed: bool = False) -> Cell:
    if found is None:
        return Cell("-")
    kind = "+.1f" if signed else ".1f"
    interval = "" if found.low is None or found.high is None else f"[{100 * found.low:{kind}}, {100 * found.high:{kind}}]"
    return Cell(f"{100 * found.value:{kind}}", interval, found.value)


def _number(value: float | None, kind: str) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:{kind}}", value=value)


def _cost(row: Row, value: float) -> Cell:
    return _number(value if row.learns else None, ",.0f")


def _reached(row: Row) -> Cell:
    if row.edits_to_target is None:
        return Cell("-")
    known = math.isfinite(row.edits_to_target)
    text = f"{row.edits_to_target:,.0f}" if known else "never"
    return Cell(text, f"({row.reached}/{len(row.seeds)})", row.edits_to_target if known else 1e18)


def _collapsed(row: Row) -> Cell:
    return Cell(f"{row.collapsed}/{len(row.seeds)}", value=row.collapsed / len(row.seeds)) if row.learns else Cell("-")


def _seeds(row: Row) -> Cell:
    text = str(len(row.seeds)) if len(row.seeds) == row.planned else f"{len(row.seeds)} of {row.planned}"
    return Cell(text, "" if row.finished else "unfinished", len(row.seeds))


def table_csv(summary: Summary) -> str:
    """Every figure of the table with all its digits; shares, not percent; empty where there is none."""
    lines = []
    for row in summary.rows:
        line: dict[str, Any] = {"label": row.label, "agent": summary.records.agents[row.label].agent}
        line |= {"seeds": " ".join(map(str, row.seeds)), "planned": row.planned, "finished": row.finished, "edits": row.edits}
        line |= _spread("score", row.score) | _spread("difference", row.difference) | {"reference": summary.reference}
        line |= _spread("area", row.area) | {"target": summary.target, "reached": row.reached}
        line |= {"edits_to_target": row.edits_to_target, "worst": row.worst, "worst_seed": row.worst_seed}
        line |= {"collapsed": row.collapsed, "coverage": row.coverage, "length": row.length}
        line |= {"tokens": row.tokens, "seconds": row.seconds, "scores": " ".join(map(repr, row.scores))}
        lines.append(line)
    return _csv(lines)


def curves_csv(summary: Summary) -> str:
    """The learning curves, one line a point."""
    lines = []
    for label, points in summary.curves.items():
        for point in points:
            line = {
                "label": label,
                "edits": point.edits,
                "seeds": point.seeds,
                "tokens": point.tokens,
                "seconds": point.seconds,
            }
            for name in MEASURES:
                line |= _spread(name, getattr(point, name))
            lines.append(line)
    return _csv(lines)


def _spread(name: str, found: Estimate | None) -> dict[str, Any]:
    value, low, high = (None, None, None) if found is None else (found.value, found.low, found.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


# Pictures -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """How an agent is drawn, everywhere; colours keep apart for colour-blind eyes, and stand out on white and on black.

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
_KNOWN = {"rest_em": 0, "grpo": 1, "ppo": 2}
_KNOWN_LINES = {"untrained": 0, "passage_only": 1, "no_update": 2, "hand_made": 3, "best_of_k": 4}
_MATPLOTLIB_DASHES: dict[str, Any] = {
    "solid": "solid",
    "dash": (0, (5, 3)),
    "dot": (0, (1, 2)),
    "dashdot": (0, (5, 2, 1, 2)),
    "longdash": (0, (9, 3)),
    "longdashdot": (0, (9, 2, 1, 2)),
}
_SVG_DASHES = {"dash": "6 3", "dot": "2 2", "dashdot": "6 2 2 2", "longdash": "10 3", "longdashdot": "10 2 2 2"}
_SVG_SHAPES = {  # around (17, 6)
    "circle": "M12.5 6a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "square": "M13 2h8v8h-8z",
    "diamond": "M17 0.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
    "triangle-up": "M17 1l5 9h-10z",
    "cross": "M15.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "x": "M13 0l4 4l4 -4l2 2l-4 4l4 4l-2 2l-4 -4l-4 4l-2 -2l4 -4l-4 -4z",
}
_MATPLOTLIB_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X"}


def styles(summary: Summary) -> dict[str, Style]:
    """By label: the same for a label that is known, whoever else is there; baselines are grey lines."""
    learners = sorted(row.label for row in summary.rows if row.learns)
    lines = sorted(row.label for row in summary.rows if not row.learns)
    found = {label: Style(_GREY, _DASHES[i % len(_DASHES)]) for label, i in _places(lines, _KNOWN_LINES).items()}
    for label, i in _places(learners, _KNOWN).items():
        found[label] = Style(_COLOURS[i % len(_COLOURS)], symbol=_SYMBOLS[i % len(_SYMBOLS)])
    return found


def _places(labels: Sequence[str], known: Mapping[str, int]) -> dict[str, int]:
    others = [label for label in labels if label not in known]
    return {label: known[label] for label in labels if label in known} | {
        label: len(known) + i for i, label in enumerate(others)
    }


_AXES = {"edits": "scored edits", "tokens": "inner-loop tokens", "seconds": "seconds of training"}


def _draw_scores(summary: Summary) -> Figure:
    figure, panels = _figure(len(_AXES))
    for axes, name in zip(panels, _AXES):
        _draw(summary, axes, name, "score")
    panels[0].set_ylabel("test questions answered right (%)")
    return _legend(figure, panels[0])


def _draw_edits(summary: Summary) -> Figure:
    figure, panels = _figure(2, shared=False)
    for axes, name, about in zip(panels, ("coverage", "length"), ("gold answers in the edit (%)", "characters of an edit")):
        _draw(summary, axes, "edits", name)
        axes.set_ylabel(about)
    return _legend(figure, panels[0])


def _figure(panels: int, shared: bool = True) -> tuple[Figure, Sequence[Axes]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("reports need matplotlib: pip install 'seal-env[bench]'") from error
    figure = Figure(figsize=(4.2 * panels, 4.2), layout="constrained")
    return figure, list(figure.subplots(1, panels, sharey=shared))


def _draw(summary: Summary, axes: Axes, across: str, name: str) -> None:
    style, scale = styles(summary), 1 if name == "length" else 100
    end = max(getattr(point, across) for points in summary.curves.values() for point in points) or 1
    for row in summary.rows:
        look, points = style[row.label], [p for p in summary.curves[row.label] if getattr(p, name) is not None]
        if not points:
            continue
        found: list[Estimate] = [getattr(point, name) for point in points]
        x, y = [getattr(point, across) for point in points], [scale * each.value for each in found]
        line = {"color": look.colour, "linestyle": _MATPLOTLIB_DASHES[look.dash], "label": _plain(row.label)}
        if not row.learns:
            axes.plot([0, end], [y[-1]] * 2, **line, linewidth=1.3, zorder=1)
            continue
        axes.plot(x, y, **line, marker=_MATPLOTLIB_MARKERS[look.symbol], markersize=5, linewidth=1.8, zorder=3)
        known = [i for i, each in enumerate(found) if each.low is not None]
        low, high = ([scale * getattr(found[i], side) for i in known] for side in ("low", "high"))
        axes.fill_between([x[i] for i in known], low, high, color=look.colour, alpha=0.16, linewidth=0, zorder=2)
    axes.set_xlabel(_AXES[across])
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
    """A label without matplotlib's own markup; one that begins with an underscore would be left out of the legend."""
    return label.replace("$", r"\$").replace("_", " _", 1) if label.startswith("_") else label.replace("$", r"\$")


def _legend(figure: Figure, axes: Axes) -> Figure:
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 6)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, handlelength=3.2)
    return figure


def _save(figure: Figure, path: Path, kind: str) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "seal-env", "svg.fonttype": "none"}):  # equal figures make equal files
        figure.savefig(path, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)


# The page -------------------------------------------------------------------------------------------------------------


def page(summary: Summary) -> str:
    """The report as one HTML file with all that it needs; nothing in it is loaded from elsewhere.

    Raises:
        ImportError: Jinja or Plotly is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("reports need Jinja and Plotly: pip install 'seal-env[bench]'") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    records, labels = summary.records, [row.label for row in summary.rows]
    matrices = [
        ("Probability of improvement", _WINS, _matrix(labels, summary.improvements, signed=False)),
        ("Difference over tasks", _MARGINS, _matrix(labels, summary.differences, signed=True)),
    ]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        summary=summary,
        settings=records.settings,
        settings_text=json.dumps(records.settings, indent=1),
        tasks=len(records.tasks),
        columns=table_columns(summary),
        labels=labels,
        matrices=matrices if len(labels) > 1 else [],
        styles=styles(summary),
        dashes=_SVG_DASHES,
        shapes=_SVG_SHAPES,
        axes=_AXES,
        about=[json.dumps(each, indent=1, sort_keys=True) for each in records.about],
        agents=json.dumps({label: vars(agent) for label, agent in records.agents.items()}, indent=1),
        curves=Markup(script_json(curve_data(summary))),
        edits=Markup(script_json(edit_data(records, labels))),
        plotly=Markup(get_plotlyjs()),
    )


_WINS = "How likely a run of the agent in the row scores above one of the agent in the column; equal scores count half."
_MARGINS = "Percentage points by which the agent in the row beats the one in the column on the same tasks, mean over seeds."


def script_json(data: Any) -> str:
    """JSON that may stand in a ``<script>``: no character of it ends the element or a line of the script."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # in ASCII: U+2028 comes as an escape
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _matrix(labels: Sequence[str], found: Mapping[tuple[str, str], Estimate], signed: bool) -> list[list[Cell | None]]:
    """Rows of cells; None on the diagonal."""

    def cell(pair: tuple[str, str]) -> Cell | None:
        if pair[0] == pair[1]:
            return None
        one = found[pair]
        if signed:
            return _percent(one, signed=True)
        interval = "" if one.low is None or one.high is None else f"[{one.low:.2f}, {one.high:.2f}]"
        return Cell(f"{one.value:.2f}", interval, one.value)

    return [[cell((one, other)) for other in labels] for one in labels]


def curve_data(summary: Summary) -> list[dict[str, Any]]:
    """What the page draws: a curve for each agent, with value, low and high of each measure at each point."""
    style = styles(summary)

    def spread(found: Estimate | None) -> list[float | None] | None:
        return None if found is None else [found.value, found.low, found.high]

    return [
        {
            "label": row.label,
            "learns": row.learns,
            **vars(style[row.label]),
            "points": [
                {name: getattr(point, name) for name in ("edits", "seeds", "tokens", "seconds")}
                | {name: spread(getattr(point, name)) for name in MEASURES}
                for point in summary.curves[row.label]
            ],
        }
        for row in summary.rows
    ]


def edit_data(records: Records, labels: Sequence[str]) -> dict[str, Any]:
    """Everything that was evaluated, for reading: every different text once, and its number wherever it occurs.

    ``rows[task]`` of an evaluation point is ``[edit, score, status, questions]``, a question ``[question, gold, answer before,
    answer after, right before, right after]``.
    """
    numbers: dict[str, int] = {}

    def number(text: str) -> int:
        return numbers.setdefault(str(text), len(numbers))

    runs = []
    for run in (run for label in labels for run in _begun(records, label)):
        points = []
        for point in run.points:
            rows = {}
            for task, one in run.evaluations[point.edits].items():
                questions = []
                for each in one.questions:
                    texts = (each.question, each.gold, each.answer_before, each.answer)
                    questions.append([*map(number, texts), int(each.correct_before), int(each.correct)])
                rows[task] = [number(one.text), one.score, number(one.status), questions]
            points.append({"edits": point.edits, "rows": rows})
        runs.append({"label": run.label, "seed": run.seed, "points": points})
    tasks = [{"task": t.index, "title": number(t.title), "context": number(t.context)} for t in records.tasks.values()]
    return {"texts": list(numbers), "tasks": tasks, "runs": runs}
