"""The table of metrics: each entry is a column of every report.

The terminal table, Markdown, CSV, the HTML page and the learning curves are all computed from :data:`METRICS`. A new column is
one entry here. From outside, it is a call of :func:`register_metric`, an object that ``seal-bench report --metric
my_package.columns:STEPS`` names, or an entry point of the group ``seal_env.metrics``:

STEPS = Metric("steps", "steps", "optimizer steps of an update", per_point=lambda tasks: tasks["steps"].mean())
register_metric(STEPS)
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from benchmarks.reports.intervals import FEW, Estimate, estimate, paired_difference
from seal_env.domains import DOMAINS
from seal_env.registry import Registry
from seal_env.rewards.groundedness import groundedness
from seal_env.tasks.answer_match import normalize

if TYPE_CHECKING:
    from benchmarks.reports.run_records import Run
    from benchmarks.reports.summary import Row, Summary

SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Cell:
    """A figure as tables show it.

    Attributes:
        text: the figure.
        detail: its interval, or what it counts.
        value: what the page sorts by; None: unknown, sorted last.
    """

    text: str
    detail: str = ""
    value: float | str | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".strip()


def number_cell(value: float | Estimate, spec: str, scale: float = 1) -> Cell:
    """``scale * value`` in the format ``spec``, with its interval if it has one."""
    if not isinstance(value, Estimate):
        return Cell(f"{scale * value:{spec}}", value=value)
    interval = "" if value.low is None or value.high is None else f"[{scale * value.low:{spec}}, {scale * value.high:{spec}}]"
    return Cell(f"{scale * value.value:{spec}}", interval, value.value)


def _mean(values: Sequence[float], row: Row) -> float | None:
    mean = float(np.mean(values))
    return None if math.isnan(mean) else mean


@dataclass(frozen=True)
class Metric:
    """One column of the report.

    A metric with ``per_point`` has a learning curve, and its value for a run is the last point of the curve. Any other metric
    has ``per_run``, or an ``aggregate`` that ignores the values of runs.

    Attributes:
        key: name of the column in ``table.csv``, and in ``curves.csv`` if it has a curve.
        header: heading of the column, a format string for ``{reference}`` (a label), ``{target}`` and ``{collapse}`` (percent).
        help: one sentence for the page, a format string like ``header``.
        per_point: maps the rows of :attr:`Run.evaluations` of one evaluation to a number (None: unknown).
        per_run: maps a :class:`Run` to a value.
        aggregate: maps the values of an agent's counted runs and its :class:`Row` to the agent's value: by default the mean. A
            value is None (unknown), a number, text, an :class:`Estimate`, a sequence, or a mapping from CSV columns to these.
        share: whether values are shares from 0 to 1, which tables and curves show in percent; CSV files hold the shares.
        format: how a table shows the agent's value: the format of a number or an :class:`Estimate`, by default ``.1f`` for
            shares and ``,.0f`` otherwise, or a function of the value and its :class:`Row` that returns a :class:`Cell`.
        curve: label of the curve's axis.
        missing: text of an unknown value.
        interval: whether the agent's value is an :class:`Estimate`, so that CSV has columns for its interval.
        learners_only: whether tables leave out agents that do not learn.
        terminal: whether the terminal table, which is narrow, has the column.
        applies: whether the metric makes sense for a run; its curve is unknown otherwise.
        visible: whether the tables for readers have the column; CSV always has it.
    """

    key: str
    header: str
    help: str
    per_point: Callable[[pd.DataFrame], float | None] | None = None
    per_run: Callable[[Run], Any] | None = None
    aggregate: Callable[[Sequence[Any], Row], Any] = _mean
    share: bool = False
    format: str | Callable[[Any, Row], Cell] = ""
    curve: str = ""
    missing: str = "-"
    interval: bool = False
    learners_only: bool = False
    terminal: bool = True
    applies: Callable[[Run], bool] = lambda run: True
    visible: Callable[[Summary], bool] = lambda summary: True

    @property
    def axis(self) -> str:
        """Label of the curve's axis, with the unit."""
        return f"{self.curve or self.header} (%)" if self.share else self.curve or self.header

    @property
    def scale(self) -> int:
        return 100 if self.share else 1

    @property
    def limits(self) -> tuple[float, float]:
        """Where the intervals of the curve end."""
        return SHARE if self.share else (-math.inf, math.inf)

    @property
    def spec(self) -> str:
        """Format of a number."""
        return self.format if self.format and isinstance(self.format, str) else ".1f" if self.share else ",.0f"

    @property
    def digits(self) -> int:
        """Digits after the point."""
        digits = re.search(r"\.(\d+)", self.spec)
        return int(digits[1]) if digits else 0

    def value(self, row: Row) -> Any:
        """The value of an agent."""
        if self.per_run:
            return self.aggregate([self.per_run(run) for run in row.runs], row)
        values = [float(run.points[self.key].iloc[-1]) for run in row.runs] if self.per_point else []
        return self.aggregate(values, row)

    def cell(self, row: Row) -> Cell:
        """The value of an agent as tables show it."""
        value = row.value(self)
        if value is None or (self.learners_only and not row.learns):
            return Cell(self.missing)
        return self.format(value, row) if callable(self.format) else number_cell(value, self.spec, self.scale)

    def csv(self, value: Any) -> dict[str, Any]:
        """A value as columns of a CSV file."""
        if self.interval and value is None:
            return estimate_columns(self.key, None)
        return _csv_columns(self.key, value)


