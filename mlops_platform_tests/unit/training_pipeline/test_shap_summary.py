"""Contributions add up to the model's own log-odds; features that matter come first, in the right direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.training_pipeline.calibration import CalibratedClassifier, log_odds
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.shap_summary import MAX_ROWS, contributions, feature_effects

FEATURES = ["days_since_last_transaction", "total_transactions_90d", "tenure_days", "preferred_category"]
QUICK = {
    "xgboost": {"n_estimators": 30},
    "random_forest": {"n_estimators": 20},
    "average": {"xgboost__n_estimators": 20},
    "logistic_regression": {},
}


def customers(rows: int = 1200) -> tuple[pa.Table, Any]:
    """Churn rises with days since the last purchase, falls with purchases, is high for books; tenure is noise."""
    draw = np.random.default_rng(3)
    days, purchases, tenure = draw.integers(0, 90, rows), draw.integers(0, 20, rows), draw.integers(0, 900, rows)
    category = draw.choice(["books", "toys", "unknown"], rows)
    odds = 0.08 * (days - 45) - 0.15 * (purchases - 10) + 1.5 * (category == "books")
    labels = (draw.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    return pa.table(dict(zip(FEATURES, (days, purchases, tenure, category), strict=True))), labels


def fitted(model_type: str, *, is_calibrated: bool = True) -> Any:
    rows, labels = customers()
    model = make_model(model_type, QUICK[model_type]).set_params(features__features=FEATURES).fit(rows, labels)
    if not is_calibrated:
        return model
    corrected = CalibratedClassifier(model["classifier"]).fit(model["features"].transform(rows), labels)
    assert corrected.slope_ != 1.0
    return Pipeline([("features", model["features"]), ("classifier", corrected)])


class TestContributions:
    @pytest.mark.parametrize("is_calibrated", [True, False])
    @pytest.mark.parametrize("model_type", ["xgboost", "logistic_regression"])
    def test_add_up_to_the_log_odds(self, model_type: str, is_calibrated: bool) -> None:
        model = fitted(model_type, is_calibrated=is_calibrated)
        rows, _ = customers(200)
        found = contributions(model, rows)
        assert found is not None
        shares, base = found
        assert shares.shape == (200, len(FEATURES))
        assert shares.sum(axis=1) + base == pytest.approx(log_odds(model.predict_proba(rows)[:, 1]), abs=1e-4)

    @pytest.mark.parametrize("model_type", ["random_forest", "average"])
    def test_other_types_have_none(self, model_type: str) -> None:
        assert contributions(fitted(model_type), customers(10)[0]) is None

    def test_a_logistic_model_on_mixed_columns_has_none(self) -> None:
        rows, labels = customers(100)
        mixed = Pipeline([("mix", PCA(2)), ("logistic", LogisticRegression())])
        model = Pipeline([("features", FeatureTransformer(FEATURES)), ("classifier", mixed)]).fit(rows, labels)
        assert contributions(model, rows) is None


class TestFeatureEffects:
    @pytest.mark.parametrize("model_type", list(QUICK))
    def test_what_drives_churn_comes_before_noise(self, model_type: str) -> None:
        found = feature_effects(fitted(model_type), *customers())
        ranked = [effect.feature for effect in found.ranked()]
        assert ranked[0] == "days_since_last_transaction"
        assert ranked[-1] == "tenure_days"

    @pytest.mark.parametrize("model_type", ["xgboost", "logistic_regression"])
    def test_direction(self, model_type: str) -> None:
        found = {each.feature: each.direction for each in feature_effects(fitted(model_type), *customers()).effects}
        assert found["days_since_last_transaction"] == "up"
        assert found["total_transactions_90d"] == "down"
        assert found["preferred_category"] is None

    def test_a_feature_of_one_value_has_no_direction(self) -> None:
        rows, labels = customers()
        constant = rows.set_column(2, "tenure_days", pa.array(np.zeros(rows.num_rows)))
        found = {each.feature: each for each in feature_effects(fitted("xgboost"), constant, labels).effects}
        assert found["tenure_days"].direction is None

    def test_each_says_what_it_measures(self) -> None:
        rows, labels = customers()
        assert feature_effects(fitted("xgboost"), rows, labels).measure.startswith("mean |SHAP value|")
        assert feature_effects(fitted("random_forest"), rows, labels).measure.startswith("permutation importance")

    @pytest.mark.parametrize("model_type", ["xgboost", "random_forest"])
    def test_many_rows_are_sampled_the_same_way_each_time(self, model_type: str) -> None:
        rows, labels = customers(6000)
        model = fitted(model_type)
        found = feature_effects(model, rows, labels)
        assert found.rows == MAX_ROWS
        assert found == feature_effects(model, rows, labels)

    def test_a_rare_class_is_in_the_sample_for_shuffling(self) -> None:
        rows, _ = customers(6000)
        labels = np.zeros(6000, dtype=int)
        labels[0] = 1
        assert feature_effects(fitted("random_forest"), rows, labels).rows == MAX_ROWS // 2 + 1
