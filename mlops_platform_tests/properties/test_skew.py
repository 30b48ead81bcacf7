"""Training, batch and service see the same matrix and give the same scores: 10,000 customers, to the last bit.

One way: rows of the feature store as Arrow, scored as a batch. The other: the same rows as JSON text through the
service, from a request's bytes to its answer. Does not belong here: what a matrix is (`unit/feature_pipeline`), HTTP.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from mlops_platform.contracts import Column, ColumnType, FeatureSet
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.feature_pipeline.point_in_time import features_on
from mlops_platform.inference_pipeline.batch import predictions
from mlops_platform.inference_pipeline.current import ServedModel
from mlops_platform.inference_pipeline.predictor import Predictor, Scores
from mlops_platform.inference_pipeline.validation import LARGEST_NUMBER, RowSchema
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.calibration import CalibratedClassifier
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform.training_pipeline.serving_form import load, save, serving_form
from serving.answers import Answerer
from serving.metrics import Metrics
from serving.requests import MAX_BODY_BYTES

CUSTOMERS, A_REQUEST = 10_000, 400
DAY, AT = date(2024, 5, 31), datetime(2024, 6, 1, tzinfo=UTC)
# What texts and floats lose first where they pass through something that does not keep them.
FLOATS = [
    0.0, -0.0, 5e-324, 1.1125369292536007e-308, 2.2250738585072014e-308, 0.1 + 0.2, 1 / 3, 1 - 2**-53, 1.0, 1 + 2**-52,
    9007199254740993.0, 123456789.12345679, 1e22, 1e23, 1.7976931348623157e16, LARGEST_NUMBER,
]  # fmt: skip
TEXTS = [
    "", " ", "unknown", "Unknown", "é", "e\u0301", "ß", "\u202eabc", "日本", "\U0001f6d2", "a\u0000b", "\n", '"', "\\",
    "null", "NaN", "0", "=", "\ufeffbooks", "books", "books ", "x" * 300, *(f"category {n}" for n in range(60)),
]  # fmt: skip


class Recorder(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Stands in the classifier's place: keeps the matrices it is given, and gives every bit of a row a say."""

    def __init__(self) -> None:
        self.seen: list[NDArray[np.float64]] = []

    def fit(self, matrix: Any, labels: Any) -> Recorder:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        self.seen.append(matrix.copy())
        churns = np.array([zlib.crc32(row.tobytes()) / 2**32 for row in matrix])
        return np.column_stack([1 - churns, churns])

    def taken(self) -> NDArray[np.float64]:
        """All rows since the last time."""
        rows, self.seen = np.vstack(self.seen), []
        return rows


def cells(chance: np.random.Generator, column: Column) -> list[Any]:
    """Values that the column's contract allows, its limits and awkward ones among them."""
    if column.isin is not None:
        return [column.isin[n] for n in chance.integers(0, len(column.isin), CUSTOMERS)]
    if column.type is ColumnType.STRING:
        return [TEXTS[n] for n in chance.integers(0, len(TEXTS), CUSTOMERS)]
    low, high = column.ge if column.ge is not None else -5, column.le
    if column.type is ColumnType.INT:
        limit = 2**31 - 1 if high is None else int(high)
        numbers = chance.integers(int(low), limit, CUSTOMERS, endpoint=True)
        return [int(number) for number in np.where(chance.random(CUSTOMERS) < 0.1, limit, numbers)]
    special = np.array([number for number in FLOATS if low <= number <= (LARGEST_NUMBER if high is None else high)])
    some = chance.random(CUSTOMERS) * (high or 10.0 ** chance.integers(-300, 38, CUSTOMERS))
    found: list[float] = np.where(chance.random(CUSTOMERS) < 0.3, chance.choice(special, CUSTOMERS), some).tolist()
    return found


def feature_rows(features: FeatureSet) -> pa.Table:
    chance = np.random.default_rng(20240531)
    found: dict[str, Any] = {column.name: cells(chance, column) for column in features.columns}
    found |= {"customer_id": [f"c{n:05}" for n in range(CUSTOMERS)], "feature_date": [DAY] * CUSTOMERS}
    found |= {"_feature_version": ["v"] * CUSTOMERS, "_created_at": [AT] * CUSTOMERS, "_feature_hash": [""] * CUSTOMERS}
    schema = arrow_schema(features.customer_features)
    return pa.table([pa.array(found[field.name], field.type) for field in schema], schema=schema)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    settings = load_settings(home=tmp_path_factory.mktemp("skew") / "home")
    lake = Lake(settings.model_copy(update={"population_days": None}))
    contract = lake.features.customer_features
    lake.publish(Draft(contract, feature_rows(lake.features), scope=(Condition("feature_date", "=", DAY),)))
    return lake