def estimate_columns(key: str, value: Estimate | None) -> dict[str, float | None]:
    """An estimate as columns of a CSV file."""
    numbers = (None, None, None) if value is None else (value.value, value.low, value.high)
    return dict(zip((key, f"{key}_low", f"{key}_high"), numbers))


def _csv_columns(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Estimate):
        return estimate_columns(key, value)
    if isinstance(value, Mapping):
        return {name: column for below in value for name, column in _csv_columns(below, value[below]).items()}
    if isinstance(value, (list, tuple)):
        return {key: " ".join(map(repr, value))}
    return {key: value}


def _problem(metric: Any) -> str:
    return "" if isinstance(metric, Metric) else "must be a benchmarks.reports.metrics.Metric"


METRICS: Registry[Metric] = Registry("metric", group="seal_env.metrics", check=_problem)


def register_metric(metric: Metric) -> None:
    """Add a column to all reports, after those that exist.

    Raises:
        ValueError: the key is taken, or ``metric`` is not a :class:`Metric`.
    """
    if problem := _problem(metric):
        raise ValueError(f"metric {metric!r} {problem}")
    METRICS.register(metric.key, metric, metric.help)


def metrics() -> list[Metric]:
    """Every column, in order."""
    return [METRICS.get(name) for name in METRICS.names()]


def curve_metrics() -> list[Metric]:
    """Those with a learning curve."""
    return [metric for metric in metrics() if metric.per_point]


# The metrics of a run ---------------------------------------------------------------------------------------------------


def _score(tasks: pd.DataFrame) -> float:
    """Mean over the tasks with a graded question; 0 where no task has one."""
    graded = tasks["score"][tasks["graded"]].to_numpy()
    return float(np.mean(graded)) if len(graded) else 0.0


def _coverage(tasks: pd.DataFrame) -> float | None:
    """Share of the gold answers that occur in the edit as whole words, both normalised, mean over the tasks with questions."""
    shares = []
    for text, questions in zip(tasks["text"], tasks["questions"]):
        edit = f" {normalize(text)} "
        golds = [normalize(question["gold"]) for question in questions]
        if golds:
            shares.append(sum(bool(gold) and f" {gold} " in edit for gold in golds) / len(golds))
    return float(np.mean(shares)) if shares else None


def _grounded(tasks: pd.DataFrame) -> float | None:
    """Share of the edit's names and numbers that its passage has, mean over the edits with any."""
    edits = zip(tasks["text"], tasks["passage_title"], tasks["context"])
    shares = [share for edit in edits if (share := groundedness(*edit)) is not None]
    return float(np.mean(shares)) if shares else None


def _compression(tasks: pd.DataFrame) -> float | None:
    """Bytes of all edits together over their bytes after compression (Shaib et al. 2024, arXiv 2403.00553)."""
    text = "\n".join(tasks["text"]).encode("utf-8", "replace")
    return len(text) / len(zlib.compress(text, 9)) if len(text) > len(tasks) else None


def _about_passages(run: Run) -> bool:
    return bool(run.domain) and "coverage" in DOMAINS.get(run.domain).report_measures


def _final(column: str) -> Callable[[Run], float]:
    return lambda run: float(run.points[column].iloc[-1])


