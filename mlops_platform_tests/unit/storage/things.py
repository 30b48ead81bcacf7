"""A small table for the storage tests, one of each way of replacing.

Does not belong here: tests.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mlops_platform.contracts import Column, ColumnType, Partition, Replace, TableContract
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.publish import Draft

JAN, FEB = date(2024, 1, 31), date(2024, 2, 1)
AT = datetime(2024, 3, 1, tzinfo=UTC)

RANGE = TableContract(
    name="test.by_range",
    description="Things by day.",
    columns=(
        Column("thing", ColumnType.STRING, "The thing"),
        Column("day", ColumnType.DATE, "The day"),
        Column("price", ColumnType.MONEY, "Money"),
        Column("size", ColumnType.DOUBLE, "Its size", nullable=True, ge=0, le=100),
        Column("colour", ColumnType.STRING, "Its colour", nullable=True, isin=("red", "blue")),
        Column("length", ColumnType.DOUBLE, "Its length, of any sign", nullable=True),
        Column("_at", ColumnType.TIMESTAMP, "When it was written"),
    ),
    key=("thing", "day"),
    partitions=(Partition("day", "month"),),
    replace=Replace.RANGE,
    range_column="day",
    volatile=frozenset({"_at"}),
)
TABLE = replace(RANGE, name="test.whole", replace=Replace.TABLE, range_column=None)
APPEND = replace(RANGE, name="test.appended", replace=Replace.NOTHING, range_column=None, key=())


def rows(*things: str, day: date = JAN, at: datetime = AT, **cells: Any) -> pa.Table:
    """A row for each thing; `cells` override columns."""
    row = {"day": day, "price": Decimal("9.99"), "size": 1.5, "colour": "red", "length": -2.5, "_at": at, **cells}
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema(RANGE)])
    return pa.Table.from_pylist([{"thing": thing, **row} for thing in things], schema=schema)


def on(day: date) -> tuple[Condition, ...]:
    """The range of one day."""
    return (Condition("day", "=", day),)


def draft(*things: str, day: date = JAN, **cells: Any) -> Draft:
    """Things of one day for the range table."""
    return Draft(RANGE, rows(*things, day=day, **cells), scope=on(day))
