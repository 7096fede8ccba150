"""The report's statistics, beside SciPy, rliable and counting everything out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.reports.intervals import Estimate, estimate, improvement, paired_difference

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
def test_a_score_is_the_mean_with_students_interval(seeds):
    scores = RNG.random(seeds)
    interval = estimate(scores)
    assert interval.value == pytest.approx(np.mean(scores), abs=1e-12)
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_five_seeds_holds_the_truth_as_often_as_it_says():
    samples = RNG.normal(0.4, 0.05, (2_000, 5))
    inside = [interval.low <= 0.4 <= interval.high for interval in map(estimate, samples)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_the_interval_of_a_share_ends_where_shares_end():
    interval = estimate([0.0, 0.9, 1.0], limits=(0, 1))
    assert (interval.low, interval.high) == (0, 1)


def test_figures_are_those_of_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    scores = RNG.random((10, 1))
    assert estimate(scores[:, 0]).value == pytest.approx(metrics.aggregate_mean(scores), abs=1e-12)
    ours, theirs = scores.round(1), RNG.random((7, 1)).round(1)
    expected = float(metrics.probability_of_improvement(ours, theirs))
    assert improvement(ours[:, 0], theirs[:, 0]).value == pytest.approx(expected, abs=1e-12)


def test_one_seed_has_no_interval():
    assert estimate([0.4]) == Estimate(0.4)
    assert improvement([0.4], [0.1, 0.2]) == Estimate(1.0)


def test_equal_input_gives_equal_intervals_and_constant_scores_are_certain():
    scores = RNG.random(6)
    assert improvement(scores, scores[:3], seed=3) == improvement(scores, scores[:3], seed=3)
    assert estimate([0.5] * 4) == Estimate(0.5, 0.5, 0.5)
    assert improvement([0.5] * 3, [0.5] * 3) == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize("sizes", [(3, 3), (5, 2), (10, 10)])
def test_improvement_is_mann_whitneys_u(sizes):
    ours, theirs = (RNG.integers(0, 6, size) / 5 for size in sizes)  # with ties
    interval = improvement(ours, theirs)
    u = stats.mannwhitneyu(ours, theirs, method="asymptotic").statistic
    assert interval.value == pytest.approx(u / np.prod(sizes), abs=1e-12)
    assert interval.value + improvement(theirs, ours).value == pytest.approx(1, abs=1e-12)
    assert interval.low <= interval.value <= interval.high


def test_differences_are_paired_over_tasks():
    hard = RNG.random(200)  # tasks differ far more than agents do
    interval = paired_difference(hard + 0.05 + 0.01 * RNG.standard_normal(200), hard)
    assert interval.value == pytest.approx(0.05, abs=0.005)
    error = stats.sem(np.full(200, 0.01)) + 0.01 / np.sqrt(200)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_scores_of_another_shape_are_named():
    for shape in ((0,), (2, 3)):
        with pytest.raises(ValueError, match="scores must be"):
            estimate(np.zeros(shape))
