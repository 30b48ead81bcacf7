"""The serving form on the shop's rows: the Pipeline's bits from files that hold no code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import ModelError
from mlops_platform.training_pipeline.few_rows import FEW_ROWS
from mlops_platform.training_pipeline.fitting import FittedModel, fit
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.serving_form import is_equal, load, save, serving_form
from mlops_platform_tests.unit.training_pipeline.worlds import Shop


@pytest.fixture(scope="module")
def rows(shop: Shop) -> Any:
    return shop.training.to_arrow(order_by=("feature_date", "customer_id"))


@pytest.fixture(scope="module")
def fitted(rows: Any) -> FittedModel:
    model = make_model("xgboost", {"n_estimators": 20, "min_child_weight": 1})
    return fit(model.set_params(features__features=list(STANDARD.names)), rows)


@pytest.fixture
def files(fitted: FittedModel, tmp_path: Path) -> Path:
    form = serving_form(fitted.pipeline)
    assert form is not None
    save(form, tmp_path)
    return tmp_path


def test_read_again_it_gives_the_pipelines_bits(files: Path, fitted: FittedModel, rows: Any) -> None:
    form = load(files)
    assert is_equal(form, fitted.pipeline, rows)
    one = [{**rows.slice(3, 1).to_pylist()[0], "preferred_category": "never seen", "churn_score": None}]
    assert np.array_equal(form.churn_probability(one), fitted.pipeline.predict_proba(one)[:, 1])


@pytest.mark.parametrize("count", [0, 1, 2, FEW_ROWS, FEW_ROWS + 1])
def test_few_rows_and_many_have_the_same_bits(files: Path, fitted: FittedModel, rows: Any, count: int) -> None:
    some = rows.slice(0, count)
    assert some.num_rows == count
    assert load(files).churn_probability(some).tolist() == fitted.pipeline.predict_proba(rows)[:count, 1].tolist()


def test_a_version_from_before_there_was_a_form_for_few_rows(files: Path, fitted: FittedModel, rows: Any) -> None:
    (files / "trees.onnx").unlink()
    form = load(files)
    assert form.few_rows is None
    assert is_equal(form, fitted.pipeline, rows)


@pytest.mark.parametrize("parameters", [{"base_score": 0.3}, {"booster": "dart"}, {"max_depth": 1, "n_estimators": 1}])
def test_whatever_the_trees_few_rows_have_the_bits_of_many(rows: Any, parameters: dict[str, Any]) -> None:
    model = make_model("xgboost", {"n_estimators": 20, "min_child_weight": 1} | parameters)
    pipeline = fit(model.set_params(features__features=list(STANDARD.names)), rows).pipeline
    form = serving_form(pipeline)
    assert form is not None
    assert is_equal(form, pipeline, rows)


def test_other_trees_for_few_rows_are_noticed(fitted: FittedModel, rows: Any) -> None:
    form = serving_form(fitted.pipeline)
    other = serving_form(fit(make_model("xgboost", {"n_estimators": 19, "min_child_weight": 1}), rows).pipeline)
    assert form is not None and other is not None
    assert not is_equal(replace(form, few_rows=other.few_rows), fitted.pipeline, rows)


def test_a_difference_is_noticed(fitted: FittedModel, rows: Any) -> None:
    form = serving_form(fitted.pipeline)
    assert form is not None
    other = replace(form, intercept=np.nextafter(form.intercept, 9))
    assert not is_equal(other, fitted.pipeline, rows)


def test_the_declarations_can_be_read_by_a_person(files: Path) -> None:
    declared = json.loads((files / "model.json").read_text())
    assert [each["name"] for each in declared["features"]] == list(STANDARD.names)
    assert {"kind": "numeric", "name": "total_transactions_7d", "median": 0.0} in declared["features"]


def test_another_type_has_none(rows: Any) -> None:
    model = make_model("logistic_regression").set_params(features__features=list(STANDARD.names))
    assert serving_form(fit(model, rows).pipeline) is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("booster.ubj", "model.json") for damage in ("missing", "cut", "empty")),
        ("trees.onnx", "cut"),
        ("trees.onnx", "empty"),
    ],
)
def test_a_damaged_file_is_refused(files: Path, name: str, damage: str) -> None:
    content = (files / name).read_bytes()
    (files / name).unlink()
    if damage != "missing":
        (files / name).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(ModelError, match="can't be read"):
        load(files)


def test_another_format_is_refused(files: Path) -> None:
    declared = json.loads((files / "model.json").read_text())
    (files / "model.json").write_text(json.dumps(declared | {"format": 99}))
    with pytest.raises(ModelError, match=r"format 99\. Expected: format 1"):
        load(files)
