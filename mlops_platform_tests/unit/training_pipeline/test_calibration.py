"""Calibration: what it mends, what it leaves, and that equal rows give equal bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from xgboost import XGBClassifier

from mlops_platform.training_pipeline.calibration import (
    CalibratedClassifier,
    calibrated,
    log_odds,
    margins,
    uncalibrated,
)


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose probability is the matrix's only column."""

    def predict_proba(self, X: Any) -> Any:
        return np.column_stack([1 - X[:, 0], X[:, 0]])


def drawn(n: int = 20_000) -> tuple[Any, Any]:
    """True probabilities and labels drawn from them."""
    draw = np.random.default_rng(3)
    truth = draw.beta(2, 5, n)
    return truth, (draw.random(n) < truth).astype(int)


def test_probabilities_that_are_right_stay() -> None:
    truth, labels = drawn()
    found = CalibratedClassifier(Given()).fit(truth.reshape(-1, 1), labels)
    assert found.slope_ == pytest.approx(1, abs=0.05)
    assert found.intercept_ == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("slope", "intercept"), [(2.5, 0.0), (1.0, 0.8), (0.4, -1.0)])
def test_probabilities_that_are_bent_are_put_right(slope: float, intercept: float) -> None:
    truth, labels = drawn()
    bent = calibrated(log_odds(truth), slope, intercept)
    found = CalibratedClassifier(Given()).fit(bent.reshape(-1, 1), labels).predict_proba(bent.reshape(-1, 1))[:, 1]
    assert np.abs(bent - truth).mean() > 0.05
    assert np.abs(found - truth).mean() < 0.01


def test_the_order_stays_also_where_the_classifier_has_learnt_the_reverse() -> None:
    truth, labels = drawn()
    matrix = (1 - truth).reshape(-1, 1)
    found = CalibratedClassifier(Given()).fit(matrix, labels)
    assert (found.slope_, found.intercept_) == (1.0, 0.0)
    assert np.allclose(found.predict_proba(matrix)[:, 1], matrix[:, 0])


def test_classes_that_are_apart_give_numbers() -> None:
    matrix = np.array([[0.0], [0.0], [1.0], [1.0]])
    found = CalibratedClassifier(Given()).fit(matrix, np.array([0, 0, 1, 1])).predict_proba(matrix)
    assert np.isfinite(found).all()
    assert found[0, 1] < 0.01
    assert found[3, 1] > 0.99


def test_it_predicts_the_likelier() -> None:
    truth, labels = drawn(500)
    found = CalibratedClassifier(Given()).fit(truth.reshape(-1, 1), labels)
    probabilities = found.predict_proba(truth.reshape(-1, 1))
    assert np.array_equal(found.predict(truth.reshape(-1, 1)), (probabilities[:, 1] >= 0.5).astype(int))
    assert np.array_equal(probabilities.sum(axis=1), np.ones(500))


@given(st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=40), st.floats(0.01, 10), st.floats(-5, 5))
@settings(max_examples=100, deadline=None)
def test_alone_a_row_has_the_bits_it_has_among_others(values: list[float], slope: float, intercept: float) -> None:
    together = calibrated(np.array(values), slope, intercept)
    alone = [calibrated(np.array([value]), slope, intercept)[0] for value in values]
    assert np.array_equal(together, np.array(alone))


@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=2, max_size=40), st.floats(0.01, 10), st.floats(-5, 5))
@settings(max_examples=100, deadline=None)
def test_no_pair_changes_its_order(values: list[float], slope: float, intercept: float) -> None:
    found = calibrated(log_odds(np.sort(values)), slope, intercept)
    assert (np.diff(found) >= 0).all()


def test_log_odds_by_hand() -> None:
    assert log_odds(np.array([0.5, 0.75])).tolist() == pytest.approx([0.0, np.log(3)])
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_margins_are_xgboosts_own_or_the_log_odds_of_a_probability() -> None:
    draw = np.random.default_rng(1)
    matrix, labels = draw.random((300, 3)), draw.integers(0, 2, 300)
    trees = XGBClassifier(n_estimators=5, max_depth=2).fit(matrix, labels)
    assert np.array_equal(margins(trees, matrix), trees.get_booster().inplace_predict(matrix, predict_type="margin"))
    assert np.allclose(margins(trees, matrix), log_odds(trees.predict_proba(matrix)[:, 1]), atol=1e-5)
    assert margins(Given(), np.array([[0.75]])).tolist() == pytest.approx([np.log(3)])


def test_the_classifier_inside_is_found() -> None:
    inside = Given()
    assert uncalibrated(CalibratedClassifier(inside)) is inside
    assert uncalibrated(inside) is inside


def test_the_level_is_that_of_the_recent_rows_and_the_slope_that_of_all() -> None:
    truth, labels = drawn()
    recent = np.arange(len(truth)) % 4 == 0
    known = calibrated(log_odds(truth), 0.5, np.where(recent, -0.6, 0.4)).reshape(-1, 1)
    found = CalibratedClassifier(Given()).fit(known, labels, recent)
    assert found.slope_ == pytest.approx(2, abs=0.1)
    assert np.abs(found.predict_proba(known[recent])[:, 1] - truth[recent]).mean() < 0.02
