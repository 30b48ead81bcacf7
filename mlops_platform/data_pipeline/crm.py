"""The CRM as a source: connect, check its tables, find the span of its history, stream rows out of it.

Every column is read as text: types are silver's business, and a single odd cell must not fail the extraction. Does not
belong here: writing to a CRM (`crm_load.py`), deciding what is new (`ingestion.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import BRONZE_CUSTOMERS, BRONZE_TRANSACTIONS, TableContract
from mlops_platform.data_pipeline.text import define_macros
from mlops_platform.errors import InputError, SourceError
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.duck import quoted, session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    import pyarrow as pa

    from mlops_platform.settings import Settings


ISO_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"


@dataclass(frozen=True, slots=True)
class SourceTable:
    """One CRM table and the bronze table it feeds.

    Args:
        name: Table name in the CRM.
        bronze: Contract of the bronze table; its columns but the `_` ones are the CRM's.
        required: Columns without which the table is of no use; the others may be absent and are read as null.
    """

    name: str
    bronze: TableContract
    required: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The CRM's columns."""
        return tuple(name for name in self.bronze.column_names if not name.startswith("_"))


CUSTOMERS = SourceTable("customers", BRONZE_CUSTOMERS, ("customer_id", "updated_at"))
TRANSACTIONS = SourceTable(
    "transactions", BRONZE_TRANSACTIONS, ("transaction_id", "customer_id", "transaction_ts", "amount", "updated_at")
)
SOURCE_TABLES = (CUSTOMERS, TRANSACTIONS)


@dataclass(frozen=True, slots=True)
class HistorySpan:
    """First and last local day with a transaction, and the number of transaction rows."""

    first_day: date
    last_day: date
    rows: int


@contextmanager
def connect(url: str, *, must_exist: bool = True) -> Iterator[Any]:
    """An ADBC connection to a CRM database.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://user@host/database`.
        must_exist: Refuse a SQLite file that is not there, instead of creating it.

    Raises:
        InputError: The URL names no supported database.
        SourceError: The database can't be reached.
    """
    from adbc_driver_manager import Error

    try:
        connection = _open(url, must_exist)
    except Error as error:
        raise SourceError(
            f"the CRM {mask_secrets(url)} can't be reached: {mask_secrets(str(error)).strip()}",
            expected="a database that answers",
            hint="check the address, or make one to try with: mlops crm seed --into sqlite:///crm.db",
        ) from error
    try:
        yield connection
    finally:
        connection.close()


def is_sqlite(url: str) -> bool:
    """Whether the URL names a SQLite file."""
    return url.startswith("sqlite:")


def absolute(url: str) -> str:
    """The URL as it reads from any folder: a relative SQLite path is made absolute."""
    return f"sqlite:///{Path(sqlite_path(url)).absolute()}" if url.startswith("sqlite:///") else url


def span(settings: Settings, url: str) -> HistorySpan:
    """Checks that both tables are there with their columns and rows, and finds the span of the history.

    Raises:
        SourceError: The CRM can't be reached, or lacks a table, a column, any row, or any readable time.
    """
    with connect(url) as connection:
        for table in SOURCE_TABLES:
            check(connection, url, table)
        reader = read(connection, url, TRANSACTIONS, ("transaction_ts",))
        with session(settings) as duck:
            define_macros(duck)
            duck.register("delivered", reader)
            found = duck.execute(
                "SELECT count(*), min(t)::DATE, max(t)::DATE FROM (SELECT readable_time(transaction_ts) t "
                "FROM delivered)"
            ).fetchall()
    rows, first, last = found[0]
    if not rows:
        raise SourceError(
            f"table transactions in the CRM {mask_secrets(url)} is empty",
            expected="at least one transaction",
            hint="load data with: mlops crm import DIR --into URL, or mlops crm seed --into URL",
        )
    if first is None:
        raise SourceError(
            f"column transactions.transaction_ts in the CRM {mask_secrets(url)} holds no readable time in {rows} rows",
            expected="timestamps such as 2024-01-31 13:45:00",
            hint="mend the column's type or format in the CRM, then run this again.",
        )
    return HistorySpan(first, last, rows)


