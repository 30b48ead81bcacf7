"""Histories as a table in DuckDB, for the tests of every way to features.

Does not belong here: tests, comparing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import duckdb
import pyarrow as pa
from hypothesis import settings

from mlops_platform_tests.oracles.features import Purchase

REPEATABLE = settings(max_examples=60, derandomize=True, database=None, deadline=None)
# Compiling the SQL of one day costs 0.3 s, six times its run: few days, each compiled once.
DAYS = [date(2024, 2, 29), date(2023, 2, 28), date(2024, 3, 1), date(2023, 12, 31), date(2025, 1, 1), date(2011, 7, 16)]
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("transaction_date", pa.date32()),
        ("transaction_hour", pa.int32()),
        ("amount", pa.decimal128(18, 2)),
        ("category", pa.string()),
        ("payment_method", pa.string()),
    ]
)


def delivered(purchases: Iterable[Purchase]) -> duckdb.DuckDBPyConnection:
    """A connection with the table `bought`, in silver's columns."""
    rows = [(p.customer_id, p.day, p.local_ts.hour, p.amount, p.category, p.payment_method) for p in purchases]
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)
    connection = duckdb.connect()
    connection.register("delivered", table)
    connection.execute("CREATE TABLE bought AS FROM delivered")
    return connection
