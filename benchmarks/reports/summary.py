"""The figures of a benchmark, computed from its records; nothing is drawn or printed here.

The headline is a seed's score: the share of questions answered correctly after the update, over all evaluation tasks, at the
end of its run. An agent's score is the mean over its seeds, with Student's t interval. If any run of an agent is finished, its
row counts finished runs only; otherwise it counts all runs, as far as they are. Curves show all runs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.reports.intervals import FEW, Estimate, estimate, improvement
from benchmarks.reports.metrics import METRICS, Metric, curve_metrics, difference, task_scores
from benchmarks.reports.run_records import Agent, Records, Run

COLLAPSE = 0.05


@dataclass(frozen=True)
class Options:
    """What figures are compared with.

    Attributes:
        reference: label that others are compared with, task by task; by default ``untrained``, else ``no_update``, else none.
        target: score to reach (a share); by default halfway from the learners' start to the best learner's score.
        collapse: a run has collapsed if it ends more than this below its best evaluation.
    """

    reference: str | None = None
    target: float | None = None
    collapse: float = COLLAPSE

    def __post_init__(self) -> None:
        if self.target is not None and not 0 <= self.target <= 1:
            raise ValueError(f"target must be a share from 0 to 1, got {self.target}")
        if not 0 <= self.collapse <= 1:
            raise ValueError(f"collapse must be a share from 0 to 1, got {self.collapse}")

    def text(self, template: str) -> str:
        """A header or sentence of a metric, with the reference, and the target and the collapse in percent, filled in."""
        return template.format(reference=self.reference, target=100 * (self.target or 0), collapse=100 * self.collapse)


@dataclass(frozen=True, eq=False)
class Row:
    """One agent; ``row["score"]`` is its value of a metric.

    Attributes:
        agent: the agent behind the label.
        runs: those that count, by seed.
        planned: how many seeds were planned.
        options: with the default reference and target filled in.
        reference: counted runs of the reference; none if this agent is the reference, or there is none.
    """

    agent: Agent
    runs: tuple[Run, ...]
    planned: int
    options: Options
    reference: tuple[Run, ...] = ()

    @property
    def label(self) -> str:
        return self.agent.label

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def finished(self) -> bool:
        return all(run.done for run in self.runs)

    @property
    def learns(self) -> bool:
        return any(run.learns for run in self.runs)

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        return {}

    def value(self, metric: Metric) -> Any:
        """The agent's value of a metric, computed once."""
        if metric.key not in self._values:
            self._values[metric.key] = metric.value(self)
        return self._values[metric.key]

    def __getitem__(self, key: str) -> Any:
        return self.value(METRICS.get(key))


@dataclass(frozen=True)
class CurvePoint:
    """An agent after so many scored edits: means over the ``seeds`` runs that have come so far, and an estimate of every
    metric that has a curve, None where it is unknown."""

    edits: int
    seeds: int
    tokens: float
    seconds: float
    estimates: dict[str, Estimate | None]


@dataclass(frozen=True, eq=False)
class Summary:
    """All figures of a benchmark.

    Attributes:
        rows: highest score first.
        options: with the default reference and target filled in; they stay None where there is no reference, and where no
            agent learned anything.
        notes: what readers must know: what is missing, and what a few seeds cannot tell.
    """

    records: Records
    rows: tuple[Row, ...]
    options: Options
    notes: tuple[str, ...]

    @functools.cached_property
    def curves(self) -> dict[str, list[CurvePoint]]:
        """By label, in the order of the rows."""
        return {row.label: list(_curve(evaluated_runs(self.records, row.label))) for row in self.rows}

    @functools.cached_property
    def sequence_rows(self) -> list[Row]:
        """Agents that were given continual sequences, in the order of the rows, with the runs that have some."""
        with_sequences = [
            replace(row, runs=tuple(run for run in self.records.of(row.label) if run.sequences)) for row in self.rows
        ]
        return [row for row in with_sequences if row.runs]

    @functools.cached_property
    def improvements(self) -> dict[tuple[str, str], Estimate]:
        """Probability that a run of the first label scores above a run of the second."""
        scores = {row.label: row["scores"] for row in self.rows}
        return {(a, b): improvement(scores[a], scores[b]) for a in scores for b in scores if a != b}

    @functools.cached_property
    def differences(self) -> dict[tuple[str, str], Estimate]:
        """How much better the first label scores than the second, over tasks."""
        scores = {row.label: task_scores(row.runs) for row in self.rows}
        return {(a, b): difference(scores[a], scores[b]) for a in scores for b in scores if a != b}