def _area(run: Run) -> float | None:
    """Mean height of the learning curve; None where it is a single point."""
    scores = run.points["score"]
    edits = scores.index
    return float(trapezoid(scores, edits)) / float(edits[-1] - edits[0]) if len(edits) > 1 else None


def task_scores(runs: Sequence[Run]) -> pd.Series:
    """Final score on each task, mean over the seeds with a graded question; NaN where no seed has one."""
    frames = [run.final.set_index("task") for run in runs]
    return pd.concat([frame["score"].where(frame["graded"]) for frame in frames], axis=1).mean(axis=1).sort_index()


def difference(scores: pd.Series, reference: pd.Series) -> Estimate:
    """Mean difference over the tasks that both have a score on; 0 without an interval where there is none."""
    pairs = pd.concat([scores, reference], axis=1).dropna().to_numpy()
    return paired_difference(pairs[:, 0], pairs[:, 1]) if len(pairs) else Estimate(0.0)


# The metrics of an agent ------------------------------------------------------------------------------------------------


def _share(values: Sequence[float | None], row: Row) -> Estimate | None:
    known = [value for value in values if value is not None]
    return estimate(known, SHARE) if known else None


def _edits_to_target(curves: Sequence[pd.Series], row: Row) -> dict[str, Any]:
    """Median over seeds, infinite for those that never reach the target, and how many seeds reach it."""
    target = row.options.target
    if target is None or not row.learns:
        return {"reached": 0, "edits_to_target": None}
    edits = [float(min(curve.index[curve >= target], default=math.inf)) for curve in curves]
    return {"reached": sum(map(math.isfinite, edits)), "edits_to_target": float(np.median(edits))}


def _edits_to_target_cell(value: Mapping[str, Any], row: Row) -> Cell:
    edits = value["edits_to_target"]
    if edits is None:
        return Cell("-")
    text, order = (f"{edits:,.0f}", edits) if math.isfinite(edits) else ("never", 1e18)
    return Cell(text, f"({value['reached']}/{len(row.runs)})", order)


def _seeds_cell(value: Mapping[str, Any], row: Row) -> Cell:
    count = len(row.seeds)
    text = str(count) if count == row.planned else f"{count} of {row.planned}"
    return Cell(text, "" if row.finished else "unfinished", count)


def _few_seeds(summary: Summary) -> bool:
    """Whether the table can show the score of each seed."""
    counts = [len(row.seeds) for row in summary.rows]
    return max(counts) <= FEW and max(counts) > 1


