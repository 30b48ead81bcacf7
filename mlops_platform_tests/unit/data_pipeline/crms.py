"""CRM databases made by hand, for the tests of reading, ingesting and loading one.

Does not belong here: tests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mlops_platform.data_pipeline.connections import sqlite_path
from mlops_platform.data_pipeline.crm import CUSTOMERS, TRANSACTIONS


def transaction(number: int, **cells: Any) -> dict[str, Any]:
    """A good transaction; `cells` override columns."""
    moment = "2024-03-01 10:00:00"
    row = {"transaction_id": f"t{number}", "customer_id": "c1", "transaction_ts": moment, "amount": "10.00"}
    return {**row, "category": "books", "payment_method": "card", "quantity": "1", "updated_at": moment, **cells}


def customer(number: int, **cells: Any) -> dict[str, Any]:
    """A good customer; `cells` override columns."""
    row = {"customer_id": f"c{number}", "name": "Ana", "email": "ana@example.com", "signup_date": "2024-01-01"}
    return {**row, "country": "BR", "state": "SP", "city": "Campinas", "updated_at": "2024-01-01 00:00:00", **cells}


def make_crm(
    path: Path,
    transactions: Sequence[dict[str, Any]] = (),
    customers: Sequence[dict[str, Any]] = (),
    *,
    lacks: Sequence[str] = (),
    has: Sequence[str] = (),
) -> str:
    """A SQLite CRM with untyped columns, tables and `table.column`s in `lacks` left out; returns its URL.

    `deleted_at` is there only if `has` names it: few CRMs have it.
    """
    url = f"sqlite:///{path}"
    with closing(sqlite3.connect(path)) as database, database:
        for table in (CUSTOMERS, TRANSACTIONS):
            absent = {f"{table.name}.deleted_at", *lacks} - set(has)
            columns = [name for name in table.columns if f"{table.name}.{name}" not in absent]
            if table.name not in lacks:
                database.execute(f"CREATE TABLE {table.name} ({', '.join(columns)})")
    add(url, "transactions", *transactions)
    add(url, "customers", *customers)
    return url


def add(url: str, table: str, *rows: dict[str, Any]) -> None:
    """Inserts rows into a table of the CRM."""
    with closing(sqlite3.connect(sqlite_path(url))) as database, database:
        for row in rows:
            marks = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def change(url: str, statement: str) -> None:
    """Runs a statement in the CRM."""
    with closing(sqlite3.connect(sqlite_path(url))) as database, database:
        database.execute(statement)


def query(url: str, sql: str) -> list[Any]:
    """Rows of a query."""
    with closing(sqlite3.connect(sqlite_path(url))) as database:
        return database.execute(sql).fetchall()
