"""The model types: what they refuse, and that documented hyperparameters reach the trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.contracts.table import ColumnType
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.training_pipeline.models import MODEL_TYPES, code_digest, make_model

DOCUMENTED = {"n_estimators": 100, "max_depth": 10, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def rows() -> tuple[pa.Table, Any]:
    """400 rows of every feature, and labels that depend on two of them."""
    rng = np.random.default_rng(3)
    columns = {
        f.name: rng.choice(["a", "b", "c"], 400).tolist() if f.column.type is ColumnType.STRING else rng.random(400)
        for f in STANDARD.features
    }
    chance = 0.1 + 0.8 * np.asarray(columns["churn_score"]) * (np.array(columns["preferred_category"]) != "a")
    return pa.table(columns), (rng.random(400) < chance).astype(int)


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'prophet' is no model type.*xgboost"):
        make_model("prophet")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_an_unknown_hyperparameter_is_refused_with_the_known_ones(model_type: str) -> None:
    with pytest.raises(InputError, match=r"no hyperparameter depth, n_tree\. Expected: .*max_depth"):
        make_model(model_type, {"n_tree": 5, "depth": 3, "max_depth": 2})


def test_documented_hyperparameters_are_honoured(rows: tuple[pa.Table, Any]) -> None:
    model = make_model("xgboost", DOCUMENTED)
    found = model["classifier"].get_params()
    assert {name: found[name] for name in DOCUMENTED} == DOCUMENTED
    assert found["subsample"] == make_model()["classifier"].get_params()["subsample"]
    booster = model.fit(*rows)["classifier"].get_booster()
    assert booster.num_boosted_rounds() == 100
    assert '"max_depth":"10"' in booster.save_config().replace(" ", "")


def test_the_default_is_shallow_and_regularised() -> None:
    found = make_model()["classifier"].get_params()
    assert (found["max_depth"], found["min_child_weight"]) == (3, 20)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_model_is_a_pipeline_that_takes_rows_and_repeats_itself(model_type: str, rows: tuple[pa.Table, Any]) -> None:
    first, second = (make_model(model_type).fit(*rows) for _ in range(2))
    assert isinstance(first["features"], FeatureTransformer)
    probabilities = first.predict_proba(rows[0])
    assert probabilities.shape == (400, 2)
    assert np.array_equal(probabilities, second.predict_proba(rows[0]))
    assert first.predict_proba(rows[0].slice(0, 0)).shape == (0, 2)


def test_the_hyperparameters_given_are_not_changed() -> None:
    given = dict(DOCUMENTED)
    make_model("xgboost", given)
    assert given == DOCUMENTED


def test_the_code_has_one_digest() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 16
