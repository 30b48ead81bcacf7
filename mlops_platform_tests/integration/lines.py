"""The line from the CRM to the feature store in processes of their own, killed at any point of their writing.

A point is a moment just before or just after a file is begun or the catalog is asked to commit. Does not belong here:
assertions.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlops_platform.contracts import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    QUARANTINE,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    STANDARD,
    TableContract,
)
from mlops_platform.data_pipeline.crm import SOURCE_TABLES
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import SILVER_TABLES
from mlops_platform.feature_pipeline.load import features_draft
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["filelock", "ibis", "pandera.ibis", "pyiceberg.catalog.sql", "adbc_driver_sqlite.dbapi", __name__]
)
PATIENCE_SECONDS = 120
FEATURE_DATE = date(2024, 3, 31)
START = datetime(2024, 5, 1, tzinfo=UTC)

LINE = (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    QUARANTINE,
    STANDARD.customer_features,
)
# They record the writing itself.
WRITING = frozenset({"_batch_id", "_ingested_at", "_created_at"})


def open_home(home: Path) -> Lake:
    """The tables of a home that takes any share of rejected rows."""
    return Lake(load_settings(home=home, max_rejected_share=1.0, history_start=date(2024, 1, 1)))


def content(lake: Lake, contract: TableContract) -> Counter[tuple[Any, ...]]:
    """A table's rows but for what records the writing, with how often each is there."""
    names = [name for name in contract.column_names if name not in WRITING]
    found = lake.snapshot(contract).to_arrow(names)
    # A tombstone carries the time of the ingestion that missed the row.
    return Counter(
        tuple(
            "gone" if name == "deleted_at" and value else value for name, value in zip(names, row.values(), strict=True)
        )
        for row in found.to_pylist()
    )


def run_line(home: Path, crm: Path, number: int) -> None:
    """Ingests, processes and computes features once; the `number`-th hour is when."""
    lake, at = open_home(home), START + timedelta(hours=number)
    for table in SOURCE_TABLES:
        lake.publish(new_rows(lake, f"sqlite:///{crm}", table, source="crm", ingested_at=at))
    for silver in SILVER_TABLES:
        lake.publish(silver_draft(lake, silver))
    transactions = lake.snapshot(SILVER_TABLES[1].contract)
    lake.publish(features_draft(lake, transactions, [FEATURE_DATE], created_at=at))


def change_crm(crm: Path, number: int) -> None:
    """New, resent, corrected, unusable and deleted rows: the `number`-th change is always the same."""
    with closing(sqlite3.connect(crm)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS customers (customer_id, name, email, signup_date, country, state, city, "
            "updated_at)"
        )
        database.execute(
            "CREATE TABLE IF NOT EXISTS transactions (transaction_id, customer_id, transaction_ts, amount, category, "
            "payment_method, quantity, updated_at)"
        )
        day = date(2024, 1, 2) + timedelta(days=number % 80)
        changed = str(datetime(2024, 4, 1) + timedelta(hours=number))  # noqa: DTZ001 - naive, as a CRM's times are
        customer = f"c{number % 20}"
        database.execute("DELETE FROM customers WHERE customer_id = ?", (customer,))
        database.execute(
            "INSERT INTO customers VALUES (?,'n','e',?,'BR','SP',?,?)", (customer, str(day), number, changed)
        )
        for k in range(3):
            row = (
                f"t{number}-{k}",
                f"c{(number + k) % 20}",
                f"{day} 10:0{k}:00",
                f"{number}.5",
                "a",
                "card",
                1,
                changed,
            )
            database.execute("INSERT INTO transactions VALUES (?,?,?,?,?,?,?,?)", row)
        database.execute(
            "INSERT INTO transactions VALUES (?,?,?,'ten','a','card',1,?)",
            (f"bad{number}", customer, str(day), changed),
        )
        if number % 3 == 0:
            database.execute(
                "UPDATE transactions SET amount = '7', transaction_ts = ?, updated_at = ? WHERE transaction_id = ?",
                (f"{day - timedelta(days=1)} 23:30:00", changed, f"t{number - 3}-1"),
            )
        if number % 4 == 0:
            database.execute("DELETE FROM transactions WHERE transaction_id = ?", (f"t{number - 4}-2",))


def count_points(home: Path, crm: Path, number: int) -> int:
    """Runs the line to its end; the number of points it passed."""
    return int(_in_process(_counting, home, crm, number, 0))


def killed_at(home: Path, crm: Path, number: int, point: int) -> bool:
    """Runs the line and kills it with SIGKILL at its `point`-th point, counted from 1; False if it ended before."""
    return _in_process(_counting, home, crm, number, point) is None


def _in_process(target: Callable[..., None], *arguments: Any) -> Any:
    """What the process sent before it ended; None where SIGKILL ended it."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=target, args=(sender, *arguments), daemon=True)
    process.start()
    sender.close()
    process.join(PATIENCE_SECONDS)
    if process.exitcode == -signal.SIGKILL:
        return None
    if process.exitcode != 0:
        raise RuntimeError(f"the line ended with {process.exitcode}")
    return receiver.recv()


def _counting(answer: Connection, home: Path, crm: Path, number: int, deadly: int) -> None:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.io.pyarrow import PyArrowFile

    passed = 0

    def point() -> None:
        nonlocal passed
        passed += 1
        if passed == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            point()
            result = real(*args, **kwargs)
            point()
            return result

        setattr(owner, name, watched)

    watch(PyArrowFile, "create")
    watch(SqlCatalog, "commit_table")
    watch(SqlCatalog, "create_table")
    run_line(home, crm, number)
    answer.send(passed)
