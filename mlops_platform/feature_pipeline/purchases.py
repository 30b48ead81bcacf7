"""All purchases as NumPy arrays, ordered by customer and day: what the rolling engine walks through.

Belongs here: reading them from DuckDB in bounded memory, some 45 bytes a purchase. Does not belong here: measures
(`rolling.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_platform.contracts.features import LABELS
from mlops_platform.storage.duck import quoted
from mlops_platform.storage.read import scalar
from mlops_platform.storage.rows import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Labels:
    """One column of the purchases, whose most frequent value may be asked for.

    Args:
        codes: For each purchase the place of its value in `values`; −1: null.
        values: The distinct values, sorted.
    """

    codes: NDArray[np.int32]
    values: pa.Array


@dataclass(frozen=True, slots=True)
class Purchases:
    """Purchases ordered by customer and day.

    Args:
        customers: Customer ids, sorted by code point.
        starts: For each customer the place of the first purchase; one more entry: the number of purchases.
        customer: For each purchase the customer's place.
        day: Its local day, in days since 1970-01-01.
        cents: Its amount.
        month: Its month number.
        is_weekend: Whether its day is a Saturday or Sunday.
        labels: The columns of `LABELS`.
    """

    customers: pa.Array
    starts: NDArray[np.int64]
    customer: NDArray[np.int32]
    day: NDArray[np.int32]
    cents: NDArray[np.int64]
    month: NDArray[np.int8]
    is_weekend: NDArray[np.bool_]
    labels: Mapping[str, Labels]

    @property
    def rows(self) -> int:
        """Number of purchases."""
        return len(self.day)


def read_purchases(duck: duckdb.DuckDBPyConnection, relation: str) -> Purchases:
    """Reads purchases into arrays.

    Args:
        duck: The connection.
        relation: SQL name of a relation in it with `transform.purchases_expression`'s columns.
    """
    customers = _distinct(duck, relation, "customer_id")
    values = {label: _distinct(duck, relation, label) for label in LABELS}
    joins, cells = "", ""
    for name in LABELS:
        joins += f" LEFT JOIN {quoted(f'distinct {name}')} AS {quoted(f'of {name}')} USING ({quoted(name)})"
        cells += f", coalesce({quoted(f'of {name}')}.place, -1)::INTEGER AS {quoted(name)}"
    rows = scalar(duck, f"SELECT count(*) FROM {relation}")
    batches = duck.sql(
        f"""SELECT of_customer.place::INTEGER AS customer, (transaction_date - DATE '1970-01-01')::INTEGER AS day,
            cents::BIGINT AS cents, month::TINYINT AS month, is_weekend {cells}
        FROM {relation} JOIN "distinct customer_id" AS of_customer USING (customer_id) {joins}"""
    ).to_arrow_reader(BATCH_ROWS)
    columns = _gather(batches, rows)
    starts = np.zeros(len(customers) + 1, np.int64)
    np.cumsum(np.bincount(columns["customer"], minlength=len(customers)), out=starts[1:])
    labels = {name: Labels(columns.pop(name), values[name]) for name in LABELS}
    return Purchases(customers, starts, labels=labels, **columns)


def _distinct(duck: duckdb.DuckDBPyConnection, relation: str, column: str) -> pa.Array:
    """The sorted distinct values of a column; the table `distinct COLUMN` has the place of each."""
    name = quoted(column)
    duck.execute(
        f"CREATE TEMP TABLE {quoted(f'distinct {column}')} AS "
        f"SELECT {name}, row_number() OVER (ORDER BY {name}) - 1 AS place "
        f"FROM (SELECT DISTINCT {name} FROM {relation} WHERE {name} IS NOT NULL)"
    )
    found = duck.sql(f"SELECT {name} FROM {quoted(f'distinct {column}')} ORDER BY place").to_arrow_table()
    return found.column(0).combine_chunks()


def _gather(batches: pa.RecordBatchReader, rows: int) -> dict[str, NDArray[Any]]:
    """The columns as arrays, ordered by customer and day."""
    columns: dict[str, NDArray[Any]] = {
        field.name: np.empty(rows, field.type.to_pandas_dtype()) for field in batches.schema
    }
    filled = 0
    for batch in batches:
        for name, column in columns.items():
            column[filled : filled + batch.num_rows] = batch[name].to_numpy(zero_copy_only=False)
        filled += batch.num_rows
    order = order_by(columns["day"])
    order = order[order_by(columns["customer"][order])]
    for name in columns:
        columns[name] = columns[name][order]
    return columns


def order_by(keys: NDArray[np.int32]) -> NDArray[np.int32]:
    """The places of whole numbers in their order, equal ones as they stand: `argsort(kind="stable")`, by counting.

    Turning a sparse matrix with one entry a row from rows to columns is a counting sort: 10 million numbers take 0.2 s
    instead of 1.5.
    """
    from scipy.sparse import csr_array

    rows = len(keys)
    if not rows:
        return np.empty(0, np.int32)
    smallest = keys.min()
    shape = (rows, int(keys.max()) - int(smallest) + 1)
    ones = np.ones(rows, np.int8)
    found: NDArray[np.int32] = (
        csr_array((ones, keys - smallest, np.arange(rows + 1, dtype=np.int32)), shape).tocsc().indices
    )
    return found
