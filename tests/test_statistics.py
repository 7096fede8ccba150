"""The report's statistics, beside SciPy, rliable and counting everything out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics import Estimate, estimate, improvement, interquartile_mean, paired_difference

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (7,), (10, 26)])
def test_the_interquartile_mean_is_that_of_the_middle_half(shape):
    scores = RNG.random(shape)
    ordered = sorted(scores.ravel().tolist())
    cut = len(ordered) // 4
    assert interquartile_mean(scores) == pytest.approx(np.mean(ordered[cut : len(ordered) - cut]), abs=1e-12)


def test_intervals_are_those_of_all_resamples():
    scores = RNG.random(5)
    resampled = [interquartile_mean(chosen) for chosen in itertools.product(scores, repeat=5)]
    found = estimate(scores)
    assert found.value == interquartile_mean(scores)
    assert np.allclose([found.low, found.high], np.percentile(resampled, [2.5, 97.5]), atol=0.02)


def test_the_interval_of_three_seeds_is_their_range():
    for scores in ([0.2, 0.5, 0.3], [0.1, 0.1, 0.9]):
        found = estimate(scores)
        assert (found.low, found.high) == pytest.approx((min(scores), max(scores)), abs=1e-12)


def test_the_seeds_of_each_environment_are_resampled_by_themselves():
    far = np.stack([RNG.random(8) * 0.1, 10 + RNG.random(8) * 0.1], axis=1)  # shuffled together, intervals would be wide
    found = estimate(far)
    assert found.low > 4 and found.high < 6.1


def test_intervals_are_those_of_rliables_resampling():
    scores = RNG.random((10, 6))
    chosen = RNG.integers(0, 10, (10_000, 10, 6))  # as its StratifiedBootstrap draws: runs, anew for each environment
    resampled = [interquartile_mean(scores[rows, np.arange(6)]) for rows in chosen]
    found = estimate(scores)
    assert np.allclose([found.low, found.high], np.percentile(resampled, [2.5, 97.5]), atol=0.01)


def test_figures_are_those_of_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    scores = RNG.random((10, 6))
    assert interquartile_mean(scores) == pytest.approx(metrics.aggregate_iqm(scores), abs=1e-12)
    ours, theirs = scores[:, :1].round(1), scores[:7, 1:2].round(1)
    expected = float(metrics.probability_of_improvement(ours, theirs))
    assert improvement(ours[:, 0], theirs[:, 0]).value == pytest.approx(expected, abs=1e-12)


def test_one_seed_has_no_interval():
    assert estimate([0.4]) == Estimate(0.4)
    assert improvement([0.4], [0.1, 0.2]) == Estimate(1.0)


def test_equal_input_gives_equal_intervals_and_constant_scores_are_certain():
    scores = RNG.random(6)
    assert estimate(scores, seed=3) == estimate(scores, seed=3)
    assert estimate([0.5] * 4) == Estimate(0.5, 0.5, 0.5)
    assert improvement([0.5] * 3, [0.5] * 3) == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize("sizes", [(3, 3), (5, 2), (10, 10)])
def test_improvement_is_mann_whitneys_u(sizes):
    ours, theirs = (RNG.integers(0, 6, size) / 5 for size in sizes)  # with ties
    found = improvement(ours, theirs)
    u = stats.mannwhitneyu(ours, theirs, method="asymptotic").statistic
    assert found.value == pytest.approx(u / np.prod(sizes), abs=1e-12)
    assert found.value + improvement(theirs, ours).value == pytest.approx(1, abs=1e-12)
    assert found.low <= found.value <= found.high


def test_differences_are_paired_over_tasks():
    hard = RNG.random(200)  # tasks differ far more than agents do
    found = paired_difference(hard + 0.05 + 0.01 * RNG.standard_normal(200), hard)
    assert found.value == pytest.approx(0.05, abs=0.005)
    error = stats.sem(np.full(200, 0.01)) + 0.01 / np.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_scores_of_another_shape_are_named():
    for shape in ((0,), (2, 3, 4)):
        with pytest.raises(ValueError, match="scores are"):
            estimate(np.zeros(shape))
