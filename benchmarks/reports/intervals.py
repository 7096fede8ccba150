"""Statistics of a few runs: means over seeds with Student's t intervals, differences over tasks with bootstrap intervals.

The estimator is always the plain mean, so that the difference of two agents is the difference of their scores. A trimmed mean
(Agarwal et al. 2021, arXiv 2108.13264) would leave out two of five seeds: those that show whether an agent is reliable.

Runs of an agent differ by seed. With five seeds, a 95 % percentile bootstrap interval covers the true mean about 80 % of the
time; the t interval covers it 95 % of the time if seeds are about normally distributed. :func:`paired_difference` resamples
tasks instead, which answers another question: would the result hold on other passages?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEW = 5  # up to this many seeds, reports show each and warn readers


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; ``low`` and ``high`` are None where nothing can be resampled."""

    value: float
    low: float | None = None
    high: float | None = None


def estimate(scores: ArrayLike, limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Mean over seeds, with Student's t interval.

    Args:
        scores: ``(seeds,)``.
        limits: bounds of the mean, such as ``(0, 1)`` for a share; the interval ends there.

    Raises:
        ValueError: ``scores`` has another shape, or no seed.
    """
    values = np.asarray(scores, float)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"scores must be (seeds,), got shape {values.shape}")
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return Estimate(mean, max(mean - half, limits[0]), min(mean + half, limits[1]))


def improvement(better: ArrayLike, worse: ArrayLike, seed: int = 0) -> Estimate:
    """Probability that a run of ``better`` scores above a run of ``worse``, ties counting half (Mann-Whitney's U, scaled).

    Args:
        better: ``(seeds,)``.
        worse: ``(seeds,)``; another number of seeds is fine.
        seed: of the resampling; the seeds of both are resampled independently.
    """
    ours, theirs = np.asarray(better, float), np.asarray(worse, float)
    value = float(_superiority(ours, theirs, axis=-1))
    if min(len(ours), len(theirs)) < 2:
        return Estimate(value)
    return Estimate(value, *percentile_bootstrap([ours, theirs], _superiority, seed))


def paired_difference(scores: ArrayLike, reference: ArrayLike, seed: int = 0) -> Estimate:
    """Mean of ``scores - reference`` over tasks; the tasks are resampled, both agents' scores on a task together.

    Args:
        scores: ``(tasks,)``, means over seeds.
        reference: ``(tasks,)``, of the same tasks in the same order.
        seed: of the resampling.
    """
    difference = np.asarray(scores, float) - np.asarray(reference, float)
    value = float(difference.mean())
    if len(difference) < 2:
        return Estimate(value)
    return Estimate(value, *percentile_bootstrap([difference], np.mean, seed))


def mean_interval(scores: ArrayLike, seed: int = 0) -> Estimate:
    """Mean of ``scores``, ``(tasks,)``, with the bootstrap interval of :func:`paired_difference`."""
    return paired_difference(scores, np.zeros(np.shape(scores)), seed)


def percentile_bootstrap(
    samples: Sequence[NDArray[Any]], statistic: Callable[..., Any], seed: int, batch: int = 2_000
) -> tuple[float, float]:
    """The 95 % percentile interval of a vectorized ``statistic(*samples, axis=-1)``; each sample is resampled independently."""
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=batch,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _superiority(better: NDArray[np.float64], worse: NDArray[np.float64], axis: int) -> Any:
    """``axis`` is the last one."""
    ours, theirs = better[..., :, None], worse[..., None, :]
    return ((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=(-2, -1))
