"""Figures from sums against scikit-learn's and against their definitions; how often intervals hold what they should."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from mlops_platform.monitoring.performance_figures import (
    Sums,
    figures,
    roc_auc_bounds,
    sums,
    wilson,
)

Floats = Any
SEGMENTS = np.array(["bronze", "premium", "regular"])


def drawn(rows: int, seed: int = 1) -> tuple[Floats, Floats, Floats, Floats]:
    """Calibrated probabilities with ties, labels drawn from them, predictions by a threshold, segments."""
    draw = np.random.default_rng(seed)
    probabilities = np.round(draw.beta(2, 3, rows), 2)
    labels = (draw.random(rows) < probabilities).astype(int)
    return probabilities, labels, (probabilities >= 0.35).astype(int), SEGMENTS[draw.integers(0, 3, rows)]


def summed(rows: tuple[Floats, Floats, Floats, Floats], *, is_estimate: bool = False) -> dict[str, Sums]:
    """The sums by segment."""
    names = ("churn_probability", "churned", "prediction", "segment")
    table = pa.table(dict(zip(names, rows, strict=True)))
    table = table.append_column("model_name", [["churn"] * len(table)]).append_column(
        "model_version", [["1"] * len(table)]
    )
    with duckdb.connect() as duck:
        duck.register("scored", table)
        return {segment: found for _, _, segment, found in sums(duck, "scored", is_estimate=is_estimate)}


def expected_auc(probabilities: Floats) -> float:
    """The expected area from its definition: over all pairs, a tie counting half."""
    above = probabilities[:, None] > probabilities[None, :]
    order = above + 0.5 * (probabilities[:, None] == probabilities[None, :])
    weight = probabilities[:, None] * (1 - probabilities[None, :])
    return float((weight * order).sum() / weight.sum())


def delong(labels: Floats, scores: Floats) -> tuple[float, float]:
    """DeLong's interval from its definition: the share of pairs in order, of each row."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    order = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    variance = order.mean(axis=1).var(ddof=1) / len(positive) + order.mean(axis=0).var(ddof=1) / len(negative)
    return order.mean() - 1.96 * variance**0.5, order.mean() + 1.96 * variance**0.5


class TestMeasured:
    def test_all_are_scikit_learns_in_every_segment(self) -> None:
        rows = drawn(3000)
        found = summed(rows)
        assert set(found) == {*SEGMENTS, "all"}
        for segment, each in found.items():
            inside = rows[3] == segment if segment != "all" else np.ones(3000, dtype=bool)
            probabilities, labels, predicted = (column[inside] for column in rows[:3])
            cells = figures(each, is_estimate=False)
            assert cells["rows"] == inside.sum()
            assert {name: cells[name] for name in ("churn_rate", "accuracy", "f1", "roc_auc", "brier")} == {
                "churn_rate": pytest.approx(labels.mean()),
                "accuracy": pytest.approx(metrics.accuracy_score(labels, predicted)),
                "f1": pytest.approx(metrics.f1_score(labels, predicted)),
                "roc_auc": pytest.approx(metrics.roc_auc_score(labels, probabilities), rel=1e-12),
                "brier": pytest.approx(metrics.brier_score_loss(labels, probabilities), rel=1e-12),
            }
            assert roc_auc_bounds(each) == pytest.approx(delong(labels, probabilities), rel=1e-9)

    def test_the_order_of_rows_changes_no_bit(self) -> None:
        rows = drawn(5000)
        order = np.random.default_rng(2).permutation(5000)
        for is_estimate in (False, True):
            one, other = (summed(each, is_estimate=is_estimate) for each in (rows, tuple(c[order] for c in rows)))
            assert one == other

    def test_without_a_churned_row_or_a_predicted_one(self) -> None:
        rows = (np.array([0.1, 0.2]), np.array([0, 0]), np.array([0, 0]), np.array(["bronze"] * 2))
        cells = figures(summed(rows)["all"], is_estimate=False)
        assert (cells["f1"], cells["f1_lower"], cells["roc_auc"], cells["roc_auc_lower"]) == (0.0, None, None, None)
        assert (cells["accuracy"], cells["accuracy_upper"]) == (1.0, 1.0)

    @pytest.mark.parametrize("labels", [[0, 0, 0, 1], [0, 0, 1, 1]])
    def test_one_row_of_a_class_or_perfect_order_has_no_interval(self, labels: list[int]) -> None:
        scores = np.array([0.1, 0.2, 0.3, 0.4])
        cells = figures(
            summed((scores, np.array(labels), np.array(labels), SEGMENTS[[0] * 4]))["all"], is_estimate=False
        )
        assert (cells["roc_auc"], cells["roc_auc_lower"], cells["roc_auc_upper"]) == (1.0, None, None)