def check(connection: Any, url: str, table: SourceTable) -> frozenset[str]:
    """The table's columns in the CRM.

    Raises:
        SourceError: The table or a required column is missing.
    """
    from adbc_driver_manager import Error

    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {quoted(table.name)} WHERE 1 = 0")
            found = frozenset(column[0] for column in cursor.description)
    except Error as error:
        raise SourceError(
            f"table {table.name} is missing in the CRM {mask_secrets(url)} ({str(error).strip()})",
            expected=f"a table {table.name} with the columns {', '.join(table.columns)}",
            hint="create it, or a view of that name over your own table.",
        ) from error
    missing = [name for name in table.required if name not in found]
    if missing:
        raise SourceError(
            f"table {table.name} in the CRM {mask_secrets(url)} lacks the column(s) {', '.join(missing)}",
            expected=f"the columns {', '.join(table.required)}; found {', '.join(sorted(found))}",
            hint=f"add the columns, or a view named {table.name} that has them.",
        )
    return found


def read(
    connection: Any, url: str, table: SourceTable, columns: tuple[str, ...], *, since: date | None = None
) -> pa.RecordBatchReader:
    """Streams columns of a table as text.

    Args:
        connection: From `connect`.
        url: The CRM's URL, which tells the dialect.
        table: The table.
        columns: Columns wanted; those the CRM lacks come as null.
        since: Only rows whose `updated_at` is null, no ISO text, or on or after this day.
    """
    import pyarrow as pa

    present = check(connection, url, table)
    cells = ", ".join(_text(url, name) if name in present else f"NULL AS {quoted(name)}" for name in columns)
    sql = f"SELECT {cells} FROM {quoted(table.name)}"
    if since is not None:
        # A time that is not ISO text can't be compared as text: such rows are read every time.
        moment = f"CAST({quoted('updated_at')} AS TEXT)"
        placeholder = "?" if is_sqlite(url) else "$1"
        is_iso = f"{moment} GLOB '{_ISO_GLOB}'" if is_sqlite(url) else f"{moment} ~ '{ISO_DAY}'"
        sql += f" WHERE {moment} IS NULL OR NOT ({is_iso}) OR {moment} >= {placeholder}"
    cursor = connection.cursor()
    cursor.execute(sql, (since.isoformat(),) if since is not None else None)
    batches = cursor.fetch_record_batch()
    schema = pa.schema([pa.field(name, pa.string()) for name in columns])

    def stream() -> Iterator[pa.RecordBatch]:
        with cursor:
            for batch in batches:
                yield (
                    _decoded(pa.Table.from_batches([batch]), url, schema).to_batches()[0]
                    if batch.num_rows
                    else (pa.RecordBatch.from_pylist([], schema=schema))
                )

    return pa.RecordBatchReader.from_batches(schema, stream())


def _open(url: str, must_exist: bool) -> Any:
    if is_sqlite(url):
        from adbc_driver_sqlite import dbapi

        path = Path(sqlite_path(url))
        if must_exist and not path.is_file():
            raise SourceError(
                f"the CRM {url} does not exist: no file {path}",
                expected="a SQLite database file",
                hint=f"make one to try with: mlops crm seed --into {url}",
            )
        return dbapi.connect(str(path))
    if url.startswith(("postgresql://", "postgres://")):
        from adbc_driver_postgresql import dbapi as postgresql

        connection = postgresql.connect(url)
        with connection.cursor() as cursor:
            # Text of a timestamptz depends on both; naive timestamps are local business time and stay as they are.
            cursor.execute("SET TIME ZONE 'UTC'")
            cursor.execute("SET DateStyle = ISO")
        return connection
    raise InputError(
        f"{mask_secrets(url)!r} is no CRM address",
        expected="sqlite:///file.db or postgresql://user@host/database",
        hint="pass one with --crm or MLOPS_CRM_URL.",
    )


def sqlite_path(url: str) -> str:
    """The file of a SQLite URL: three slashes before a relative path, four before an absolute one."""
    return url.removeprefix("sqlite://").removeprefix("/") if url.startswith("sqlite:///") else url[len("sqlite:") :]


def _text(url: str, name: str) -> str:
    column = quoted(name)
    if is_sqlite(url):
        # The SQLite driver takes a column's type from the first batch: a batch of nulls would make it an integer and
        # fail at the first text. A marker in front keeps every cell text; `_decoded` takes it off again.
        return f"CASE WHEN {column} IS NULL THEN '' ELSE '=' || CAST({column} AS TEXT) END AS {column}"
    return f"CAST({column} AS TEXT) AS {column}"


def _decoded(batch: pa.Table, url: str, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_sqlite(url):
        return batch.cast(schema).combine_chunks()
    columns = []
    for field in schema:
        column = batch.column(field.name).combine_chunks()
        if not pa.types.is_string(column.type):
            columns.append(pa.nulls(len(column), pa.string()))
            continue
        is_null = pc.equal(column, "")
        columns.append(pc.if_else(is_null, None, pc.utf8_slice_codeunits(column, 1)))
    return pa.Table.from_arrays(columns, schema=schema).combine_chunks()
