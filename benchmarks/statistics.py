"""Few runs, honest figures: interquartile means with bootstrap intervals, after Agarwal et al. 2021 (arXiv 2108.13264).

What varies between runs of an agent is the seed, so whole seeds are resampled, within each stratum (an environment), as
rliable does. The test passages are no strata: one trained policy writes for all of them, and to resample them one by one would
take a hundred passages for a hundred runs. :func:`paired_difference` resamples the passages instead, for the other question:
would it hold on other passages?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEW = 5  # seeds; with fewer, an interval says little (with three it is their range)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; ``low`` and ``high`` are None where nothing can be resampled."""

    value: float
    low: float | None = None
    high: float | None = None


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all ``scores``, of any shape; of fewer than four it is the mean."""
    return float(stats.trim_mean(np.asarray(scores, float), 0.25, axis=None))


def estimate(scores: ArrayLike, seed: int = 0) -> Estimate:
    """Interquartile mean and stratified bootstrap interval (percentile).

    Args:
        scores: ``(seeds,)``, or ``(seeds, strata)`` for several environments; the seeds of each are resampled by themselves.
        seed: of the resampling.
    """
    matrix = np.asarray(scores, float)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"scores are (seeds,) or (seeds, strata), got shape {np.shape(scores)}")
    value = interquartile_mean(matrix)
    if len(matrix) < 2:
        return Estimate(value)
    return Estimate(value, *_bootstrap(list(matrix.T), _trimmed, seed))


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


def _trimmed(*strata: NDArray[np.float64], axis: int) -> Any:
    return stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)


def _superiority(better: NDArray[np.float64], worse: NDArray[np.float64], axis: int) -> Any:
    """``axis`` is the last one."""
    one, other = better[..., :, None], worse[..., None, :]
    return ((one > other) + 0.5 * (one == other)).mean(axis=(-2, -1))
