"""Metrics and DeLong's interval against slow definitions, scikit-learn and simulation."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from mlops_platform.training_pipeline.evaluation import (
    AucDifference,
    auc_difference,
    best_threshold,
    evaluate,
    roc_auc,
)

REPEATABLE = settings(max_examples=100, derandomize=True, database=None, deadline=None)
# Few different values: ties everywhere.
SCORED = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 4), st.floats(0, 1, allow_subnormal=False)), min_size=4, max_size=40
)


def arrays(rows: list[tuple[int, int, float]], *, at_least: int = 2) -> tuple[Any, Any, Any]:
    labels, coarse, fine = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    assume(at_least <= labels.sum() <= len(labels) - at_least)
    return labels.astype(int), coarse, fine


def slow_difference(labels: Any, ours: Any, theirs: Any) -> AucDifference:
    """DeLong, DeLong, Clarke-Pearson 1988: every pair of a positive and a negative, with ½ for a tie."""
    sides = []
    for scores in (ours, theirs):
        positives, negatives = scores[labels == 1], scores[labels == 0]
        pairs = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in negatives] for x in positives])
        sides.append((pairs.mean(), pairs.mean(axis=1), pairs.mean(axis=0)))
    (a, a10, a01), (b, b10, b01) = sides
    m, n = len(a10), len(a01)
    variance = (((a10 - b10) - (a - b)) ** 2).sum() / (m - 1) / m + (((a01 - b01) - (a - b)) ** 2).sum() / (n - 1) / n
    half = 1.96 * math.sqrt(variance)
    return AucDifference(float(a), float(b), float(a - b - half), float(a - b + half))


def f1_at(labels: Any, probabilities: Any, threshold: float) -> Fraction:
    predicted = probabilities >= threshold
    hits = int((predicted & (labels == 1)).sum())
    return Fraction(2 * hits, int(predicted.sum() + labels.sum()))


class TestAucDifference:
    @REPEATABLE
    @given(SCORED)
    def test_both_areas_are_scikit_learns(self, rows: list[tuple[int, int, float]]) -> None:
        labels, coarse, fine = arrays(rows)
        found = auc_difference(labels, coarse, fine)
        assert found.ours == pytest.approx(roc_auc_score(labels, coarse), abs=1e-12)
        assert found.theirs == pytest.approx(roc_auc_score(labels, fine), abs=1e-12)
        assert found.difference == found.ours - found.theirs

    @REPEATABLE
    @given(SCORED)
    def test_the_interval_is_the_one_over_all_pairs(self, rows: list[tuple[int, int, float]]) -> None:
        labels, coarse, fine = arrays(rows)
        found, expected = auc_difference(labels, coarse, fine), slow_difference(labels, coarse, fine)
        # A variance of zero comes out as rounding noise: its root is near 1e-8.
        assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), abs=1e-7)

    @REPEATABLE
    @given(SCORED)
    def test_turned_round_it_is_the_negative(self, rows: list[tuple[int, int, float]]) -> None:
        labels, coarse, fine = arrays(rows)
        one, other = auc_difference(labels, coarse, fine), auc_difference(labels, fine, coarse)
        assert (one.lower, one.upper) == pytest.approx((-other.upper, -other.lower), abs=1e-12)

    def test_scores_of_the_same_order_do_not_differ(self) -> None:
        rng = np.random.default_rng(1)
        labels, scores = rng.integers(0, 2, 500), rng.normal(size=500)
        found = auc_difference(labels, scores, np.exp(scores) * 3)
        assert (found.difference, found.lower, found.upper) == (0.0, 0.0, 0.0)

    def test_95_of_100_intervals_hold_the_true_difference(self) -> None:
        rng = np.random.default_rng(20240630)
        strong, weak, correlation, rounds = 1.2, 0.7, 0.5, 800
        truth = norm.cdf(strong / math.sqrt(2)) - norm.cdf(weak / math.sqrt(2))
        labels = np.array([1] * 80 + [0] * 160)
        held, found_better = 0, 0
        for _ in range(rounds):
            shared, own = rng.normal(size=240), rng.normal(size=(2, 240))
            noise = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
            found = auc_difference(labels, noise[0] + strong * labels, noise[1] + weak * labels)
            held += found.lower <= truth <= found.upper
            found_better += found.lower > 0
        # Two standard errors of a share of 0.95 in 800 rounds are 0.015.
        assert 0.93 <= held / rounds <= 0.97
        assert found_better / rounds > 0.5

    @pytest.mark.parametrize("positives", [1, 30])
    def test_one_row_of_a_class_proves_nothing(self, positives: int) -> None:
        labels = np.array([1] * positives + [0] * (31 - positives))
        rng = np.random.default_rng(2)
        found = auc_difference(labels, rng.random(31), rng.random(31))
        assert found.lower < 0 < found.upper


class TestBestThreshold:
    @REPEATABLE
    @given(SCORED)
    def test_no_threshold_has_a_higher_f1(self, rows: list[tuple[int, int, float]]) -> None:
        labels, coarse, fine = arrays(rows, at_least=1)
        for probabilities in (coarse / 4, fine):
            best = max(f1_at(labels, probabilities, t) for t in probabilities)
            chosen = best_threshold(labels, probabilities)
            assert chosen in probabilities
            assert float(f1_at(labels, probabilities, chosen)) == pytest.approx(float(best), abs=1e-12)

    def test_by_hand(self) -> None:
        labels = np.array([0, 0, 1, 0, 1, 1])
        assert best_threshold(labels, np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == 0.3
        assert best_threshold(labels, np.array([0.1, 0.2, 0.2, 0.4, 0.5, 0.6])) == 0.5


class TestEvaluate:
    def test_by_hand(self) -> None:
        labels, probabilities = np.array([1, 1, 0, 0, 1]), np.array([0.9, 0.5, 0.5, 0.1, 0.2])
        found = evaluate(labels, probabilities, threshold=0.5)
        assert found.as_dict() == pytest.approx(
            {
                "roc_auc": (2 + 1.5 + 1) / 6,
                # Precision at .9, at .5 (two rows at once) and at .2, each a third of the recall.
                "pr_auc": (1 + 2 / 3 + 3 / 4) / 3,
                "accuracy": 3 / 5,
                "precision": 2 / 3,
                "recall": 2 / 3,
                "f1": 2 / 3,
                "brier": (0.01 + 0.25 + 0.25 + 0.01 + 0.64) / 5,
                "log_loss": -(2 * math.log(0.9) + 2 * math.log(0.5) + math.log(0.2)) / 5,
                "threshold": 0.5,
                "churn_rate": 3 / 5,
            }
        )

    def test_nobody_predicted_to_churn(self) -> None:
        found = evaluate(np.array([1, 0]), np.array([0.2, 0.1]), threshold=0.5)
        assert (found.precision, found.recall, found.f1) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("distinct", [2, 7, 10_000])
def test_roc_auc_by_ranks_is_scikit_learns(distinct: int) -> None:
    draw = np.random.default_rng(distinct)
    labels, scores = draw.integers(0, 2, 500), draw.integers(0, distinct, 500).astype(float)
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