def summarise(records: Records, options: Options | None = None) -> Summary:
    """All figures of ``records``.

    Raises:
        ValueError: nothing has been evaluated yet, or the reference is unknown.
    """
    options = options or Options()
    evaluated = {label: runs for label in records.agents if (runs := evaluated_runs(records, label))}
    counted = {label: tuple([run for run in runs if run.done] or runs) for label, runs in evaluated.items()}
    if not counted:
        raise ValueError(f"{records.folders[0]} holds no complete evaluation yet")
    reference = options.reference
    if reference is None:
        reference = next((label for label in ("untrained", "no_update") if label in counted), None)
    elif reference not in counted:
        raise ValueError(f"no agent {reference!r} to compare with; there are {', '.join(counted)}")
    target = _halfway(counted.values()) if options.target is None else options.target
    options = replace(options, reference=reference, target=target)
    rows = [
        Row(
            agent=records.agents[label],
            runs=runs,
            planned=len(records.seeds[label]),
            options=options,
            reference=counted[reference] if reference is not None and label != reference else (),
        )
        for label, runs in counted.items()
    ]
    rows.sort(key=lambda row: -row["score"].value)
    return Summary(records, tuple(rows), options, tuple(_notes(records, rows)))


def evaluated_runs(records: Records, label: str) -> list[Run]:
    """The runs of an agent that have at least one complete evaluation."""
    return [run for run in records.of(label) if len(run.evaluations)]


def _halfway(agents: Iterable[Sequence[Run]]) -> float | None:
    """The default target."""
    learners = [[run.points["score"] for run in runs] for runs in agents if any(run.learns for run in runs)]
    if not learners:
        return None
    start = float(np.mean([scores.iloc[0] for runs in learners for scores in runs]))
    best = max(float(np.mean([scores.iloc[-1] for scores in runs])) for runs in learners)
    return (start + best) / 2 if best > start else None


def _curve(runs: Sequence[Run]) -> Iterator[CurvePoint]:
    """A point wherever a run was evaluated; runs that were evaluated before and after it are interpolated."""
    index = sorted({edits for run in runs for edits in run.points.index})
    curves = [run.points.reindex(index).interpolate("index", limit_area="inside") for run in runs]
    for edits in index:
        points = pd.DataFrame([curve.loc[edits] for curve in curves]).dropna(subset="tokens")
        estimates = {
            metric.key: None if points[metric.key].isna().any() else estimate(points[metric.key], metric.limits)
            for metric in curve_metrics()
        }
        cost = points.to_numpy()[:, :2].mean(axis=0)
        yield CurvePoint(edits, len(points), float(cost[0]), float(cost[1]), estimates)


def mean_accuracy_matrix(row: Row) -> NDArray[np.float64]:
    """Accuracy on each passage (column) after each update (row) of continual sequences: mean over sequences and seeds."""
    return np.mean([np.mean(run.sequences, axis=0) for run in row.runs], axis=0)


def _notes(records: Records, rows: Sequence[Row]) -> Iterator[str]:
    """What readers must know."""
    if any(row.learns for row in rows):
        fixed = "The student is fixed while a policy learns (self_adapting: false), unlike in the paper"
        if adapting := ", ".join(row.label for row in rows if row.agent.self_adapting):
            yield f"{fixed}; for {adapting} the policy becomes the student after every round, as there."
        else:
            yield f"{fixed}, where the policy becomes the student."
    yield from records.notes
    if left_out := ", ".join(f"{row.label} {row['ungraded']}" for row in rows if row["ungraded"]):
        yield f"Questions at the end that have no verdict before or after the update, and that no score counts: {left_out}."
    few = min(len(row.seeds) for row in rows)
    if few == 1:
        yield "An agent with one seed has no interval: how much its runs differ is not known."
    elif few <= FEW:
        yield (
            f"Some agents have {few} seeds. An interval of so few takes for granted that seeds scatter like a normal"
            " distribution; look at each seed."
        )
