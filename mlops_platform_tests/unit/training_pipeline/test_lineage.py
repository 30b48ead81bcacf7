"""Lineage: every step from a prediction to the bronze batches is the one that was really taken."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import ONLINE_PREDICTIONS, PREDICTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline import TrainingPipeline
from mlops_platform.training_pipeline.lineage import (
    BATCH,
    BATCHES,
    FEATURES,
    PREDICTION,
    QUERY_ROWS,
    REQUEST,
    RUN,
    TRAINING_SET,
    TRANSACTIONS,
    VERSION,
    Node,
    lineage,
)
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform.training_pipeline.train import MODEL_HASH_TAG, TRAINING_SNAPSHOT_TAG
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.unit.training_pipeline.traced import Traced, batch_of, ingested_at, open_traced
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF

PREDICTED_AT = datetime(2024, 7, 1, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return open_traced(tmp_path_factory.mktemp("lineage") / "home")


@pytest.fixture(scope="module")
def model(traced: Traced) -> RegisteredModel:
    return traced.serve("traced")


@pytest.fixture(scope="module")
def of_version(traced: Traced, model: RegisteredModel) -> Node:
    return lineage(traced.manager, traced.lake, model.version, model_name=model.name)


def only(node: Node, kind: str) -> Node:
    (found,) = (each for each in node.walk() if each.kind == kind)
    return found


def batches_of(bought: list[Purchase]) -> list[dict[str, Any]]:
    """The batches of some purchases, as lineage names them."""
    rows = Counter(batch_of(p.day) for p in bought)
    instants = {batch_of(p.day): ingested_at(p.day) for p in bought}
    return [{"name": name, "rows": rows[name], "ingested_at": instants[name]} for name in sorted(rows)]


def listed(batches: Node) -> list[dict[str, Any]]:
    assert batches.kind == BATCHES
    assert {each.kind for each in batches.made_from} == {BATCH}
    return [{"name": each.name, **each.facts} for each in batches.made_from]


class TestVersion:
    def test_run_training_set_and_feature_version(
        self, traced: Traced, model: RegisteredModel, of_version: Node
    ) -> None:
        tags = traced.manager.client.get_run(model.run_id).data.tags
        kinds = [node.kind for node in of_version.walk() if node.kind != BATCH]
        assert kinds == [VERSION, RUN, TRAINING_SET, FEATURES, TRANSACTIONS, BATCHES]
        assert of_version.name == "traced 1"
        run, training = only(of_version, RUN), only(of_version, TRAINING_SET)
        assert (run.name, run.facts["model_hash"]) == (model.run_id, tags[MODEL_HASH_TAG])
        assert training.name == f"ml.training_set@{traced.shop.training.snapshot_id}"
        made = traced.lake.properties(traced.lake.features.training_set)
        assert training.facts["rows"] == traced.shop.training.count()
        assert training.facts["as_of"] == AS_OF
        assert str(training.facts["evaluation_date"]) == made["evaluation-date"]
        assert training.facts["training_dates"] == len(made["training-dates"].split(","))
        features = only(of_version, FEATURES)
        assert features.name == f"feature_store.customer_features@{traced.shop.features.snapshot_id}"
        assert features.facts == {"feature_version": traced.lake.features.version}

    def test_it_ends_at_the_batches_that_brought_the_rows(self, traced: Traced, of_version: Node) -> None:
        transactions, batches = only(of_version, TRANSACTIONS), only(of_version, BATCHES)
        expected = batches_of(traced.shop.purchases)
        assert transactions.name == f"silver.transactions@{traced.shop.transactions.snapshot_id}"
        assert listed(batches) == expected
        assert batches.facts == {
            "batches": len(expected),
            "rows": len(traced.shop.purchases),
            "first": expected[0]["name"],
            "first_ingested_at": expected[0]["ingested_at"],
            "last": expected[-1]["name"],
            "last_ingested_at": expected[-1]["ingested_at"],
        }

    def test_as_json(self, of_version: Node) -> None:
        found = json.loads(json.dumps(of_version.as_dict()))
        training = found["made_from"][0]["made_from"][0]
        assert (training["kind"], training["as_of"]) == (TRAINING_SET, AS_OF.isoformat())
        batches = training["made_from"][1]["made_from"][0]
        assert len(batches["made_from"]) == batches["batches"] > 5

    def test_one_trained_on_a_query(self, traced: Traced) -> None:
        settings = traced.shop.settings.model_copy(update={"as_of": AS_OF})
        pipeline = TrainingPipeline("queried", "queried", settings)
        query = "SELECT * FROM feature_store.customer_features"
        pipeline.run(query, hyperparameters={"n_estimators": 5, "min_child_weight": 1})
        found = lineage(traced.manager, traced.lake, "1", model_name="queried")
        rows = only(found, QUERY_ROWS)
        assert rows.name == f"feature_store.customer_features@{traced.shop.features.snapshot_id}"
        assert rows.facts == {"query": query, "split": "temporal"}
        assert listed(only(found, BATCHES)) == batches_of(traced.shop.purchases)

    def test_one_whose_training_set_is_gone(self, traced: Traced) -> None:
        model = traced.version("gone")
        traced.manager.client.set_tag(model.run_id, TRAINING_SNAPSHOT_TAG, "1")
        training = only(lineage(traced.manager, traced.lake, "1", model_name="gone"), TRAINING_SET)
        assert training.name == "ml.training_set@1"
        assert str(training.facts["state"]).startswith("gone")
        assert training.made_from == ()


class TestPrediction:
    def test_its_version_its_features_and_its_customers_batches(
        self, traced: Traced, model: RegisteredModel, of_version: Node
    ) -> None:
        row = traced.lake.snapshot(PREDICTIONS).to_arrow(order_by=["prediction_id"]).to_pylist()[3]
        found = lineage(traced.manager, traced.lake, row["prediction_id"], model_name="another")
        assert (found.kind, found.name) == (PREDICTION, row["prediction_id"])
        assert found.facts["churn_probability"] == row["churn_probability"]
        version, features = found.made_from
        assert version == of_version
        assert features.name == f"feature_store.customer_features@{row['feature_snapshot_id']}"
        where = traced.shop.features.to_arrow().to_pylist()
        (held,) = (r for r in where if (r["customer_id"], r["feature_date"]) == (row["customer_id"], AS_OF))
        assert features.facts == {
            "feature_date": AS_OF,
            "feature_version": held["_feature_version"],
            "feature_hash": held["_feature_hash"],
            "computed_at": held["_created_at"],
        }
        bought = [p for p in traced.shop.purchases if p.customer_id == row["customer_id"]]
        assert only(features, TRANSACTIONS).name == f"silver.transactions@{traced.shop.transactions.snapshot_id}"
        assert listed(only(features, BATCHES)) == batches_of(bought)

    def test_one_whose_features_are_gone(self, traced: Traced) -> None:
        rows = traced.predict(traced.version("lost"))
        place = rows.column_names.index("feature_snapshot_id")
        traced.publish(rows.set_column(place, "feature_snapshot_id", pa.array([1] * rows.num_rows, pa.int64())))
        found = lineage(traced.manager, traced.lake, rows["prediction_id"][0].as_py(), model_name="lost")
        features = found.made_from[1]
        assert features.name == "feature_store.customer_features@1"
        assert features.facts["feature_date"] == AS_OF
        assert str(features.facts["state"]).startswith("gone")

    def test_an_online_one(self, traced: Traced, of_version: Node) -> None:
        row = {
            "prediction_id": "PRED_1",
            "predicted_at": PREDICTED_AT,
            "model_name": "traced",
            "model_version": "1",
            "features": '{"tenure_days": 3}',
            "prediction": 1,
            "churn_probability": 0.75,
            "confidence": 0.75,
            "inference_latency_ms": 1.0,
        }
        rows = pa.Table.from_pylist([row], schema=arrow_schema(ONLINE_PREDICTIONS))
        traced.lake.publish(Draft(ONLINE_PREDICTIONS, rows))
        found = lineage(traced.manager, traced.lake, "PRED_1", model_name="another")
        assert found.facts == {"predicted_at": PREDICTED_AT, "churn_probability": 0.75, "prediction": 1}
        assert found.made_from == (of_version, Node(REQUEST, "PRED_1", {"features": '{"tenure_days": 3}'}))


def test_later_rows_are_no_source_of_a_training_set(traced: Traced) -> None:
    # Whose feature_dates are among those computed.
    day = AS_OF - timedelta(days=90)
    held = traced.shop.training.to_arrow()
    rows = replace(traced.shop, as_of=day).draft()
    traced.lake.publish(rows)
    try:
        found = lineage(traced.manager, traced.lake, traced.version("former").version, model_name="former")
    finally:
        traced.lake.publish(replace(rows, rows=held, properties={**rows.properties, "as-of": AS_OF.isoformat()}))
    assert only(found, TRAINING_SET).facts["as_of"] == day
    assert listed(only(found, BATCHES)) == batches_of([p for p in traced.shop.purchases if p.day <= day])


@pytest.mark.parametrize("which", ["nobody", "1" * 32])
def test_an_unknown_prediction(traced: Traced, which: str) -> None:
    with pytest.raises(InputError, match=rf"'{which}' is no version's number.*rows of ml.predictions.*online"):
        lineage(traced.manager, traced.lake, which, model_name="traced")


def test_an_unknown_version(traced: Traced, model: RegisteredModel) -> None:
    with pytest.raises(InputError, match="traced has no version 12"):
        lineage(traced.manager, traced.lake, "12", model_name=model.name)