for _metric in (
    Metric(
        "agent",
        "agent",
        "label in the benchmark",
        aggregate=lambda _, row: {"label": row.label, "agent": row.agent.agent},
        format=lambda _, row: Cell(row.label, value=row.label),
    ),
    Metric(
        "score",
        "score",
        "test questions answered correctly at the end of training, percent",
        per_point=_score,
        aggregate=_share,
        share=True,
        curve="test questions answered correctly",
        interval=True,
    ),
    Metric(
        "difference",
        "vs {reference}",
        "percentage points above {reference}, mean over the same tasks; the interval resamples tasks",
        aggregate=lambda _, row: difference(task_scores(row.runs), task_scores(row.reference)) if row.reference else None,
        share=True,
        format="+.1f",
        interval=True,
        visible=lambda summary: summary.options.reference is not None,
    ),
    Metric("reference", "", "", aggregate=lambda _, row: row.options.reference, visible=lambda _: False),
    Metric(
        "scores",
        "each seed",
        "score of each seed, percent",
        per_run=_final("score"),
        aggregate=lambda scores, row: scores,
        format=lambda scores, row: Cell(" ".join(f"{100 * score:.1f}" for score in scores), value=min(scores)),
        visible=_few_seeds,
    ),
    Metric(
        "area",
        "area",
        "mean height of the learning curve, percent",
        per_run=_area,
        aggregate=_share,
        share=True,
        interval=True,
        terminal=False,
    ),
    Metric(
        "edits_to_target",
        "to {target:.1f}",
        "scored edits until {target:.1f} % was first reached: median over seeds, and how many seeds reached it",
        per_run=lambda run: run.points["score"],
        aggregate=_edits_to_target,
        format=_edits_to_target_cell,
        visible=lambda summary: summary.options.target is not None,
    ),
    Metric("target", "", "", aggregate=lambda _, row: row.options.target, visible=lambda _: False),
    Metric(
        "worst",
        "worst",
        "score of the worst seed, percent",
        per_run=_final("score"),
        aggregate=lambda scores, row: {"worst": min(scores), "worst_seed": row.seeds[int(np.argmin(scores))]},
        format=lambda value, row: number_cell(value["worst"], ".1f", 100),
        visible=lambda summary: not _few_seeds(summary),
    ),
    Metric(
        "collapsed",
        "collapsed",
        "seeds that end more than {collapse:g} points below their best evaluation",
        per_run=lambda run: float(run.points["score"].max() - run.points["score"].iloc[-1]),
        aggregate=lambda drops, row: sum(drop > row.options.collapse + 1e-12 for drop in drops),
        format=lambda value, row: Cell(f"{value}/{len(row.seeds)}", value=value / len(row.seeds)),
        learners_only=True,
    ),
    Metric(
        "coverage",
        "coverage",
        "gold answers that occur in the edit at the end of training, percent",
        per_point=_coverage,
        share=True,
        curve="gold answers in the edit",
        applies=_about_passages,
    ),
    Metric(
        "grounded",
        "grounded",
        "names and numbers of the edit that its passage has, at the end of training, percent; the others are invented",
        per_point=_grounded,
        share=True,
        curve="names and numbers of the edit that the passage has",
        applies=_about_passages,
        terminal=False,
    ),
    Metric(
        "compression",
        "compression",
        "bytes of all edits together over their compressed bytes, at the end of training: the higher, the more repetitive",
        per_point=_compression,
        format=".1f",
        curve="compression ratio of the edits",
        applies=_about_passages,
        terminal=False,
    ),
    Metric(
        "length",
        "length",
        "characters of an edit at the end of training",
        per_point=lambda tasks: float(np.mean([len(text) for text in tasks["text"]])),
        curve="characters of an edit",
    ),
    Metric(
        "edits",
        "edits",
        "scored edits of a run",
        per_run=lambda run: int(run.points.index[-1]),
        aggregate=lambda edits, row: max(edits),
        terminal=False,
    ),
    Metric(
        "tokens",
        "tokens",
        "trained on in the inner loop, mean of the runs",
        per_run=_final("tokens"),
        learners_only=True,
        terminal=False,
    ),
    Metric(
        "seconds", "seconds", "of training, mean of the runs", per_run=_final("seconds"), learners_only=True, terminal=False
    ),
    Metric(
        "tuned_on",
        "tuned on",
        "scored edits that were spent on choosing the agent's settings, rejected settings included; ?: not known",
        aggregate=lambda _, row: row.agent.tuned_on,
        missing="?",
    ),
    Metric(
        "self_adapting",
        "student",
        "fixed: the same while the policy learns; policy: it becomes the policy after every round (the paper)",
        aggregate=lambda _, row: row.agent.self_adapting,
        format=lambda value, row: Cell("policy" if value else "fixed"),
        terminal=False,
    ),
    Metric(
        "seeds",
        "seeds",
        "counted, of those that were planned",
        aggregate=lambda _, row: {"seeds": row.seeds, "planned": row.planned, "finished": row.finished},
        format=_seeds_cell,
    ),
    Metric(
        "ungraded", "", "", per_run=_final("ungraded"), aggregate=lambda counts, row: int(sum(counts)), visible=lambda _: False
    ),
):
    register_metric(_metric)


# Continual sequences ----------------------------------------------------------------------------------------------------


def _sequence_metric(key: str, help: str, values: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Metric:
    """Mean of what ``values`` takes from a run's accuracy matrix, ``(steps, passages)``, which is a mean over sequences."""
    return Metric(
        key,
        key,
        help,
        per_run=lambda run: float(np.mean(values(np.mean(run.sequences, axis=0)))),
        aggregate=lambda values, row: estimate(values),
        share=True,
        interval=True,
    )


SEQUENCE_METRICS = (  # columns of the table of continual sequences
    METRICS.get("agent"),
    _sequence_metric("learnt", "correct answers about a passage right after its update, percent", np.diagonal),
    _sequence_metric("kept", "correct answers about all passages at the end, percent", lambda matrix: matrix[-1]),
    _sequence_metric(
        "forgotten",
        "points that earlier passages lost since their update",
        lambda matrix: (np.diagonal(matrix) - matrix[-1])[:-1],
    ),
)
