"""Extract: runs the feature expression over a snapshot of silver.transactions in DuckDB.

Does not belong here: what the features are (`transform.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.contracts import CUSTOMER_FEATURES, FEATURE_NAMES, SILVER_TRANSACTIONS
from mlops_platform.contracts.features import FEATURE_VERSION
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.feature_pipeline.transform import feature_expression
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.read import register

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    import duckdb
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot

_SOURCE_COLUMNS = (
    "customer_id",
    "transaction_date",
    "transaction_hour",
    "amount",
    "category",
    "payment_method",
)


def feature_sql(feature_date: date, dialect: str = "duckdb", table: str = SILVER_TRANSACTIONS.name) -> str:
    """The features of one feature_date as SQL over a table of silver's transactions."""
    import ibis

    types = {
        "customer_id": "string",
        "transaction_date": "date",
        "transaction_hour": "int32",
        "amount": "decimal(18, 2)",
        "category": "string",
        "payment_method": "string",
    }
    return str(ibis.to_sql(feature_expression(ibis.table(types, name=table), feature_date), dialect=dialect))


def compute_features(
    settings: Settings, transactions: TableSnapshot, feature_dates: Iterable[date], *, created_at: datetime
) -> pa.Table:
    """Rows of feature_store.customer_features for the given feature_dates.

    Args:
        settings: Memory and time zone.
        transactions: Snapshot of silver.transactions.
        feature_dates: The days, each computed on its own.
        created_at: Instant written to `_created_at`.

    Returns:
        Arrow table in the contract's columns, ordered by feature_date and customer_id.
    """
    import pyarrow as pa

    names = ", ".join(map(quoted, ("customer_id", "feature_date", *FEATURE_NAMES)))
    days = list(feature_dates)
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema(CUSTOMER_FEATURES)])
    tables = [schema.empty_table()]
    with session(settings) as duck:
        _materialize(duck, transactions, until=max(days))
        for feature_date in days:
            rows = duck.sql(
                f"SELECT {names}, $version AS _feature_version, $at::TIMESTAMPTZ AS _created_at, "
                f"md5(to_json(({names}))::VARCHAR) AS _feature_hash "
                f"FROM ({feature_sql(feature_date, table='purchases')}) ORDER BY customer_id",
                params={"version": FEATURE_VERSION, "at": created_at},
            ).to_arrow_table()
            tables.append(rows.cast(schema))
    return pa.concat_tables(tables)


def _materialize(duck: duckdb.DuckDBPyConnection, transactions: TableSnapshot, until: date) -> None:
    """Copies the needed columns into the session once: the expression reads them three times a feature_date."""
    view = register(duck, transactions, columns=_SOURCE_COLUMNS, where=[Condition("transaction_date", "<=", until)])
    duck.execute(f"CREATE TEMP TABLE purchases AS SELECT * FROM {view} WHERE amount > 0")
