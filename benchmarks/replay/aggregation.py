"""Statistics of the edits of passages. Arrays are ``(..., passages, edits)``, or ``(..., passages, edits, runs)`` with the
adapter runs of each edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.replay.replay_tables import Figure
from benchmarks.reports.intervals import percentile_bootstrap

Array = NDArray[np.float64]


def mean_figure(values: Sequence[float] | Array, scale: float = 100, spec: str = ".1f") -> Figure:
    """The mean, with its standard error."""
    error = scale * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    return Figure(scale * float(np.mean(values)), spec, error)


def over_passages(statistic: Callable[..., Any], *values: Array, scale: float = 1, spec: str = ".2f") -> Figure:
    """``statistic`` of ``values``, whose first axis is the passages, with a bootstrap interval over passages."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = scale * float(statistic(*values))
        if len(values[0]) < 2:
            return Figure(value, spec)
        index = np.arange(len(values[0]))
        low, high = percentile_bootstrap(
            [index], lambda sample, axis: statistic(*(array[sample] for array in values)), seed=0, batch=1_000
        )
    interval = (scale * low, scale * high)
    return Figure(value, spec, interval=interval if np.isfinite(interval).all() else None)


def reliability(scores: Array) -> Any:
    """Of the mean over adapter runs, among the edits of a passage: 1 - MS within edits / MS between edits (one-way ANOVA)."""
    *_, passages, edits, runs = scores.shape
    means = scores.mean(-1)
    between = runs * ((means - means.mean(-1, keepdims=True)) ** 2).sum((-1, -2)) / (passages * (edits - 1))
    inside = ((scores - means[..., None]) ** 2).sum((-1, -2, -3)) / (passages * edits * (runs - 1))
    return 1 - inside / between


def pearson(x: Array, y: Array) -> Any:
    """Pearson's r over all edits."""
    x, y = (values.reshape(*values.shape[:-2], -1) for values in (x, y))
    x, y = (values - values.mean(-1, keepdims=True) for values in (x, y))
    return (x * y).sum(-1) / ((x**2).sum(-1) * (y**2).sum(-1)) ** 0.5


def spearman(x: Array, y: Array) -> Any:
    """Spearman's rho over all edits."""
    ranks = (stats.rankdata(values.reshape(*values.shape[:-2], -1), axis=-1).reshape(values.shape) for values in (x, y))
    return pearson(*ranks)


def within(x: Array, y: Array) -> Any:
    """Pearson's r within passages: of the deviations from each passage's mean."""
    return pearson(*(values - values.mean(-1, keepdims=True) for values in (x, y)))


def at_best(scores: Array, values: Array) -> Array:
    """``values`` of each passage's edit with the best score, ``(..., passages)``; the mean over ties."""
    best = scores == scores.max(-1, keepdims=True)
    return (values * best).sum(-1) / best.sum(-1)


def cross_validated_best(scores: Array) -> Array:
    """The score of each passage's best edit, ``(passages,)``: chosen by all adapter runs but one and scored by that one, mean
    over which one is left out."""
    runs = scores.shape[-1]
    left_out = [at_best(np.delete(scores, run, -1).mean(-1).round(9), scores[..., run]) for run in range(runs)]
    return np.mean(left_out, axis=0)
