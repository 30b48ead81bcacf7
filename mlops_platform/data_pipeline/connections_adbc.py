"""SQLite and PostgreSQL through ADBC: Arrow batches straight from the driver.

Does not belong here: what a database is asked for, and every other database (`connections_alchemy.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from mlops_platform.data_pipeline.connections import ISO_DAY, Selection, Statement, naive, session_variable
from mlops_platform.storage.duck import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack
    from datetime import date

    import pyarrow as pa

    from mlops_platform.data_pipeline.connections import Parameter

_ISO_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
# The driver's own 1024 rows a batch cost more in Python than in SQLite.
_BATCH_ROWS = 50_000
_SYSTEM_SCHEMAS = ("pg_catalog", "information_schema")
_TABLE_TYPES = ("table", "view", "materialized view", "foreign table", "partitioned table")


class _Adbc(ABC):
    """What SQLite and PostgreSQL share: SQL in text, and Arrow batches from the driver."""

    def __init__(self, url: str, connection: Any, stack: ExitStack) -> None:
        import pyarrow as pa
        from adbc_driver_manager import Error

        self.url = url
        self.errors: tuple[type[Exception], ...] = (Error, pa.ArrowException, OSError)
        self._connection = connection
        self._stack = stack
        self._prepare()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Has a function called before the connection closes."""
        self._stack.callback(callback)

    def table_names(self) -> list[str]:
        """The tables and views of all schemas but the system's."""
        found = self._connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        names = []
        for schema in (schema for catalog in found for schema in catalog["catalog_db_schemas"] or []):
            space = schema["db_schema_name"]
            if space not in _SYSTEM_SCHEMAS:
                prefix = f"{space}." if space not in {"", None, "public"} else ""
                tables = schema["db_schema_tables"] or []
                names += [f"{prefix}{table['table_name']}" for table in tables if table["table_type"] in _TABLE_TYPES]
        return sorted(names)

    def columns(self, relation: str | Statement) -> tuple[str, ...]:
        """The relation's columns."""
        with self._connection.cursor() as cursor:
            try:
                self._execute(cursor, f"SELECT * FROM {_relation_sql(relation)} WHERE 1 = 0", _parameters(relation))
            except self.errors:
                # PostgreSQL refuses everything more in a transaction that has failed.
                self._connection.rollback()
                raise
            return tuple(column[0] for column in cursor.description)

    def batches(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Streams the selection as text."""
        cells = (self._cell(name, own) for name, own in selection.cells.items())
        sql = f"SELECT {', '.join(cells)} FROM {_relation_sql(selection.relation)}"
        parameters = _parameters(selection.relation)
        if selection.since is not None:
            sql += f" WHERE {self._recent(quoted(selection.changed), len(parameters) + 1, selection.since)}"
            parameters = (*parameters, selection.since)
        with self._connection.cursor() as cursor:
            self._execute(cursor, sql, parameters)
            for batch in cursor.fetch_record_batch():
                if batch.num_rows:
                    yield self._decoded(batch, list(selection.cells))

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _execute(self, cursor: Any, sql: str, parameters: Sequence[Parameter]) -> None: ...

    @abstractmethod
    def _cell(self, name: str, own: str | None) -> str: ...

    @abstractmethod
    def _recent(self, changed: str, number: int, since: date) -> str: ...

    @abstractmethod
    def _decoded(self, batch: pa.RecordBatch, names: list[str]) -> pa.RecordBatch: ...


class Sqlite(_Adbc):
    """A SQLite file."""

    def _prepare(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = ON")

    def _execute(self, cursor: Any, sql: str, parameters: Sequence[Parameter]) -> None:
        from adbc_driver_sqlite import StatementOptions

        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_ROWS.value: str(_BATCH_ROWS)})
        cursor.execute(sql, [str(naive(value)) for value in parameters] or None)

    def _cell(self, name: str, own: str | None) -> str:
        # The driver takes a column's type from the first batch, where nulls look like integers, and fails at a text
        # that is not UTF-8. As bytes behind a marker every cell has one type; `_decoded` takes the marker off again.
        if own is None:
            return f"X'00' AS {quoted(name)}"
        column = quoted(own)
        marked = f"CAST('=' || CAST({column} AS TEXT) AS BLOB)"
        return f"CASE WHEN {column} IS NULL THEN X'00' ELSE {marked} END AS {quoted(name)}"

    def _recent(self, changed: str, number: int, since: date) -> str:
        # A time that is not ISO text can't be compared as text: such rows are read every time.
        moment = f"CAST({changed} AS TEXT)"
        return f"{moment} IS NULL OR NOT ({moment} GLOB '{_ISO_GLOB}') OR {moment} >= ?{number}"

    def _decoded(self, batch: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = []
        for column in batch.columns:
            marked = column.cast(pa.binary())
            cells = pc.if_else(pc.equal(marked, b"\x00"), None, pc.binary_replace_slice(marked, 0, 1, b""))
            try:
                columns.append(cells.cast(pa.string()))
            except pa.ArrowInvalid:
                texts = [None if cell is None else cell.decode(errors="replace") for cell in cells.to_pylist()]
                columns.append(pa.array(texts, pa.string()))
        return pa.RecordBatch.from_arrays(columns, names)


class Postgres(_Adbc):
    """A PostgreSQL database."""

    def _prepare(self) -> None:
        with self._connection.cursor() as cursor:
            # One state of the database for all that is read, and no way to write it.
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        self._connection.commit()

    def _execute(self, cursor: Any, sql: str, parameters: Sequence[Parameter]) -> None:
        # The driver streams (COPY) only a query without bound parameters, and holds the whole result of any other in
        # memory. So they are bound to session variables first.
        for number, value in enumerate(parameters, start=1):
            cursor.execute("SELECT set_config($1, $2, false)", (session_variable(number), value.isoformat()))
            cursor.fetchall()
        cursor.execute(sql)

    def _cell(self, name: str, own: str | None) -> str:
        return f"CAST({'NULL' if own is None else quoted(own)} AS TEXT) AS {quoted(name)}"

    def _recent(self, changed: str, number: int, since: date) -> str:
        moment = f"CAST({changed} AS TEXT)"
        day = f"current_setting('{session_variable(number)}')"
        return f"{moment} IS NULL OR NOT ({moment} ~ '{ISO_DAY}') OR {moment} >= {day}"

    def _decoded(self, batch: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
        import pyarrow as pa

        return batch.cast(pa.schema([pa.field(name, pa.string()) for name in names]))


def _relation_sql(relation: str | Statement) -> str:
    if isinstance(relation, Statement):
        return f"({relation.sql}) AS mlops_query"
    return ".".join(map(quoted, relation.split(".")))


def _parameters(relation: str | Statement) -> tuple[Parameter, ...]:
    return relation.parameters if isinstance(relation, Statement) else ()
