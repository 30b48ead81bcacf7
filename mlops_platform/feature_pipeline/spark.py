"""Spark: the features of one feature_date by a local Spark, from the data files that Iceberg planned.

PySpark is an optional extra. Does not belong here: what the features are (`transform.py`), which engine computes them
(`compute.py`).
"""

from __future__ import annotations

from dataclasses import replace
from operator import eq, ge, gt, le, lt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.features import FEATURES
from mlops_platform.errors import InputError
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

_INSTALL = "pip install 'mlops-platform[spark]', or unset MLOPS_ENGINE: DuckDB computes the same features."
# Less than this and Spark refuses to start: 1.5 times the 300 MB it reserves.
_SMALLEST_HEAP_MB = 512
_LOGGING = Path(__file__).with_name("spark_log4j2.properties")
_COMPARISONS = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}


def spark_features(
    settings: Settings, transactions: TableSnapshot, feature_date: date, features: Sequence[Feature] = FEATURES
) -> pa.Table:
    """The state of every customer with a purchase so far, at the end of local day `feature_date`.

    Spark stays up for the next call, as starting it takes 4 s, and ends with the process. A session that the process
    already has is used as it is.

    Args:
        settings: Memory, time zone, and the home, into which Spark spills.
        transactions: Snapshot of silver.transactions.
        feature_date: D. Only rows with a local date ≤ D count.
        features: The declarations.

    Returns:
        customer_id, feature_date, then one column a feature, in no order of rows.

    Raises:
        InputError: PySpark or Java is missing, Spark can't read the warehouse, or the snapshot is restricted by a
            column that features don't use.
        StorageError: Another engine has written delete files to the table.
    """
    import ibis

    until = replace(transactions, where=(*transactions.where, Condition("transaction_date", "<=", feature_date)))
    bought = ibis.table(SOURCE_TYPES, name="bought")
    state = feature_expression(bought.filter(*_predicates(bought, until.where)), feature_date, features)
    schema = state.schema().to_pyarrow()
    paths = data_files(until)
    session = _session(settings)
    if not paths:
        return schema.empty_table()
    backend = ibis.pyspark.connect(session)
    # Ibis has just set it to UTC.
    session.conf.set("spark.sql.session.timeZone", settings.timezone)
    _read(session, paths).createOrReplaceTempView("bought")
    return session.sql(backend.compile(state)).toArrow().cast(schema)


def _predicates(table: Any, conditions: Sequence[Condition]) -> list[Any]:
    """The snapshot's own conditions as Ibis expressions; files are planned by them, but hold other rows too."""
    found = []
    for condition in conditions:
        if condition.column not in SOURCE_TYPES:
            raise InputError(
                f"Spark can't compute features where {condition.text()}",
                expected=f"conditions on {', '.join(SOURCE_TYPES)}",
                hint="unset MLOPS_ENGINE.",
            )
        column, value = table[condition.column], condition.value
        is_one_of = isinstance(value, tuple)
        found.append(column.isin(value) if is_one_of else _COMPARISONS[condition.operator](column, value))
    return found


def _read(session: Any, paths: Sequence[str]) -> Any:
    """The files as a Spark frame in silver's types; a column that an older file lacks is null in its rows."""
    from ibis import schema
    from ibis.backends.pyspark.datatypes import PySparkSchema

    reader = session.read.schema(PySparkSchema.from_ibis(schema(SOURCE_TYPES)))
    # A bracket in a home's name is no pattern.
    return reader.option("__globPaths__", "false").parquet(*paths)


def _session(settings: Settings) -> Any:
    """A Spark session for one query: views and options set in it touch no other.

    Raises:
        InputError: PySpark is not installed, finds no Java, or can't read the warehouse.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise InputError("MLOPS_ENGINE is spark, but PySpark is not installed", hint=_INSTALL) from error
    memory = max(settings.memory_limit_mb, _SMALLEST_HEAP_MB)
    scratch = settings.home / "tmp"
    options = {
        "spark.app.name": "mlops-platform",
        "spark.master": "local[*]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}",
        "spark.driver.memory": f"{memory}m",
        "spark.local.dir": str(scratch),
        "spark.sql.catalogImplementation": "in-memory",
        # Spark's own 200 are tasks of milliseconds each on one machine.
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.warehouse.dir": str(scratch / "spark-warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    active = SparkSession.getActiveSession()
    if active is None and settings.warehouse_url:
        raise InputError(
            f"the Spark that PySpark brings can't read {settings.warehouse_url}",
            expected="a warehouse of local files, or a SparkSession that reads s3:// and was started before",
            hint="unset MLOPS_ENGINE: DuckDB computes the same features.",
        )
    try:
        running = active or SparkSession.builder.config(map=options).getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise InputError(
            "MLOPS_ENGINE is spark, but Spark's Java did not start; what it said is above",
            expected="Java 17 or newer on PATH, or JAVA_HOME",
            hint="install it, or unset MLOPS_ENGINE: DuckDB computes the same features.",
        ) from error
    return running.newSession()
