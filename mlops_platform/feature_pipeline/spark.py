"""Spark: the features of one feature_date, from the Iceberg table itself or from the local files that Iceberg planned.

PySpark is an optional extra. Does not belong here: what the features are (`transform.py`), which engine computes them
(`compute.py`), where Spark comes from (`spark_session.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.features import FEATURES
from mlops_platform.feature_pipeline.restriction import predicates
from mlops_platform.feature_pipeline.spark_session import (
    CATALOG,
    explained,
    iceberg_session,
    local_session,
)
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES, feature_expression
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.read import data_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import pyarrow as pa

    from mlops_platform.contracts.features import Feature
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot


def spark_features(
    settings: Settings, transactions: TableSnapshot, feature_date: date, features: Sequence[Feature] = FEATURES
) -> pa.Table:
    """The state of every customer with a purchase so far, at the end of local day `feature_date`.

    Spark stays up for the next call, as starting it takes 4 s, and ends with the process. A session that the process
    already has is used as it is.

    Args:
        settings: Where the tables are, memory, time zone, and the home, into which Spark spills.
        transactions: Snapshot of silver.transactions.
        feature_date: D. Only rows with a local date ≤ D count.
        features: The declarations.

    Returns:
        customer_id, feature_date, then one column a feature, in no order of rows.

    Raises:
        InputError: PySpark, Java or Iceberg's jars are missing, Spark can't reach the tables, or the snapshot is
            restricted by a column that features don't use.
        StorageError: Spark failed; or another engine has written delete files to a table of local files.
    """
    schema = _state("bought", transactions, feature_date, features).schema().to_pyarrow()
    if settings.warehouse_url is None:
        session = local_session(settings)
        paths = data_files(replace(transactions, where=_until(transactions, feature_date)))
        if not paths:
            return schema.empty_table()
        _read(session, paths).createOrReplaceTempView("bought")
        return _computed(session, "bought", transactions, feature_date, features).toArrow().cast(schema)
    session = iceberg_session(settings)
    if transactions.snapshot_id is None:
        return schema.empty_table()
    with explained(f"compute the features of {feature_date}"):
        return iceberg_frame(session, transactions, feature_date, features).toArrow().cast(schema)


def iceberg_frame(session: Any, transactions: TableSnapshot, feature_date: date, features: Sequence[Feature]) -> Any:
    """The same rows as a Spark frame that nothing has computed yet, of a table that Spark reads through Iceberg."""
    # One name for one content: the session serves every call of the process.
    view = f"bought_{transactions.snapshot_id}"
    columns = ", ".join(f"`{name}`" for name in SOURCE_TYPES)
    table = f"{CATALOG}.{transactions.contract.name}"
    sql = f"SELECT {columns} FROM {table} VERSION AS OF {transactions.snapshot_id}"
    session.sql(sql).createOrReplaceTempView(view)
    return _computed(session, view, transactions, feature_date, features)


def _computed(
    session: Any, view: str, transactions: TableSnapshot, feature_date: date, features: Sequence[Feature]
) -> Any:
    import ibis

    # Not connected to the session: Ibis would set its time zone.
    return session.sql(ibis.pyspark.compile(_state(view, transactions, feature_date, features)))


def _state(view: str, transactions: TableSnapshot, feature_date: date, features: Sequence[Feature]) -> Any:
    import ibis

    bought = ibis.table(SOURCE_TYPES, name=view)
    until = predicates(bought, _until(transactions, feature_date), "spark")
    return feature_expression(bought.filter(*until), feature_date, features)


def _until(transactions: TableSnapshot, feature_date: date) -> tuple[Condition, ...]:
    """The snapshot's own conditions and the day: files are planned by them, but hold other rows too."""
    return (*transactions.where, Condition("transaction_date", "<=", feature_date))


def _read(session: Any, paths: Sequence[str]) -> Any:
    """The files as a Spark frame in silver's types; a column that an older file lacks is null in its rows."""
    from ibis import schema
    from ibis.backends.pyspark.datatypes import PySparkSchema

    reader = session.read.schema(PySparkSchema.from_ibis(schema(SOURCE_TYPES)))
    # A bracket in a home's name is no pattern.
    return reader.option("__globPaths__", "false").parquet(*paths)
