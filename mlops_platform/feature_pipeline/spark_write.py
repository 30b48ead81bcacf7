"""Pushed-down writes: Spark computes features and writes them itself, onto an Iceberg branch of the feature store.

No row passes through this process: key, version, time and hash are put on in Spark's own workers, by the function of
every other engine. Does not belong here: the branch (`storage.branch`), its audit and publish (`load.py`, `storage`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.feature_pipeline import row_hash, stamp
from mlops_platform.feature_pipeline.spark import iceberg_frame
from mlops_platform.feature_pipeline.spark_session import CATALOG, explained, iceberg_session
from mlops_platform.storage.branch import open_branch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date, datetime

    import pyarrow as pa

    from mlops_platform.contracts.feature_set import FeatureSet
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.storage.rows import StagedRows


def staged_by_spark(
    settings: Settings,
    transactions: TableSnapshot,
    feature_dates: Sequence[date],
    features: FeatureSet,
    *,
    created_at: datetime,
    note: Callable[[str], None] | None = None,
) -> StagedRows:
    """The rows of feature_dates on a branch of feature_store.customer_features, to be audited and published.

    Args:
        settings: Where the tables are.
        transactions: Snapshot of silver.transactions.
        feature_dates: The days, in order.
        features: The declarations.
        created_at: Instant written to `_created_at`.
        note: Is told of each feature_date when its rows are written.

    Raises:
        InputError: PySpark, Java or Iceberg's jars are missing.
        StorageError: Spark failed, or another run stages rows for ten minutes; no row is left.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    session = iceberg_session(settings)
    contract = features.customer_features
    schema = from_arrow_schema(arrow_schema(contract))
    branch = open_branch(settings, contract)
    try:
        for day in feature_dates:
            with explained(f"write the features of {day}"):
                rows = iceberg_frame(session, transactions, day, features.features).drop("feature_date")
                whole = rows.mapInArrow(stamping(features, day, created_at), schema)
                _append(session, f"{CATALOG}.{contract.name}", branch.name, whole)
            if note is not None:
                note(f"feature_date {day}")
        return branch.rows()
    except BaseException:
        branch.abandon()
        raise


def stamping(
    features: FeatureSet, day: date, created_at: datetime
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What Spark's workers do to rows: key, version, time and hash are put on, in the contract's columns.

    They get it whole: they need NumPy and PyArrow, but not the platform.
    """
    from pyspark import cloudpickle

    for module in (row_hash, stamp):
        cloudpickle.register_pickle_by_value(module)
    made = stamp.Stamp(features.version, created_at, arrow_schema(features.customer_features))

    def stamped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            yield from made.put_on(pa.Table.from_batches([batch]), day).to_batches()

    return stamped


def _append(session: Any, table: str, branch: str, rows: Any) -> None:
    """Writes the rows, each of Spark's tasks its own files, sorted as our own are."""
    from pyspark.sql.functions import lit

    columns = session.table(table).schema
    # A table keeps the columns of features that are gone.
    rows = rows.select(
        *(f.name if f.name in rows.columns else lit(None).cast(f.dataType).alias(f.name) for f in columns)
    )
    writer = rows.sortWithinPartitions("customer_id").writeTo(f"{table}.`branch_{branch}`")
    # All rows of a feature_date lie in one partition: distributed by it, one task would write them.
    writer.option("distribution-mode", "none").option("fanout-enabled", "true").append()
