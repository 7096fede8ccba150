"""Figures of a benchmark, from its records: nothing here is drawn or printed.

The headline is a seed's score: the share of questions answered right after the update, over all evaluation tasks, at the end of
its run. An agent's score is the mean over its seeds, with Student's t interval. An agent of which any run is finished is judged
by its finished runs alone, others by how far they have come; curves show all runs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from benchmarks.reports.intervals import FEW, Estimate, estimate, improvement, paired_difference
from benchmarks.reports.run_records import Point, Records, Run
from seal_env.plots import accuracy_matrix

COLLAPSE = 0.05
MEASURES = ("score", "coverage", "length")
SHARE = (0.0, 1.0)


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
        self_adapting: whether the student became the policy after every round; otherwise it was fixed.
        tuned_on: scored edits that were spent on choosing the agent's hyperparameters; None: not known.
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
        ungraded: questions at the end, over all seeds, that the scores leave out for want of a verdict.
    """

    label: str
    learns: bool
    self_adapting: bool
    tuned_on: int | None
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
    ungraded: int


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
class Forgetting:
    """What becomes of passages that are learnt one after the other; shares.

    Attributes:
        matrix: ``matrix[t][i]``, accuracy on passage i after update t, mean over sequences and seeds; None where i > t.
        learnt: accuracy on a passage right after its update (the diagonal).
        kept: accuracy on all passages at the end (the last row).
        forgotten: what earlier passages lost since their update: the mean of diagonal minus last row, without the last passage.
    """

    label: str
    matrix: tuple[tuple[float | None, ...], ...]
    learnt: Estimate
    kept: Estimate
    forgotten: Estimate


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
        return {row.label: _curve(begun(self.records, row.label)) for row in self.rows}

    @functools.cached_property
    def forgetting(self) -> list[Forgetting]:
        """Of the agents that were given continual sequences, in the order of the rows."""
        found = [(row.label, [run for run in self.records.of(row.label) if run.sequences]) for row in self.rows]
        return [_forgetting(label, runs) for label, runs in found if runs]

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
        return {(one, other): _difference(means[one], means[other]) for one in means for other in means if one != other}


def summarise(records: Records, options: Options | None = None) -> Summary:
    """All figures of ``records``.

    Raises:
        ValueError: nothing was evaluated yet, or an unknown reference.
    """
    options = options or Options()
    labels = [label for label in records.agents if begun(records, label)]
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
    notes = (*_students(rows), *records.notes, *_ungraded(rows), *_cautions(rows))
    return Summary(records, tuple(rows), reference, target, options.collapse, notes)


def begun(records: Records, label: str) -> list[Run]:
    """The runs of an agent that were evaluated at least once."""
    return [run for run in records.of(label) if run.evaluations]


def _counted(records: Records, label: str) -> list[Run]:
    runs = begun(records, label)
    return [run for run in runs if run.done] or runs


def _halfway(records: Records, labels: Iterable[str]) -> float | None:
    learners = [runs for runs in (_counted(records, label) for label in labels) if any(run.learns for run in runs)]
    if not learners:
        return None
    start = float(np.mean([run.points[0].score for runs in learners for run in runs]))
    best = max(float(np.mean([run.points[-1].score for run in runs])) for runs in learners)
    return (start + best) / 2 if best > start else None


