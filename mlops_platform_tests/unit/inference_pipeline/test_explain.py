"""Contributions: they add up to the log-odds of the answered probability, and are the ones the definition gives."""

from __future__ import annotations

import copy
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
from xgboost import XGBClassifier

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import InputError, ModelError
from mlops_platform.inference_pipeline.explain import explain
from mlops_platform.training_pipeline.models import make_model
from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import fitted
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

MODELS = ("xgboost", "logistic_regression")


@pytest.fixture(scope="module")
def rows(shop: Shop) -> Any:
    return shop.training.to_arrow(order_by=("feature_date", "customer_id"))


@pytest.fixture(scope="module", params=MODELS)
def pipeline(shop: Shop, request: pytest.FixtureRequest) -> Any:
    return fitted(shop, request.param)


def test_they_add_up_to_the_log_odds_of_the_answer(pipeline: Any, rows: Any) -> None:
    found = explain(pipeline, rows)
    probability = pipeline.predict_proba(rows)[:, 1]
    assert found.values.shape == (rows.num_rows, len(STANDARD.names))
    assert np.abs(found.base + found.values.sum(axis=1) - found.margins).max() < 1e-9
    assert np.abs(found.margins - np.log(probability / (1 - probability))).max() < 1e-9
    assert np.ptp(found.values, axis=0).max() > 0.1


def test_they_are_those_of_the_classifier_times_the_slope(shop: Shop, rows: Any) -> None:
    pipeline = fitted(shop)
    before = explain(pipeline, rows)
    moved = copy.deepcopy(pipeline)
    moved["classifier"].slope_ *= 2
    moved["classifier"].intercept_ += 3
    after = explain(moved, rows)
    slope, intercept = pipeline["classifier"].slope_, pipeline["classifier"].intercept_
    assert after.values == pytest.approx(2 * before.values, abs=1e-5)
    assert after.base == pytest.approx(2 * (before.base - intercept) + intercept + 3)
    assert slope != 1


def test_one_row_alone_has_the_same_and_any_kind_of_rows_will_do(pipeline: Any, rows: Any) -> None:
    expected = explain(pipeline, rows.slice(0, 20))
    for number, record in enumerate(rows.slice(0, 20).to_pylist()):
        found = explain(pipeline, [record])
        assert found.values[0] == pytest.approx(expected.values[number], abs=1e-9)
        assert found.margins[0] == pytest.approx(expected.margins[number], abs=1e-12)
    assert np.array_equal(explain(pipeline, rows.slice(0, 20).to_pandas()).values, expected.values)


def test_they_are_shapley_values_by_the_definition(rows: Any) -> None:
    """Against Shapley's own sum over all subsets, each valued by the trees' weighted mean over what is left open."""
    names = ["days_since_last_transaction", "preferred_category", "tenure_days"]
    model = make_model("xgboost", {"n_estimators": 4, "max_depth": 3, "min_child_weight": 1, "subsample": 1.0})
    pipeline = model.set_params(features__features=names).fit(rows, rows["churned"].to_numpy())
    found = explain(pipeline, rows.slice(0, 6))
    booster = pipeline["classifier"].get_booster()
    trees = [tree for _, tree in booster.trees_to_dataframe().groupby("Tree")]
    columns = pipeline["features"].get_feature_names_out()
    matrix = pipeline["features"].transform(rows.slice(0, 6)).astype(np.float32)
    players = range(len(columns))

    def value(tree: Any, node: str, row: Any, known: frozenset[int]) -> float:
        at = tree.loc[node]
        if at["Feature"] == "Leaf":
            return float(at["Gain"])
        column = int(at["Feature"].removeprefix("f"))
        if column in known:
            return value(tree, at["Yes"] if row[column] < np.float32(at["Split"]) else at["No"], row, known)
        covers = {child: tree.loc[child]["Cover"] for child in (at["Yes"], at["No"])}
        return sum(value(tree, child, row, known) * cover / sum(covers.values()) for child, cover in covers.items())

    def of(row: Any, known: frozenset[int]) -> float:
        return sum(value(tree, tree.index[0], row, known) for tree in indexed)

    indexed = [tree.set_index("ID") for tree in trees]
    used = sorted({int(f[1:]) for tree in trees for f in tree["Feature"] if f != "Leaf"})
    assert 2 <= len(used) <= 5
    assert set(used) <= set(players)
    for number, row in enumerate(matrix):
        by_column = np.zeros(len(columns))
        for player in used:
            others = [each for each in used if each != player]
            for size in range(len(others) + 1):
                weight = factorial(size) * factorial(len(others) - size) / factorial(len(used))
                for chosen in combinations(others, size):
                    known = frozenset(chosen)
                    by_column[player] += weight * (of(row, known | {player}) - of(row, known))
        by_feature = [
            sum(by_column[place] for place, column in enumerate(columns) if column.partition("=")[0] == name)
            for name in names
        ]
        assert found.values[number] == pytest.approx(by_feature, abs=1e-5)


def test_a_probability_that_rounds_to_one_has_finite_contributions(shop: Shop, rows: Any) -> None:
    pipeline = copy.deepcopy(fitted(shop))
    pipeline["classifier"].slope_ = 1_000.0
    assert pipeline.predict_proba(rows)[:, 1].max() == 1.0
    found = explain(pipeline, rows)
    assert np.isfinite(found.values).all()
    assert np.isfinite(found.margins).all()


@pytest.mark.parametrize("model_type", ["random_forest", "average"])
def test_a_type_without_them_is_refused(rows: Any, model_type: str) -> None:
    model = make_model(model_type).fit(rows, rows["churned"].to_numpy())
    with pytest.raises(ModelError, match="has no exact contributions"):
        explain(model, rows.slice(0, 2))


def test_no_row_is_a_mistake(shop: Shop, rows: Any) -> None:
    with pytest.raises(InputError, match="no rows to explain"):
        explain(fitted(shop), rows.slice(0, 0))


def test_a_model_that_has_learnt_nothing_is_its_base(rows: Any) -> None:
    model = make_model("xgboost", {"n_estimators": 1, "min_child_weight": 1e9}).fit(rows, rows["churned"].to_numpy())
    assert isinstance(model["classifier"], XGBClassifier)
    found = explain(model, rows.slice(0, 3))
    assert np.abs(found.values).max() < 1e-6
    assert found.base + found.values.sum(axis=1) == pytest.approx(found.margins, abs=1e-9)
