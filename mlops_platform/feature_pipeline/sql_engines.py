"""SQL engines: the features of one feature_date by Trino or Athena, in Athena's SQL over the Iceberg table itself.

Belongs here: pinning that SQL to a snapshot, and asking the engine. Does not belong here: what the features are
(`transform.py`), how an engine is spoken to (`storage.trino`, `storage.athena`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.features import FEATURES
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.restriction import predicates
from mlops_platform.feature_pipeline.spark_session import is_on_iceberg
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES, feature_expression
from mlops_platform.storage.athena import athena_rows
from mlops_platform.storage.trino import trino_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import pyarrow as pa

    from mlops_platform.contracts.features import Feature
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot


def sql_features(
    settings: Settings, transactions: TableSnapshot, feature_date: date, features: Sequence[Feature] = FEATURES
) -> pa.Table:
    """The state of every customer with a purchase so far, at the end of local day `feature_date`.

    Args:
        settings: The engine, trino or athena, and where it is.
        transactions: Snapshot of silver.transactions.
        feature_date: D. Only rows with a local date ≤ D count.
        features: The declarations.

    Returns:
        customer_id, feature_date, then one column a feature, in no order of rows.

    Raises:
        InputError: The engine's client is not installed, the engine can't reach the home's tables, or the snapshot is
            restricted by a column that features don't use.
        SettingsError: The engine's address is missing or malformed.
        StorageError: The engine can't be reached, or the query failed there.
    """
    import ibis

    if not is_on_iceberg(settings):
        raise InputError(
            f"MLOPS_ENGINE is {settings.engine}, which can't reach the tables in {settings.home}",
            expected="a warehouse in a bucket (MLOPS_WAREHOUSE_URL), with its catalog in PostgreSQL or Glue",
            hint="unset MLOPS_ENGINE: DuckDB computes the same features.",
        )
    silver = ibis.table(SOURCE_TYPES, name="transactions", database="silver")
    restrictions = predicates(silver, transactions.where, settings.engine)
    state = feature_expression(silver.filter(*restrictions) if restrictions else silver, feature_date, features)
    schema = state.schema().to_pyarrow()
    if transactions.snapshot_id is None:
        return schema.empty_table()
    rows = athena_rows if settings.engine == "athena" else trino_rows
    found = rows(settings, pinned_sql(state, transactions.snapshot_id))
    # Athena unloads no file where there are no rows, and so no columns.
    return found.select(schema.names).cast(schema) if found.num_rows else schema.empty_table()


def pinned_sql(expression: Any, snapshot_id: int) -> str:
    """An Ibis expression over silver.transactions as Athena's SQL, with the table at one snapshot."""
    from ibis.backends.sql import compilers
    from sqlglot import exp

    query = compilers.athena.compiler.to_sqlglot(expression)
    for table in query.find_all(exp.Table):
        # Ibis names its own subqueries without a database.
        if table.db:
            number = exp.Literal.number(snapshot_id)
            table.set("version", exp.Version(this="VERSION", kind="AS OF", expression=number))
    return str(query.sql(dialect="athena", pretty=True))
