"""Lineage: from a prediction or a model version back to the bronze batches its rows came in.

A prediction names its version and the snapshot of its features, a version its MLflow run, a run the snapshot of its
training set, that snapshot in its properties those of features and labels, and a silver row the batch that brought it.
Does not belong here: making a model again from what it names (`rebuild.py`), printing (`console_lineage.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import (
    BRONZE_TRANSACTIONS,
    ONLINE_PREDICTIONS,
    PREDICTIONS,
    SILVER_TRANSACTIONS,
)
from mlops_platform.errors import InputError, ModelError, StorageError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import session
from mlops_platform.storage.publish import PROPERTY_PREFIX, recorded_in
from mlops_platform.storage.read import register
from mlops_platform.training_pipeline.registry import IDENTITY_TAG
from mlops_platform.training_pipeline.train import MODEL_HASH_TAG, MODEL_TYPE_TAG, THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_platform.contracts import TableContract
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel

Fact = str | int | float | date | datetime | None

PREDICTION, VERSION, RUN = "prediction", "model version", "MLflow run"
TRAINING_SET, QUERY_ROWS, FEATURES, REQUEST = "training set", "rows of a query", "features", "request"
TRANSACTIONS, BATCHES, BATCH = "transactions", "bronze batches", "bronze batch"

FEATURE_SNAPSHOT, LABEL_SNAPSHOT = "feature-snapshot-id", "label-snapshot-id"
_SILVER_SNAPSHOT = "silver-snapshot-id"
_GONE = "gone: expired, or a customer was erased"
# An md5, a prediction's id, may consist of digits too.
_LONGEST_VERSION = 18


@dataclass(frozen=True, slots=True)
class Node:
    """A thing, and what it was made from.

    Args:
        kind: What it is.
        name: Its id; of a table's state, `table@snapshot`.
        facts: What is known of it; None: it ought to be known and is not.
        made_from: Its sources.
    """

    kind: str
    name: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    made_from: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """The node and everything it goes back to, the node first."""
        yield self
        for source in self.made_from:
            yield from source.walk()

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it, instants and days as text."""
        facts = {key: value.isoformat() if isinstance(value, date) else value for key, value in self.facts.items()}
        sources = [source.as_dict() for source in self.made_from]
        return {"kind": self.kind, "name": self.name, **facts, "made_from": sources}


def lineage(manager: MLflowManager, lake: Lake, which: str, *, model_name: str) -> Node:
    """Where a prediction or a model version comes from.

    Args:
        manager: MLflow.
        lake: The home's tables.
        which: A prediction_id, or a version's number.
        model_name: The model that a number is a version of.

    Raises:
        InputError: There is no such prediction or version.
        ModelError: The version's run is gone.
    """
    if which.isdecimal() and len(which) <= _LONGEST_VERSION:
        return _version(manager, lake, manager.version(model_name, which))
    row = _prediction_row(lake, PREDICTIONS, which)
    if row is not None:
        return _prediction(manager, lake, row)
    row = _prediction_row(lake, ONLINE_PREDICTIONS, which)
    if row is not None:
        return _online_prediction(manager, lake, row)
    batch, online = (lake.snapshot(contract).count() for contract in (PREDICTIONS, ONLINE_PREDICTIONS))
    raise InputError(
        f"{which!r} is no version's number, and no prediction_id among the {batch:,} rows of {PREDICTIONS.name} and "
        f"the {online:,} of {ONLINE_PREDICTIONS.name}",
        expected=f"a prediction_id, or the number of a version of {model_name}",
        hint=f'mlops query "SELECT prediction_id FROM {PREDICTIONS.name} LIMIT 5"',
    )


def run_of(manager: MLflowManager, model: RegisteredModel) -> Any:
    """The MLflow run that a version was registered from.

    Raises:
        ModelError: It is gone.
    """
    from mlflow.exceptions import MlflowException

    try:
        return manager.client.get_run(model.run_id)
    except MlflowException as error:
        # A version that another tool registered may name no run.
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise ModelError(
            f"the MLflow run {model.run_id or '(none)'} of {model.name} version {model.version} is gone",
            expected="the run that holds the model",
        ) from error


