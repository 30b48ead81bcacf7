"""Weighted metrics against scikit-learn's, the bootstrap against the spread it estimates, calibration error by hand."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mlops_platform.errors import NotEnoughDataError
from mlops_platform.training_pipeline.evaluation import evaluate, interval_rows
from mlops_platform.training_pipeline.intervals import bootstrap_intervals, ece, reliability, weighted_metrics

REPEATABLE = settings(max_examples=100, derandomize=True, database=None, deadline=None)
NAMES = ("roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1", "brier", "log_loss")


def scored(rows: int, seed: int = 1) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    probabilities = draw.beta(2, 3, rows)
    return (draw.random(rows) < probabilities).astype(int), probabilities


def by_scikit_learn(labels: Any, probabilities: Any, threshold: float, weight: Any) -> dict[str, float]:
    predicted = (probabilities >= threshold).astype(int)
    given = {"sample_weight": weight}
    return {
        "roc_auc": metrics.roc_auc_score(labels, probabilities, **given),
        "pr_auc": metrics.average_precision_score(labels, probabilities, **given),
        "accuracy": metrics.accuracy_score(labels, predicted, **given),
        "precision": metrics.precision_score(labels, predicted, zero_division=0, **given),
        "recall": metrics.recall_score(labels, predicted, **given),
        "f1": metrics.f1_score(labels, predicted, **given),
        "brier": metrics.brier_score_loss(labels, probabilities, **given),
        "log_loss": metrics.log_loss(labels, probabilities, **given),
    }


class TestWeightedMetrics:
    # Few different probabilities, 0 and 1 among them, and weights of 0: ties and empty groups everywhere.
    @REPEATABLE
    @given(
        st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3)), max_size=30),
        st.integers(0, 4),
        st.sampled_from([np.float64, np.float32]),
    )
    def test_all_are_scikit_learns(self, rows: list[tuple[int, int, int]], threshold: int, kind: type) -> None:
        rows = [(0, 2, 1), (1, 2, 2), *rows]
        labels, score, weight = (np.array(column) for column in zip(*rows, strict=True))
        probabilities: Any = (score / 4).astype(kind)
        found = weighted_metrics(labels, probabilities, threshold / 4, np.stack([weight, np.ones_like(weight)]))
        for place, weights in enumerate((weight, np.ones_like(weight))):
            expected = by_scikit_learn(labels, probabilities, threshold / 4, weights)
            # float32: scikit-learn adds the squares and the logarithms up in it.
            assert {name: values[place] for name, values in found.items()} == pytest.approx(
                expected, rel=1e-5 if kind is np.float32 else 1e-9, abs=1e-6 if kind is np.float32 else 1e-12
            )


class TestBootstrapIntervals:
    def test_every_metric_lies_in_its_interval(self) -> None:
        labels, probabilities = scored(2000)
        found = bootstrap_intervals(labels, probabilities, 0.4)
        assert set(found) == {f"{name}_{side}" for name in NAMES for side in ("lower", "upper")}
        quality = evaluate(labels, probabilities, 0.4).as_dict()
        for name in NAMES:
            assert found[f"{name}_lower"] < quality[name] < found[f"{name}_upper"]

    def test_widths_are_those_of_the_spread_between_samples(self) -> None:
        found = bootstrap_intervals(*scored(1000), 0.4)
        drawn = [evaluate(*scored(1000, seed), 0.4).as_dict() for seed in range(100, 400)]
        for name in NAMES:
            low, high = np.quantile([each[name] for each in drawn], [0.025, 0.975])
            assert found[f"{name}_upper"] - found[f"{name}_lower"] == pytest.approx(high - low, rel=0.25)

    def test_the_same_rows_give_the_same_intervals(self) -> None:
        labels, probabilities = scored(500)
        assert bootstrap_intervals(labels, probabilities, 0.4) == bootstrap_intervals(labels, probabilities, 0.4)

    def test_a_sample_stands_for_a_large_set(self) -> None:
        labels, probabilities = scored(30_000)
        places = interval_rows(30_000)
        found = bootstrap_intervals(labels, probabilities, 0.4, resamples=30)
        assert found == bootstrap_intervals(labels[places], probabilities[places], 0.4, resamples=30)

    def test_resamples_without_a_class_do_not_count(self) -> None:
        labels = np.array([1] + [0] * 9)
        probabilities = np.linspace(0.9, 0.1, 10)
        # A third of the resamples lacks the one churned row; all the others rank it first.
        found = bootstrap_intervals(labels, probabilities, 0.5)
        assert found["roc_auc_lower"] == found["roc_auc_upper"] == found["pr_auc_lower"] == 1.0
        assert found["recall_lower"] == 1.0

    def test_one_class_has_no_intervals(self) -> None:
        with pytest.raises(NotEnoughDataError, match="none of 400 resamples of 3 rows"):
            bootstrap_intervals(np.ones(3, dtype=int), np.array([0.2, 0.4, 0.9]), 0.5)

    def test_nothing_predicted_to_churn_is_a_precision_of_zero(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = bootstrap_intervals(*scored(200), 2.0)
        assert found["precision_lower"] == found["precision_upper"] == found["f1_upper"] == 0.0


class TestEce:
    def test_by_hand(self) -> None:
        labels = np.array([0, 1, 1, 1])
        probabilities = np.array([0.05, 0.15, 0.95, 1.0])
        # Bins 0, 1 and 9: gaps .05, .85 and .025, of 1, 1 and 2 rows.
        assert ece(labels, probabilities) == pytest.approx((0.05 + 0.85 + 2 * 0.025) / 4)

    def test_a_bin_holds_its_lower_edge(self) -> None:
        assert reliability(np.array([0, 1]), np.array([0.5, 0.49]), bins=2).churn_rate.tolist() == [1.0, 0.0]

    def test_empty_bins_are_left_out(self) -> None:
        found = reliability(np.array([0, 1, 1]), np.array([0.0, 0.02, 0.97]))
        assert found.rows.tolist() == [2, 1]
        assert found.mean_probability == pytest.approx([0.01, 0.97])
        assert found.churn_rate == pytest.approx([0.5, 1.0])

    def test_true_probabilities_have_little_and_squeezed_ones_much(self) -> None:
        labels, probabilities = scored(50_000)
        assert ece(labels, probabilities) < 0.01
        assert ece(labels, 0.5 * probabilities) == pytest.approx(probabilities.mean() / 2, abs=0.01)
