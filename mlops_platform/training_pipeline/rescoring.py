"""Scoring again: a Pipeline's scores held against earlier ones, bit for bit, on rows as they stood then.

Belongs here: test rows and predictions of a model made again. Does not belong here: making it (`rebuild.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import PREDICTIONS
from mlops_platform.errors import StorageError
from mlops_platform.storage.catalog import stored_contract
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_platform.contracts import TableContract
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.registry import RegisteredModel

PREDICTIONS_REBUILT = 20


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two scores of each of some rows, compared bit for bit.

    Args:
        rows: Rows scored twice.
        identical: Rows whose scores are equal.
        largest_difference: Of any row.
        lost: Rows more, whose features are gone, so that they could not be scored again.
    """

    rows: int
    identical: int
    largest_difference: float
    lost: int = 0


def agreement(one: NDArray[Any], other: NDArray[Any], *, lost: int = 0) -> Agreement:
    """Compares scores of the same rows, both of shape (n,)."""
    import numpy as np

    return Agreement(len(one), int(np.sum(one == other)), float(np.max(np.abs(one - other), initial=0.0)), lost)


def scores(pipeline: Any, rows: pa.Table) -> NDArray[Any]:
    """Chance of churn, shape (n,)."""
    import numpy as np

    # Some classifiers refuse to score nothing.
    found: NDArray[Any] = pipeline.predict_proba(rows)[:, 1] if rows.num_rows else np.zeros(0)
    return found


def pinned(lake: Lake, contract: TableContract, snapshot_id: int, columns: Sequence[str]) -> TableSnapshot:
    """A state of a table with some of its columns, whatever features are declared today.

    Raises:
        StorageError: It is gone.
    """
    snapshot = lake.snapshot(contract, snapshot_id=snapshot_id)
    assert snapshot.table is not None  # noqa: S101 - it has the snapshot
    stored = stored_contract(snapshot.table)
    return replace(snapshot, contract=replace(stored, columns=tuple(stored.column(name) for name in columns)))


def rebuild_predictions(lake: Lake, model: RegisteredModel, pipeline: Any) -> Agreement:
    """Scores predictions of ml.predictions again, on the features they were made from.

    Args:
        lake: The home's tables.
        model: The version that made them.
        pipeline: Its Pipeline, made again.

    Returns:
        Of 20 of them, picked by their ids' hashes; of all, where there are fewer.
    """
    import pyarrow as pa

    where = [Condition("model_name", "=", model.name), Condition("model_version", "=", model.version)]
    with lake.snapshot(PREDICTIONS).relation(where=where) as (duck, view):
        sample = duck.sql(
            f"SELECT customer_id, feature_date, feature_snapshot_id, churn_probability FROM {view} "
            f"ORDER BY md5(prediction_id), prediction_id LIMIT {PREDICTIONS_REBUILT}"
        ).to_arrow_table()
    names = tuple(map(str, pipeline["features"].feature_names_in_))
    snapshots = sample.column("feature_snapshot_id").unique().to_pylist()
    found = [rows for each in snapshots if (rows := _with_features(lake, sample, each, names)) is not None]
    if not found:
        return Agreement(0, 0, 0.0, sample.num_rows)
    rows = pa.concat_tables(found)
    lost = sample.num_rows - rows.num_rows
    return agreement(rows.column("churn_probability").to_numpy(), scores(pipeline, rows), lost=lost)


def _with_features(lake: Lake, sample: pa.Table, snapshot_id: int, names: Sequence[str]) -> pa.Table | None:
    """Those of the predictions that were made from one state of the features, beside them; None where it is gone."""
    import pyarrow.compute as pc

    keys = ("customer_id", "feature_date")
    try:
        features = pinned(lake, lake.features.customer_features, snapshot_id, (*keys, *names))
    except StorageError:
        return None
    predicted = sample.filter(pc.equal(sample.column("feature_snapshot_id"), snapshot_id))
    where = [Condition(key, "in", tuple(predicted.column(key).unique().to_pylist())) for key in keys]
    with features.relation(where=where) as (duck, view):
        duck.register("predicted", predicted)
        cells = ", ".join(f"f.{quoted(name)}" for name in names)
        return duck.sql(
            f"SELECT p.churn_probability, {cells} FROM predicted p JOIN {view} f USING (customer_id, feature_date)"
        ).to_arrow_table()
