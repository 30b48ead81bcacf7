"""Dataset inputs of an MLflow run: which snapshot of which table it was trained or evaluated on.

Belongs here: naming the rows. Does not belong here: reading them (`storage/read.py` does, by table and snapshot id).
MLflow's `DatasetSource` classes are for `mlflow.data`, which loads rows by itself; the run keeps the same four texts
without them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from mlops_platform.contracts import TableContract
from mlops_platform.contracts.table import ColumnType

if TYPE_CHECKING:
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.registry import MLflowManager

SOURCE_TYPE = "iceberg"
_MLFLOW_TYPES = {
    ColumnType.STRING: "string",
    ColumnType.INT: "integer",
    ColumnType.LONG: "long",
    ColumnType.DOUBLE: "double",
    ColumnType.MONEY: "double",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.DATE: "datetime",
    ColumnType.TIMESTAMP: "datetime",
}


def log_dataset(
    manager: MLflowManager,
    run_id: str,
    snapshot: TableSnapshot,
    *,
    digest: str,
    rows: int,
    context: str,
) -> None:
    """Notes the rows a run used; no row is read, and noting the same again changes nothing.

    Args:
        manager: MLflow.
        run_id: The run, finished or not.
        snapshot: The Iceberg table's state that holds the rows.
        digest: Digest of the rows themselves, as `data_digest` gives it.
        rows: Number of rows.
        context: What the rows were used for: `training`, `validation` or `test`.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    contract = snapshot.contract
    source = json.dumps({"table": contract.name, "snapshot_id": str(snapshot.snapshot_id)})
    schema = _schema(contract)
    profile = json.dumps({"num_rows": rows, "data_digest": digest})
    # MLflow keeps one dataset for each name and digest of an experiment, with the source it saw first and one context
    # a run: a digest of the rows alone would hide the other snapshots and splits that they stand in.
    everything = hashlib.sha256("\n".join((source, schema, profile, context)).encode()).hexdigest()[:16]
    dataset = Dataset(contract.name, everything, SOURCE_TYPE, source, schema, profile)
    manager.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])])


def _schema(contract: TableContract) -> str:
    """The columns as MLflow's pages show them."""
    columns = [
        {"name": column.name, "type": _MLFLOW_TYPES[column.type], "required": not column.nullable}
        for column in contract.columns
    ]
    return json.dumps({"mlflow_colspec": columns})