def _prediction_row(lake: Lake, contract: TableContract, prediction_id: str) -> dict[str, Any] | None:
    rows = lake.snapshot(contract).to_arrow(where=[Condition("prediction_id", "=", prediction_id)]).to_pylist()
    return rows[0] if rows else None


def _prediction(manager: MLflowManager, lake: Lake, row: Mapping[str, Any]) -> Node:
    facts = ("customer_id", "feature_date", "tick", "churn_probability", "prediction")
    version = manager.version(row["model_name"], row["model_version"])
    return Node(
        PREDICTION,
        row["prediction_id"],
        {name: row[name] for name in facts},
        (_version(manager, lake, version), _feature_row(lake, row)),
    )


def _online_prediction(manager: MLflowManager, lake: Lake, row: Mapping[str, Any]) -> Node:
    facts = ("predicted_at", "churn_probability", "prediction")
    version = manager.version(row["model_name"], row["model_version"])
    request = Node(REQUEST, row["prediction_id"], {"features": row["features"]})
    return Node(
        PREDICTION,
        row["prediction_id"],
        {name: row[name] for name in facts},
        (_version(manager, lake, version), request),
    )


def _version(manager: MLflowManager, lake: Lake, model: RegisteredModel) -> Node:
    facts: dict[str, Fact] = {"stage": model.stage, "registered_at": model.created_at}
    return Node(VERSION, f"{model.name} {model.version}", facts, (_run(lake, run_of(manager, model)),))


def _run(lake: Lake, run: Any) -> Node:
    tags = run.data.tags
    facts: dict[str, Fact] = {
        "started_at": datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        "model_type": tags.get(MODEL_TYPE_TAG),
        "threshold": float(tags[THRESHOLD_TAG]) if THRESHOLD_TAG in tags else None,
        "model_hash": tags.get(MODEL_HASH_TAG),
        "identity": tags.get(IDENTITY_TAG),
    }
    snapshot_id = tags.get(TRAINING_SNAPSHOT_TAG)
    rows = _query_rows(lake, tags) if snapshot_id is None else _training_set(lake, snapshot_id, tags)
    return Node(RUN, str(run.info.run_id), facts, (rows,))


def _training_set(lake: Lake, snapshot_id: str, tags: Mapping[str, str]) -> Node:
    contract = lake.features.training_set
    name, snapshot = f"{contract.name}@{snapshot_id}", _held(lake, contract, snapshot_id)
    if snapshot is None:
        return Node(TRAINING_SET, name, {"state": _GONE, "feature_version": tags.get("feature_version")})
    made = recorded_in(snapshot)
    as_of = date.fromisoformat(made["as-of"])
    days = [date.fromisoformat(day) for day in made["training-dates"].split(",")]
    facts: dict[str, Fact] = {
        "rows": snapshot.count(),
        "as_of": as_of,
        "evaluation_date": date.fromisoformat(made["evaluation-date"]),
        "training_dates": len(days),
        "first_training_date": min(days),
        "last_training_date": max(days),
    }
    features = Node(
        FEATURES,
        f"{lake.features.customer_features.name}@{made[FEATURE_SNAPSHOT]}",
        {"feature_version": tags.get("feature_version")},
    )
    labels = _transactions(lake, made[LABEL_SNAPSHOT], [Condition("transaction_date", "<=", as_of)])
    return Node(TRAINING_SET, name, facts, (features, labels))


def _query_rows(lake: Lake, tags: Mapping[str, str]) -> Node:
    names = {"mlops.query": "query", "mlops.path": "path", "mlops.split": "split"}
    label_snapshot = tags.get(f"{PROPERTY_PREFIX}{LABEL_SNAPSHOT}")
    labels = () if label_snapshot is None else (_transactions(lake, label_snapshot, []),)
    facts: dict[str, Fact] = {name: tags[tag] for tag, name in names.items() if tag in tags}
    return Node(QUERY_ROWS, tags.get("data_version", "not recorded"), facts, labels)


