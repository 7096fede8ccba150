"""Few runs, honest figures: means over seeds with Student's t intervals, and differences over tasks with bootstrap intervals.

One estimator everywhere, the plain mean: the difference of two agents is then the difference of their scores. A trimmed mean
(Agarwal et al. 2021, arXiv 2108.13264) leaves out two of five seeds, those that tell whether an agent is reliable.

What varies between runs of an agent is the seed. With five seeds a percentile bootstrap covers the truth some 80 times of a
hundred instead of 95; the t interval does where seeds scatter about normally. :func:`paired_difference` resamples the tasks
instead, for the other question: would it hold on other passages?
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
FEW = 5  # seeds up to which each one is shown, and readers are warned


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; ``low`` and ``high`` are None where nothing can be resampled."""

    value: float
    low: float | None = None
    high: float | None = None


def estimate(scores: ArrayLike, limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Mean over seeds, and Student's t interval, which is as wide as a few seeds deserve.

    Args:
        scores: ``(seeds,)``.
        limits: what no mean can exceed, such as ``(0, 1)`` of a share; the interval ends there.

    Raises:
        ValueError: another shape, or no seed.
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
    return Estimate(value, *_bootstrap([ours, theirs], _superiority, seed))


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
    return Estimate(value, *_bootstrap([difference], np.mean, seed))


def mean_interval(scores: ArrayLike, seed: int = 0) -> Estimate:
    """Mean of ``scores``, ``(tasks,)``, with the bootstrap interval of :func:`paired_difference`."""
    return paired_difference(scores, np.zeros(np.shape(scores)), seed)


def _bootstrap(samples: Sequence[NDArray[np.float64]], statistic: Callable[..., Any], seed: int) -> tuple[float, float]:
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=2_000,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _superiority(better: NDArray[np.float64], worse: NDArray[np.float64], axis: int) -> Any:
    """``axis`` is the last one."""
    one, other = better[..., :, None], worse[..., None, :]
    return ((one > other) + 0.5 * (one == other)).mean(axis=(-2, -1))