class TestEstimates:
    def test_they_are_what_the_definitions_give(self) -> None:
        rows = drawn(800)
        probabilities, _, predicted, _ = rows
        cells = figures(summed(rows, is_estimate=True)["all"], is_estimate=True)
        hits, missed = probabilities[predicted == 1].sum(), probabilities[predicted == 0].sum()
        alarms = (1 - probabilities[predicted == 1]).sum()
        assert {name: cells[name] for name in ("churn_rate", "accuracy", "f1", "roc_auc", "brier")} == {
            "churn_rate": pytest.approx(probabilities.mean(), rel=1e-9),
            "accuracy": pytest.approx(1 - (missed + alarms) / 800, rel=1e-9),
            "f1": pytest.approx(2 * hits / (2 * hits + missed + alarms), rel=1e-9),
            "roc_auc": pytest.approx(expected_auc(probabilities), rel=1e-9),
            "brier": pytest.approx((probabilities * (1 - probabilities)).mean(), rel=1e-9),
        }
        assert all(cells[f"{name}_lower"] is None for name in ("accuracy", "f1", "roc_auc"))

    def test_calibrated_probabilities_are_estimated_within_the_interval_measured_later(self) -> None:
        rows = drawn(20_000)
        measured = figures(summed(rows)["all"], is_estimate=False)
        estimated = figures(summed(rows, is_estimate=True)["all"], is_estimate=True)
        for name in ("accuracy", "f1", "roc_auc"):
            assert measured[f"{name}_lower"] < estimated[name] < measured[f"{name}_upper"]

    def test_overconfident_ones_are_overestimated(self) -> None:
        probabilities, labels, predicted, segments = drawn(20_000)
        extreme = np.where(probabilities >= 0.35, 0.95, 0.05)
        measured = figures(summed((extreme, labels, predicted, segments))["all"], is_estimate=False)
        estimated = figures(summed((extreme, labels, predicted, segments), is_estimate=True)["all"], is_estimate=True)
        assert estimated["accuracy"] > measured["accuracy_upper"]


class TestIntervals:
    @pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (4321, 10_000)])
    def test_wilsons_is_scipys(self, hits: int, total: int) -> None:
        theirs = binomtest(hits, total).proportion_ci(method="wilson")
        assert wilson(hits, total) == pytest.approx((theirs.low, theirs.high), abs=1e-4)

    @pytest.mark.parametrize("name", ["accuracy", "f1", "roc_auc"])
    def test_they_hold_the_true_figure_19_times_in_20(self, name: str) -> None:
        truth = figures(by_numpy(drawn(400_000, seed=0)), is_estimate=False)[name]
        found = [figures(by_numpy(drawn(300, seed)), is_estimate=False) for seed in range(1, 501)]
        held = np.mean([each[f"{name}_lower"] <= truth <= each[f"{name}_upper"] for each in found])
        assert 0.925 <= held <= 0.975


def by_numpy(rows: tuple[Floats, Floats, Floats, Floats]) -> Sums:
    """The same sums of labelled rows without DuckDB; scores are multiples of 0.01."""
    probabilities, labels, predicted, _ = rows
    places = np.round(probabilities * 100).astype(int)
    positive, negative = (np.bincount(places, weights=labels == kind, minlength=101) for kind in (1, 0))
    below = 2 * np.cumsum(negative) - negative
    above = 2 * np.cumsum(positive[::-1])[::-1] - positive

    def whole(values: Floats) -> int:
        return int(values.sum())

    return Sums(
        rows=len(labels),
        positive=whole(positive),
        negative=whole(negative),
        true_positive=whole(labels * predicted),
        true_negative=whole((1 - labels) * (1 - predicted)),
        squares=whole((probabilities - labels) ** 2 * 10**15),
        ordered=whole(positive * below),
        squares_below=whole(positive * below**2),
        squares_above=whole(negative * above**2),
    )