@pytest.fixture(scope="module")
def predictor(lake: Lake) -> Predictor:
    """Fitted on half of the customers, so that some categories of the others are new, and more than are kept."""
    known = features_on(lake.snapshot(lake.features.customer_features), [DAY])
    transformer = FeatureTransformer(features=list(lake.features.names)).fit(known.slice(0, CUSTOMERS // 2))
    assert max(map(len, transformer.categories_.values())) == 50 < len(TEXTS)
    return Predictor(
        model=RegisteredModel("churn", "1", "Production", "run", {}),
        pipeline=Pipeline([("features", transformer), ("classifier", Recorder())]),
        threshold=0.5,
        training_snapshot_id=1,
        feature_names=tuple(transformer.feature_names_in_),
    )


@pytest.fixture(scope="module")
def batch(lake: Lake, predictor: Predictor) -> tuple[list[dict[str, Any]], NDArray[np.float64], Scores]:
    """The store's rows, their matrix and their scores, as a batch has them."""
    rows = features_on(lake.snapshot(lake.features.customer_features), [DAY])
    scores = predictor.score(rows)
    return rows.select(predictor.feature_names).to_pylist(), predictor.pipeline["classifier"].taken(), scores


def service(settings: Settings, predictor: Predictor) -> Answerer:
    served = ServedModel(predictor, RowSchema.of(settings, predictor.feature_names))
    current: Any = SimpleNamespace(served=served, problem=None)
    return Answerer(settings, current, mock.create_autospec(Metrics, instance=True))


def bodies(rows: list[dict[str, Any]]) -> Iterator[bytes]:
    for start in range(0, len(rows), A_REQUEST):
        body = json.dumps({"features": rows[start : start + A_REQUEST]}).encode()
        assert len(body) <= MAX_BODY_BYTES
        yield body


def test_the_rows_hold_what_is_easily_lost(batch: Any) -> None:
    rows, matrix, _ = batch
    values = [value for row in rows for value in row.values()]
    floats = np.array([value for value in values if isinstance(value, float)])
    assert set(FLOATS) <= set(floats.tolist())
    assert np.signbit(floats[floats == 0]).any()
    assert set(TEXTS) <= {value for value in values if isinstance(value, str)}
    assert max(value for value in values if isinstance(value, int)) == 2**31 - 1
    assert len(matrix) == CUSTOMERS == len(np.unique(matrix, axis=0))


def test_the_service_sees_the_batchs_matrix(lake: Lake, predictor: Predictor, batch: Any) -> None:
    rows, matrix, scores = batch
    answerer = service(lake.settings, predictor)
    answers = [json.loads(answerer.predict(body).body) for body in bodies(rows)]
    seen = predictor.pipeline["classifier"].taken()
    assert seen.dtype == matrix.dtype
    assert np.array_equal(seen.view(np.uint64), matrix.view(np.uint64))
    assert [pair[1] for answer in answers for pair in answer["probability"]] == scores.probability.tolist()


def test_so_it_does_one_row_a_request(lake: Lake, predictor: Predictor, batch: Any) -> None:
    rows, matrix, _ = batch
    answerer = service(lake.settings, predictor)
    for row in rows[:1_000]:
        # A client may name the features in any order.
        answerer.predict(json.dumps({"features": dict(reversed(row.items()))}, ensure_ascii=False).encode())
    seen = predictor.pipeline["classifier"].taken()
    assert np.array_equal(seen.view(np.uint64), matrix[:1_000].view(np.uint64))


def test_and_so_does_a_data_frame(predictor: Predictor, lake: Lake, batch: Any) -> None:
    frame = features_on(lake.snapshot(lake.features.customer_features), [DAY]).to_pandas()
    matrix = predictor.pipeline["features"].transform(frame[sorted(frame.columns)])
    assert np.array_equal(matrix.view(np.uint64), batch[1].view(np.uint64))


@pytest.fixture(scope="module")
def boosted(lake: Lake, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A calibrated XGBoost of the rows whose serving form, read from its files, scores."""
    known = features_on(lake.snapshot(lake.features.customer_features), [DAY])
    churned = np.random.default_rng(1).random(CUSTOMERS) < np.clip(known["churn_score"].to_numpy(), 0.1, 0.9)
    features, classifier = predictor.pipeline["features"], make_model("xgboost")["classifier"]
    matrix = features.transform(known)
    calibrated = CalibratedClassifier(classifier.fit(matrix, churned)).fit(matrix, churned)
    pipeline = Pipeline([("features", features), ("classifier", calibrated)])
    folder, form = tmp_path_factory.mktemp("form"), serving_form(pipeline)
    assert form is not None
    save(form, folder)
    made = replace(predictor, pipeline=pipeline, form=load(folder))
    made.use_one_thread()
    return made


@pytest.fixture(scope="module")
def probabilities(lake: Lake, boosted: Predictor) -> NDArray[np.float64]:
    """The store's rows' scores by the Pipeline itself."""
    rows = features_on(lake.snapshot(lake.features.customer_features), [DAY])
    found: NDArray[np.float64] = boosted.pipeline.predict_proba(rows)[:, 1]
    assert len(found) == CUSTOMERS
    assert len(np.unique(found)) > CUSTOMERS // 2
    return found


def test_the_batch_scores_the_pipelines_bits(lake: Lake, boosted: Predictor, probabilities: Any) -> None:
    features = lake.snapshot(lake.features.customer_features)
    draft = predictions(lake.settings, boosted, features, feature_date=DAY, tick=AT, created_at=AT)
    assert boosted.scoring == "booster"
    assert np.array_equal(draft.rows["churn_probability"].to_numpy(), probabilities)


def test_the_service_answers_the_pipelines_bits(lake: Lake, boosted: Predictor, batch: Any, probabilities: Any) -> None:
    rows, answerer = batch[0], service(lake.settings, boosted)
    answers = [json.loads(answerer.predict(body).body) for body in bodies(rows)]
    assert [pair[1] for answer in answers for pair in answer["probability"]] == probabilities.tolist()


def test_and_so_it_does_one_row_a_request(lake: Lake, boosted: Predictor, batch: Any, probabilities: Any) -> None:
    rows, answerer = batch[0][:500], service(lake.settings, boosted)
    answers = [json.loads(answerer.predict(json.dumps({"features": row}).encode()).body) for row in rows]
    assert [answer["probability"][1] for answer in answers] == probabilities[:500].tolist()


def test_contributions_add_up_to_each_answer(boosted: Predictor, batch: Any, probabilities: Any) -> None:
    found = boosted.explain(batch[0])
    assert np.abs(found.base + found.values.sum(axis=1) - found.margins).max() < 1e-6
    assert np.abs(found.margins - np.log(probabilities / (1 - probabilities))).max() < 1e-6
