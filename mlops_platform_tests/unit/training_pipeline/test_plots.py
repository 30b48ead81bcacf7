"""The curves against scikit-learn's, and the plots as files: sizes, sameness, texts that are no formulas."""

from __future__ import annotations

import struct
import sys
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from mlops_platform.training_pipeline.plots import CURVE_POINTS, curve, effects_plot, held_out_plots
from mlops_platform.training_pipeline.shap_summary import FeatureEffect, FeatureEffects

NAMES = {"roc", "precision_recall", "cumulative_gain", "calibration", "confusion_matrix", "score_histogram"}


def scored(rows: int, *, decimals: int = 9) -> tuple[Any, Any]:
    draw = np.random.default_rng(5)
    probabilities = draw.beta(2, 3, rows).round(decimals)
    return (draw.random(rows) < probabilities).astype(int), probabilities


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


class TestCurve:
    @pytest.mark.parametrize("decimals", [9, 1])
    def test_is_scikit_learns(self, decimals: int) -> None:
        labels, scores = scored(300, decimals=decimals)
        found = curve(labels, scores)
        false_positives, true_positives, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
        assert found.false_positive_rate == pytest.approx(false_positives)
        assert found.recall == pytest.approx(true_positives)
        precision, recall, _ = metrics.precision_recall_curve(labels, scores)
        assert found.hits[1:] / found.taken[1:] == pytest.approx(precision[-2::-1])
        assert found.recall[1:] == pytest.approx(recall[-2::-1])
        assert found.roc_auc == pytest.approx(metrics.roc_auc_score(labels, scores))
        assert found.pr_auc == pytest.approx(metrics.average_precision_score(labels, scores))

    def test_a_million_rows_are_thinned_and_keep_their_ends_and_areas(self) -> None:
        labels, scores = scored(1_000_000)
        found = curve(labels, scores)
        assert len(found.taken) == CURVE_POINTS
        assert (found.taken[0], found.taken[-1], found.hits[-1]) == (0, 1_000_000, labels.sum())
        assert found.roc_auc == pytest.approx(metrics.roc_auc_score(labels, scores))
        assert metrics.auc(found.false_positive_rate, found.recall) == pytest.approx(found.roc_auc, abs=1e-4)


class TestHeldOutPlots:
    def test_every_plot_is_a_file_of_its_own(self) -> None:
        labels, probabilities = scored(500)
        found = held_out_plots(labels, probabilities, 0.4, {"recency": labels.astype(float)}, subtitle="test rows")
        assert set(found) == NAMES
        assert {size_of(png) for png in found.values()} == {(704, 528)}
        assert len(set(found.values())) == len(NAMES)

    def test_baselines_stand_where_the_order_counts(self) -> None:
        labels, probabilities = scored(500)
        alone = held_out_plots(labels, probabilities, 0.4, subtitle="test rows")
        beside = held_out_plots(labels, probabilities, 0.4, {"recency": 1 - probabilities}, subtitle="test rows")
        changed = {name for name in NAMES if alone[name] != beside[name]}
        assert changed == {"roc", "precision_recall", "cumulative_gain"}

    def test_the_same_rows_give_the_same_files(self) -> None:
        labels, probabilities = scored(200)
        first, second = (held_out_plots(labels, probabilities, 0.4, subtitle="test rows") for _ in range(2))
        assert first == second

    def test_extreme_rows_are_drawn(self) -> None:
        # One score for all, at an edge; nobody predicted to churn; a name that would be half a formula.
        found = held_out_plots(np.array([0, 1]), np.array([1.0, 1.0]), 1.5, subtitle=r"customers of $\frac{")
        assert set(found) == NAMES

    def test_pyplot_is_left_alone(self) -> None:
        labels, probabilities = scored(100)
        held_out_plots(labels, probabilities, 0.4, subtitle="test rows")
        pyplot = sys.modules.get("matplotlib.pyplot")
        assert pyplot is None or pyplot.get_fignums() == []


class TestEffectsPlot:
    def test_grows_with_the_features_up_to_twenty(self) -> None:
        def height(features: int) -> int:
            effects = tuple(FeatureEffect(f"feature_{n}", float(n), "up") for n in range(features))
            return size_of(effects_plot(FeatureEffects(effects, "mean |SHAP value|", 10), subtitle="test rows"))[1]

        assert height(3) < height(20) == height(40)

    def test_importance_without_direction_is_drawn(self) -> None:
        effects = FeatureEffects((FeatureEffect("a$b", 0.1), FeatureEffect("b", -0.01)), "ROC-AUC lost", 10)
        assert size_of(effects_plot(effects, subtitle="test rows"))[0] == 704
