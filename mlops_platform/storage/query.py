"""Users' SQL over the tables: one SELECT in Athena's dialect, checked, translated, and run on DuckDB.

Belongs here: the calls others make (`query`, `explain`, `write`). Does not belong here: what is refused
(`query_sql.py`), what Athena means (`query_translate.py`), which state is read (`query_states.py`) and which files of
it (`pushdown.py`); SQL of our own (Ibis, or written beside the step that uses it).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError
from mlops_platform.storage.csv_cells import csv_cells, csv_schema
from mlops_platform.storage.duck import session
from mlops_platform.storage.query_sql import parse
from mlops_platform.storage.query_states import readable, resolve
from mlops_platform.storage.query_translate import Translation, as_query_error, translate
from mlops_platform.storage.read import PlannedFiles, planned_files, register

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pyarrow as pa
    from sqlglot import exp

    from mlops_platform.contracts import TableContract
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.query_states import States


@dataclass(frozen=True, slots=True)
class TableRead:
    """What a statement reads at one place where it names a table.

    Args:
        table: The table's name.
        alias: Its name in the statement.
        snapshot_id: The Iceberg snapshot; None: the table holds nothing yet.
        columns: The columns read.
        conditions: The conditions Iceberg plans files by, as SQL.
        planned: The files opened.
        total: The files of the snapshot.
    """

    table: str
    alias: str
    snapshot_id: int | None
    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    planned: PlannedFiles
    total: PlannedFiles

    def texts(self) -> tuple[str, str, str, str]:
        """Table and snapshot, columns, conditions, and files, for a person."""
        alias = f" {self.alias}" if self.alias != self.table.rpartition(".")[2] else ""
        state = f"at {self.snapshot_id}" if self.snapshot_id is not None else "never written"
        files = f"{self.planned.files:,} of {self.total.files:,}"
        size = f"{self.planned.bytes:,} of {self.total.bytes:,} B"
        return f"{self.table}{alias}\n{state}", ", ".join(self.columns), "\n".join(self.conditions), f"{files}\n{size}"


@contextmanager
def query(lake: Lake, sql: str, *, at: States | None = None) -> Iterator[pa.RecordBatchReader]:
    """Runs a user's SELECT and streams its rows.

    Args:
        lake: The home's tables.
        sql: One SELECT in Athena's SQL over the tables by their full names, such as silver.transactions.
        at: Tables to read in another state than their last: a snapshot id, or the name of a tag or branch. A
            FOR VERSION or FOR TIMESTAMP in the statement goes first.

    Raises:
        QueryError: Not one SELECT, an unknown table or column, a function that reaches outside of the tables, or a
            value that can't be computed; the last also while rows stream.
        StorageError: A table has no such state.
    """
    import duckdb

    found, contracts = _translated(lake, sql)
    with session(lake.settings) as connection:
        for number, (use, snapshot) in enumerate(resolve(lake, found.statement, contracts, connection, at)):
            view = f"{use.contract.name} {number}"
            register(
                connection,
                snapshot,
                view=view,
                columns=use.columns or use.contract.column_names[:1],
                where=use.conditions,
            )
            _point_at(use.node, view)
        confine(connection, lake)
        try:
            reader = connection.sql(_duckdb_sql(found.statement)).to_arrow_reader()
        except duckdb.Error as error:
            raise as_query_error(error) from error
        yield _renamed(reader, found)


def explain(lake: Lake, sql: str, *, at: States | None = None) -> list[TableRead]:
    """What a user's SELECT would read, without running it.

    Args:
        lake: The home's tables.
        sql: One SELECT in Athena's SQL.
        at: As for `query`.

    Raises:
        QueryError: As for `query`, but for faults that only rows show.
        StorageError: A table has no such state.
    """
    found, contracts = _translated(lake, sql)
    with session(lake.settings) as connection:
        return [
            TableRead(
                table=use.contract.name,
                alias=use.node.alias,
                snapshot_id=snapshot.snapshot_id,
                columns=use.columns,
                conditions=tuple(condition.sql() for condition in use.conditions),
                planned=planned_files(snapshot, use.conditions),
                total=planned_files(snapshot),
            )
            for use, snapshot in resolve(lake, found.statement, contracts, connection, at)
        ]


def _translated(lake: Lake, sql: str) -> tuple[Translation, dict[str, TableContract]]:
    statement = parse(sql)
    contracts = readable(lake, statement)
    return translate(statement, contracts), contracts


def write(reader: pa.RecordBatchReader, path: Path) -> int:
    """Streams rows into a Parquet or CSV file; the file appears when it is complete.

    In CSV a text that a spreadsheet would run as a formula gets a quote in front.

    Returns:
        The number of rows.

    Raises:
        InputError: The path ends in neither .parquet nor .csv, can't be written, or the format has no place for a type.
    """
    import pyarrow.csv
    import pyarrow.parquet

    makers = {".parquet": pyarrow.parquet.ParquetWriter, ".csv": pyarrow.csv.CSVWriter}
    if path.suffix not in makers:
        raise InputError(f"{path} has no known format", expected="a path ending in .parquet or .csv")
    is_csv = path.suffix == ".csv"
    schema = csv_schema(reader.schema) if is_csv else reader.schema
    draft = path.with_name(f".{path.name}.tmp")
    rows = 0
    try:
        with fitting(path.suffix), makers[path.suffix](str(draft), schema) as writer:
            for batch in reader:
                writer.write_batch(csv_cells(batch) if is_csv else batch)
                rows += batch.num_rows
        draft.replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}", expected="a folder this user can write") from error
    finally:
        draft.unlink(missing_ok=True)
    return rows


@contextmanager
def fitting(form: str) -> Iterator[None]:
    """Says what to do when rows are written in a form that can't hold them.

    Raises:
        InputError: Arrow refused a type.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InputError(
            f"{form} has no place for a column's type: {error}",
            hint="CAST the column to a type it has, such as VARCHAR.",
        ) from error


def _point_at(table: exp.Table, view: str) -> None:
    """Makes a table of the statement the view; with its schema named, no CTE can take its place."""
    from sqlglot import exp

    table.set("this", exp.to_identifier(view, quoted=True))
    table.set("db", exp.to_identifier("main"))
    table.set("catalog", exp.to_identifier("temp"))
    table.set("version", None)


def confine(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """What was parsed reads our tables only; DuckDB is told to hold to that too, and to stay so."""
    folder = lake.settings.warehouse_location.removeprefix("file://").replace("'", "''")
    connection.execute("SET python_enable_replacements = false")
    connection.execute(f"SET allowed_directories = ['{folder}']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _duckdb_sql(statement: exp.Query) -> str:
    from sqlglot import ErrorLevel

    # sqlglot warns of differences that a session in the business time zone does not have; DuckDB judges the rest.
    return statement.sql(dialect="duckdb", unsupported_level=ErrorLevel.IGNORE)


def _renamed(reader: pa.RecordBatchReader, found: Translation) -> pa.RecordBatchReader:
    """The rows under names that are Athena's, each once: Arrow's readers by name would drop the second of two."""
    import duckdb
    import pyarrow as pa

    names: list[str] = []
    for name in found.names or reader.schema.names:
        taken = {other.lower() for other in names}
        number, unique = 0, name
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        except (OSError, duckdb.Error) as error:
            raise as_query_error(error) from error

    return pa.RecordBatchReader.from_batches(schema, batches())