def _row(records: Records, label: str, reference: str | None, target: float | None, collapse: float) -> Row:
    runs = _counted(records, label)
    learns = any(run.learns for run in runs)
    last = [run.points[-1] for run in runs]
    scores = tuple(point.score for point in last)
    difference, reached = None, list[float]()
    if reference is not None and label != reference:
        difference = _difference(_task_means(records, label), _task_means(records, reference))
    if learns and target is not None:
        reached = [next((point.edits for point in run.points if point.score >= target), math.inf) for run in runs]
    areas = [area for area in map(_area, (run.points for run in runs)) if area is not None]
    coverage = float(np.mean([point.coverage for point in last]))
    return Row(
        label,
        learns,
        records.agents[label].self_adapting,
        records.agents[label].tuned_on,
        tuple(run.seed for run in runs),
        len(records.seeds[label]),
        all(run.done for run in runs),
        max(point.edits for point in last),
        scores,
        estimate(scores, SHARE),
        difference,
        estimate(areas, SHARE) if learns and areas else None,
        sum(map(math.isfinite, reached)),
        float(np.median(reached)) if reached else None,
        min(scores),
        runs[int(np.argmin(scores))].seed,
        sum(max(point.score for point in run.points) - run.points[-1].score > collapse + 1e-12 for run in runs),
        None if math.isnan(coverage) else coverage,
        float(np.mean([point.length for point in last])),
        float(np.mean([point.tokens for point in last])),
        float(np.mean([point.seconds for point in last])),
        sum(point.ungraded for point in last),
    )


def _area(points: Sequence[Point]) -> float | None:
    """Mean height of a curve; None where it is a single point."""
    edits = [point.edits for point in points]
    return float(trapezoid([point.score for point in points], edits)) / (edits[-1] - edits[0]) if len(edits) > 1 else None


def _task_means(records: Records, label: str) -> list[float | None]:
    """Final score on each task, mean over the seeds with a graded question; None where no seed has one."""
    last = [run.evaluations[run.points[-1].edits] for run in _counted(records, label)]
    scores = [[each[task].score for each in last if each[task].graded] for task in sorted(records.tasks)]
    return [float(np.mean(each)) if each else None for each in scores]


def _difference(scores: Sequence[float | None], reference: Sequence[float | None]) -> Estimate:
    """Over the tasks that both have a score on; 0 without an interval where there is none."""
    pairs = [(one, other) for one, other in zip(scores, reference) if one is not None and other is not None]
    return paired_difference([one for one, _ in pairs], [other for _, other in pairs]) if pairs else Estimate(0.0)


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
        estimate(values("score"), SHARE),
        None if any(map(math.isnan, coverage)) else estimate(coverage, SHARE),
        estimate(values("length")),
    )


def _forgetting(label: str, runs: Sequence[Run]) -> Forgetting:
    # (seeds, steps, passages), mean over sequences; NaN above the diagonal
    each = np.array([np.mean([_matrix(one.rows) for one in run.sequences], axis=0) for run in runs])
    diagonals, last = np.diagonal(each, axis1=1, axis2=2), each[:, -1]
    matrix = tuple(tuple(None if math.isnan(value) else float(value) for value in row) for row in each.mean(0))
    lost = (diagonals - last)[:, :-1]
    return Forgetting(label, matrix, *(estimate(values.mean(1)) for values in (diagonals, last, lost)))


def _matrix(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return accuracy_matrix({"accuracy_row": row} for row in rows)


def _ungraded(rows: Sequence[Row]) -> list[str]:
    """Where scores leave questions out."""
    left_out = [f"{row.label} {row.ungraded}" for row in rows if row.ungraded]
    about = "Questions at the end that have no verdict before or after the update, and that no score counts: "
    return [f"{about}{', '.join(left_out)}."] if left_out else []


def _students(rows: Sequence[Row]) -> list[str]:
    """Which student answers while a policy learns."""
    if not any(row.learns for row in rows):
        return []
    adapting = [row.label for row in rows if row.self_adapting]
    fixed = "The student is fixed while a policy learns (self_adapting: false), unlike in the paper"
    if not adapting:
        return [f"{fixed}, where the policy becomes the student."]
    return [f"{fixed}; for {', '.join(adapting)} the policy becomes the student after every round, as there."]


def _cautions(rows: Sequence[Row]) -> list[str]:
    """What a few seeds cannot tell."""
    few = min(len(row.seeds) for row in rows)
    if few > FEW:
        return []
    if few == 1:
        return ["An agent with one seed has no interval: nothing is known of how its runs differ."]
    said = (
        f"Some agents have {few} seeds. An interval of so few takes for granted that seeds scatter like a normal distribution"
    )
    return [f"{said}; look at each seed."]