def _feature_row(lake: Lake, row: Mapping[str, Any]) -> Node:
    """The customer's row of the feature store that a prediction was scored on."""
    contract, snapshot_id = lake.features.customer_features, str(row["feature_snapshot_id"])
    name, snapshot = f"{contract.name}@{snapshot_id}", _held(lake, contract, snapshot_id)
    if snapshot is None:
        return Node(FEATURES, name, {"state": _GONE, "feature_date": row["feature_date"]})
    columns = ("feature_date", "customer_id", "_feature_version", "_feature_hash", "_created_at")
    where = [Condition("customer_id", "=", row["customer_id"]), Condition("feature_date", "=", row["feature_date"])]
    held = snapshot.to_arrow(columns, where).to_pylist()
    found = held[0] if held else {}
    facts: dict[str, Fact] = {
        "feature_date": row["feature_date"],
        "feature_version": found.get("_feature_version"),
        "feature_hash": found.get("_feature_hash"),
        "computed_at": found.get("_created_at"),
    }
    silver = recorded_in(snapshot).get(_SILVER_SNAPSHOT)
    purchases = [where[0], Condition("transaction_date", "<=", row["feature_date"])]
    return Node(FEATURES, name, facts, (_transactions(lake, silver, purchases),))


def _transactions(lake: Lake, snapshot_id: str | None, where: Sequence[Condition]) -> Node:
    """Rows of silver.transactions, and the batches that brought them.

    Maintenance keeps the state that labels come from, but not for good the one that features come from: the present
    rows are looked at in its place.
    """
    name = f"{SILVER_TRANSACTIONS.name}@{snapshot_id}"
    held = _held(lake, SILVER_TRANSACTIONS, snapshot_id)
    facts: dict[str, Fact] = {} if held is not None else {"state": f"{_GONE}; the present rows are shown"}
    silver = held or lake.snapshot(SILVER_TRANSACTIONS)
    batches = _batches(lake, silver, where)
    return Node(TRANSACTIONS, name, {"rows": batches.facts["rows"], **facts}, (batches,))


def _batches(lake: Lake, silver: TableSnapshot, where: Sequence[Condition]) -> Node:
    """The batches of the rows' present versions, in the order they came in."""
    with session(lake.settings) as duck:
        rows = register(duck, silver, columns=["_batch_id"], where=where)
        bronze = register(duck, lake.snapshot(BRONZE_TRANSACTIONS), columns=["_batch_id", "_ingested_at"])
        found = duck.sql(
            f"""SELECT s._batch_id, s.n, b.at
            FROM (SELECT _batch_id, count(*) AS n FROM {rows} GROUP BY _batch_id) s
                LEFT JOIN (SELECT _batch_id, min(_ingested_at) AS at FROM {bronze} GROUP BY _batch_id) b
                USING (_batch_id)
            ORDER BY b.at, s._batch_id"""
        ).to_arrow_table()
    batches = tuple(
        Node(BATCH, row["_batch_id"], {"rows": row["n"], "ingested_at": _instant(row["at"])})
        for row in found.to_pylist()
    )
    facts: dict[str, Fact] = {"batches": len(batches), "rows": sum(found["n"].to_pylist())}
    for which, place in (("first", 0), ("last", -1)):
        if batches:
            facts |= {which: batches[place].name, f"{which}_ingested_at": batches[place].facts["ingested_at"]}
    return Node(BATCHES, BRONZE_TRANSACTIONS.name, facts, batches)


def _instant(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _held(lake: Lake, contract: TableContract, snapshot_id: str | None) -> TableSnapshot | None:
    """A former state of a table; None where it is gone."""
    if snapshot_id is None or not snapshot_id.isdecimal():
        return None
    try:
        return lake.snapshot(contract).at(int(snapshot_id))
    except StorageError:
        return None
