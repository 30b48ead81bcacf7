"""Users' SQL over the tables: one SELECT in Athena's dialect, parsed, checked, and run on DuckDB.

Does not belong here: SQL of our own (Ibis, or written beside the step that uses it).
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.contracts import ALL_CONTRACTS
from mlops_platform.errors import InputError, QueryError
from mlops_platform.storage.duck import session
from mlops_platform.storage.read import register

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from sqlglot import exp

    from mlops_platform.storage.lake import Lake

DIALECT = "athena"
_TABLES = {contract.name: contract for contract in ALL_CONTRACTS}


@contextmanager
def query(lake: Lake, sql: str) -> Iterator[pa.RecordBatchReader]:
    """Runs a user's SELECT and streams its rows.

    Args:
        lake: The home's tables.
        sql: One SELECT in Athena's SQL over the tables by their full names, such as silver.transactions.

    Raises:
        QueryError: Not one SELECT, an unknown table or column, or a function that reads files.
    """
    import duckdb

    statement = parse(sql)
    with session(lake.settings) as connection:
        for name in _replace_tables(statement):
            register(connection, lake.snapshot(_TABLES[name]))
        # What was parsed reads our tables only; DuckDB is told to hold to that too.
        connection.execute(f"SET allowed_directories = ['{_quoted_path(lake)}']")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            reader = connection.sql(statement.sql(dialect="duckdb")).to_arrow_reader()
        except duckdb.Error as error:
            raise QueryError(
                str(error).split("\n\nLINE")[0].strip(),
                hint='`mlops query "SELECT * FROM TABLE LIMIT 1"` shows a table\'s columns.',
            ) from error
        yield reader


def parse(sql: str) -> exp.Query:
    """The statement, if it is one SELECT over known tables.

    Raises:
        QueryError: It is not.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = [s for s in sqlglot.parse(sql, dialect=DIALECT) if s is not None]
    except SqlglotError as error:
        raise QueryError(f"the SQL can't be read: {str(error).splitlines()[0]}", expected="one SELECT") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise QueryError(
            f"{len(statements)} statement(s), the first a {statements[0].key.upper() if statements else 'nothing'}",
            expected="one SELECT; tables change through the pipelines only",
        )
    statement = statements[0]
    if statement.find(exp.Into, exp.DML, exp.DDL):
        raise QueryError("the SQL writes", expected="one SELECT; tables change through the pipelines only")
    named_here = {cte.alias_or_name.lower() for cte in statement.find_all(exp.CTE)}
    for table in statement.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise QueryError(f"{table.sql(dialect=DIALECT)} is no table", expected="tables by name, no functions")
        if _name(table) not in _TABLES and not (not table.db and table.name.lower() in named_here):
            raise QueryError(
                f"there is no table {table.sql(dialect=DIALECT)}", expected=f"one of {', '.join(sorted(_TABLES))}"
            )
    return statement


def write(reader: pa.RecordBatchReader, path: Path) -> int:
    """Streams rows into a Parquet or CSV file; the file appears when it is complete.

    Returns:
        The number of rows.

    Raises:
        InputError: The path ends in neither .parquet nor .csv, or can't be written.
    """
    import pyarrow.csv
    import pyarrow.parquet

    makers = {".parquet": pyarrow.parquet.ParquetWriter, ".csv": pyarrow.csv.CSVWriter}
    if path.suffix not in makers:
        raise InputError(f"{path} has no known format", expected="a path ending in .parquet or .csv")
    draft = path.with_name(f".{path.name}.tmp")
    rows = 0
    try:
        with makers[path.suffix](str(draft), reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows
        draft.replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}", expected="a folder this user can write") from error
    finally:
        draft.unlink(missing_ok=True)
    return rows


def _replace_tables(statement: exp.Query) -> set[str]:
    """Points every table at its view; returns the tables used."""
    from sqlglot import exp

    used: set[str] = set()
    for table in list(statement.find_all(exp.Table)):
        name = _name(table)
        if name not in _TABLES:
            continue
        used.add(name)
        alias = table.alias or table.name
        view = exp.Table(this=exp.to_identifier(name, quoted=True), alias=exp.TableAlias(this=exp.to_identifier(alias)))
        table.replace(view)
    for column in statement.find_all(exp.Column):
        column.set("db", None)
    return used


def _name(table: exp.Table) -> str:
    # Athena's names are case-insensitive.
    return (f"{table.db}.{table.name}" if table.db else str(table.name)).lower()


def _quoted_path(lake: Lake) -> str:
    return str(lake.settings.warehouse).replace("'", "''")
