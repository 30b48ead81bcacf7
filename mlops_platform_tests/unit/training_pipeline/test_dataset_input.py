"""A run's dataset inputs, as MLflow shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mlops_platform.contracts import SILVER_TRANSACTIONS, TableContract, load_feature_set
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.training_pipeline.dataset_input import log_dataset
from mlops_platform.training_pipeline.registry import MLflowManager

TRAINING_SET = load_feature_set(None).training_set
FIRST, SECOND = 8_012_345_678_901_234_567, 8_012_345_678_901_234_568


@pytest.fixture
def run_id(mlflow: MLflowManager) -> Iterator[str]:
    with mlflow.run("dataset-inputs", "one", {}) as made:
        yield made


def log(
    mlflow: MLflowManager,
    run_id: str,
    context: str = "training",
    *,
    contract: TableContract = TRAINING_SET,
    snapshot_id: int = FIRST,
    digest: str = "0123456789abcdef",
    rows: int = 10,
) -> None:
    snapshot = TableSnapshot(contract, snapshot_id, mlflow.settings, None)
    log_dataset(mlflow, run_id, snapshot, digest=digest, rows=rows, context=context)


def inputs_of(mlflow: MLflowManager, run_id: str) -> list[Any]:
    inputs = mlflow.client.get_run(run_id).inputs
    assert inputs is not None
    return list(inputs.dataset_inputs)


def test_a_run_shows_table_snapshot_rows_and_context(mlflow: MLflowManager, run_id: str) -> None:
    log(mlflow, run_id, rows=1234)
    (found,) = inputs_of(mlflow, run_id)
    dataset = found.dataset
    assert (dataset.name, dataset.source_type) == ("ml.training_set", "iceberg")
    # As text: a browser's numbers end at 2⁵³.
    assert json.loads(dataset.source) == {"table": "ml.training_set", "snapshot_id": str(FIRST)}
    assert json.loads(dataset.profile) == {"num_rows": 1234, "data_digest": "0123456789abcdef"}
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]
    columns = {column["name"]: column["type"] for column in json.loads(dataset.schema)["mlflow_colspec"]}
    assert list(columns) == list(TRAINING_SET.column_names)
    assert (columns["churned"], columns["feature_date"]) == ("integer", "datetime")


def test_every_type_of_column_has_its_name_in_mlflow(mlflow: MLflowManager, run_id: str) -> None:
    from mlflow.types import Schema

    log(mlflow, run_id, contract=SILVER_TRANSACTIONS)
    (found,) = inputs_of(mlflow, run_id)
    columns = json.loads(found.dataset.schema)["mlflow_colspec"]
    assert Schema.from_json(json.dumps(columns)).input_names() == list(SILVER_TRANSACTIONS.column_names)


def test_logging_twice_does_not_double_it(mlflow: MLflowManager, run_id: str) -> None:
    log(mlflow, run_id)
    log(mlflow, run_id)
    assert len(inputs_of(mlflow, run_id)) == 1


def test_each_split_of_a_snapshot_keeps_its_context(mlflow: MLflowManager, run_id: str) -> None:
    for context in ("training", "validation", "test"):
        log(mlflow, run_id, context)
    contexts = [tag.value for found in inputs_of(mlflow, run_id) for tag in found.tags]
    assert sorted(contexts) == ["test", "training", "validation"]


def test_equal_rows_of_another_snapshot_keep_theirs(mlflow: MLflowManager, run_id: str) -> None:
    log(mlflow, run_id)
    with mlflow.run("dataset-inputs", "two", {}) as other:
        log(mlflow, other, snapshot_id=SECOND)
    (found,) = inputs_of(mlflow, other)
    assert json.loads(found.dataset.source)["snapshot_id"] == str(SECOND)


def test_a_finished_run_takes_inputs(mlflow: MLflowManager) -> None:
    with mlflow.run("dataset-inputs", "three", {}) as run_id:
        pass
    log(mlflow, run_id)
    assert len(inputs_of(mlflow, run_id)) == 1
    assert mlflow.client.get_run(run_id).info.status == "FINISHED"
