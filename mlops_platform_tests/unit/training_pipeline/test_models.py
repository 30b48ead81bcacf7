"""The model types: what they refuse, that hyperparameters reach them, and that their files hold what was fitted."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io

from mlops_platform.contracts import STANDARD
from mlops_platform.contracts.table import ColumnType
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.training_pipeline.fitting import calibrate
from mlops_platform.training_pipeline.models import (
    MODEL_TYPES,
    TRUSTED_TYPES,
    code_digest,
    hyperparameters_of,
    make_model,
    model_type,
    signed_log,
    use_one_thread,
)

DOCUMENTED = {"n_estimators": 100, "max_depth": 10, "learning_rate": 0.1}
# XGBoost's threads wait for each other in loops that a busy machine does not let end: one is faster here.
_ONE_THREAD = {"n_estimators": 60, "n_jobs": 1}
QUICK = {"xgboost": _ONE_THREAD, "average": {f"xgboost__{name}": value for name, value in _ONE_THREAD.items()}}


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


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("xgboost", "max_depth"),
        ("random_forest", "max_depth"),
        ("logistic_regression", "C"),
        ("average", "xgboost__max_depth"),
    ],
)
def test_an_unknown_hyperparameter_is_refused_with_the_known_ones(kind: str, known: str) -> None:
    with pytest.raises(InputError, match=rf"no hyperparameter depth, n_tree\. Expected: .*\b{known}\b"):
        make_model(kind, {"n_tree": 5, "depth": 3, known: 2})


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("random_forest", {"n_estimators": 7, "max_depth": 2}),
        ("logistic_regression", {"C": 0.01}),
        (
            "average",
            {"xgboost__n_estimators": 7, "xgboost__n_jobs": 1, "logistic_regression__C": 0.01, "weights": [3, 1]},
        ),
    ],
)
def test_hyperparameters_change_the_model(kind: str, given: dict[str, Any], rows: tuple[pa.Table, Any]) -> None:
    model, plain = make_model(kind, given).fit(*rows), make_model(kind, QUICK.get(kind)).fit(*rows)
    found = hyperparameters_of(model["classifier"])
    assert {name: found[name] for name in given} == given
    assert not np.allclose(model.predict_proba(rows[0]), plain.predict_proba(rows[0]))


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


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_a_model_is_a_pipeline_that_takes_rows_and_repeats_itself(kind: str, rows: tuple[pa.Table, Any]) -> None:
    first, second = (make_model(kind, QUICK.get(kind)).fit(*rows) for _ in range(2))
    assert isinstance(first["features"], FeatureTransformer)
    probabilities = first.predict_proba(rows[0])
    assert probabilities.shape == (400, 2)
    assert np.array_equal(probabilities, second.predict_proba(rows[0]))


def test_the_hyperparameters_given_are_not_changed() -> None:
    given = dict(DOCUMENTED)
    make_model("xgboost", given)
    assert given == DOCUMENTED


def test_the_code_has_one_digest() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 16


def calibrated(model: Any, rows: tuple[pa.Table, Any]) -> Any:
    return calibrate(model, rows[0].append_column("churned", pa.array(rows[1])))


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_a_file_holds_what_was_fitted_and_trusted_types_only(kind: str, rows: tuple[pa.Table, Any]) -> None:
    model = calibrated(make_model(kind, QUICK.get(kind)).fit(*rows), rows)
    content = skops.io.dumps(model)
    assert set(skops.io.get_untrusted_types(data=content)) <= set(TRUSTED_TYPES)
    loaded = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
    assert list(loaded.named_steps) == ["features", "classifier"]
    assert np.array_equal(loaded.predict_proba(rows[0]), model.predict_proba(rows[0]))


def test_every_type_that_is_trusted_is_needed(rows: tuple[pa.Table, Any]) -> None:
    needed: set[str] = set()
    for kind in MODEL_TYPES:
        model = calibrated(make_model(kind, QUICK.get(kind)).fit(*rows), rows)
        needed |= set(skops.io.get_untrusted_types(data=skops.io.dumps(model)))
    assert needed == set(TRUSTED_TYPES)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_probabilities_keep_to_the_churn_rate(kind: str, rows: tuple[pa.Table, Any]) -> None:
    rng = np.random.default_rng(5)
    rare = (rng.random(400) < 0.15 * np.asarray(rows[0]["churn_score"])).astype(int)
    mean = make_model(kind, QUICK.get(kind)).fit(rows[0], rare).predict_proba(rows[0])[:, 1].mean()
    # Balanced class weights would give about .5.
    assert mean == pytest.approx(rare.mean(), abs=0.03)


def test_the_average_is_the_mean_of_both(rows: tuple[pa.Table, Any]) -> None:
    kinds = ("xgboost", "logistic_regression")
    parts = [make_model(kind, QUICK.get(kind)).fit(*rows).predict_proba(rows[0]) for kind in kinds]
    found = make_model("average", QUICK["average"]).fit(*rows).predict_proba(rows[0])
    assert np.allclose(found, sum(parts) / 2, atol=1e-12)
    assert not np.allclose(*parts, atol=0.01)


def test_the_logistic_model_scales(rows: tuple[pa.Table, Any]) -> None:
    table, labels = rows
    place = table.column_names.index("churn_score")
    # Its logarithm is linear in it up to 1e-5 here, so only the scale differs.
    tiny, tinier = (
        table.set_column(place, "churn_score", pa.array(np.asarray(table["churn_score"]) * factor))
        for factor in (1e-5, 1e-8)
    )
    found = [make_model("logistic_regression").fit(each, labels).predict_proba(each) for each in (tiny, tinier)]
    assert np.allclose(*found, atol=1e-3)
    assert np.corrcoef(found[0][:, 1], np.asarray(table["churn_score"]))[0, 1] > 0.5


@pytest.mark.parametrize("kind", ["xgboost", "average"])
def test_one_thread_reaches_the_fitted_parts(kind: str, rows: tuple[pa.Table, Any]) -> None:
    place = "xgboost__n_jobs" if kind == "average" else "n_jobs"
    model = calibrated(make_model(kind, {**QUICK[kind], place: 2}).fit(*rows), rows)
    before = model.predict_proba(rows[0])
    use_one_thread(model["classifier"])
    classifier = model["classifier"].classifier
    fitted = classifier.estimators_[0] if kind == "average" else classifier
    assert fitted.n_jobs == 1
    assert np.array_equal(model.predict_proba(rows[0]), before)


def test_signed_log_by_hand() -> None:
    found = signed_log(np.array([[-(np.e - 1), 0.0, np.e - 1]]))
    assert np.allclose(found, [[-1.0, 0.0, 1.0]])


@pytest.fixture
def own_type() -> Iterator[str]:
    """A model type a user has registered."""

    @model_type("own")
    def own() -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=0.5)

    yield "own"
    del MODEL_TYPES["own"]


class TestOwnType:
    def test_it_is_made_like_the_others(self, own_type: str, rows: tuple[pa.Table, Any]) -> None:
        model = make_model(own_type, {"max_iter": 2000})
        assert model["classifier"].get_params()["C"] == 0.5
        assert model["classifier"].get_params()["max_iter"] == 2000
        table = rows[0].select(["churn_score", "recency_score"])
        assert model.fit(table, rows[1]).predict_proba(table).shape == (400, 2)

    def test_a_name_that_is_taken_is_refused(self) -> None:
        with pytest.raises(InputError, match="there is a model type xgboost already"):
            model_type("xgboost")(lambda: None)
        assert make_model("xgboost")["classifier"].get_params()["max_depth"] == 3

    def test_a_cell_that_runs_again_replaces_its_function(self) -> None:
        def cell(regularisation: float) -> None:
            @model_type("again")
            def again() -> Any:
                from sklearn.linear_model import LogisticRegression

                return LogisticRegression(C=regularisation)

        try:
            cell(1.0)
            cell(2.0)
            assert make_model("again")["classifier"].get_params()["C"] == 2.0
        finally:
            del MODEL_TYPES["again"]

    def test_its_code_is_part_of_the_digest(self, own_type: str) -> None:
        assert code_digest(own_type) != code_digest()

    def test_a_function_without_source_is_refused(self) -> None:
        code = (lambda: None).__code__.replace(co_filename="nowhere")
        model_type("bare")(FunctionType(code, {"__name__": "nowhere"}))
        try:
            with pytest.raises(InputError, match="source of model type bare can't be read"):
                code_digest("bare")
        finally:
            del MODEL_TYPES["bare"]
