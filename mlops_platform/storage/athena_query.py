"""A user's SELECT on Athena itself, checked as `query.py` checks it and handed over as it was understood.

Does not belong here: what is refused (`query_sql.py`), the same on DuckDB (`query.py`), how Athena is spoken to
(`athena.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError
from mlops_platform.storage.athena import connected, noted
from mlops_platform.storage.query_sql import DIALECT, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from mlops_platform.settings import Settings

# Athena's own limit of a page of results.
_PAGE_ROWS = 1_000


@contextmanager
def athena_query(
    settings: Settings, sql: str, *, at: Mapping[str, int | str] | None = None
) -> Iterator[pa.RecordBatchReader]:
    """Runs a user's SELECT on Athena and streams its rows.

    Args:
        settings: The workgroup and the place of results.
        sql: One SELECT over the tables by their full names, such as silver.transactions.
        at: Not taken: a state is named in the statement.

    Raises:
        InputError: A state is given beside the statement, or a table is not there yet.
        QueryError: Not one SELECT, an unknown table, or a function that reaches outside of the tables.
        SettingsError: As `athena.connected`.
        StorageError: AWS refuses, or the query failed there.
    """
    import pyarrow as pa

    if at:
        raise InputError(
            "--at is not for Athena", hint="write silver.transactions FOR VERSION AS OF 123 in the statement."
        )
    statement = parse(sql).sql(dialect=DIALECT)
    with connected(settings) as connection, connection.cursor(arraysize=_PAGE_ROWS) as cursor:
        cursor.execute(statement)
        noted(cursor)
        schema = _schema(cursor.description or ())
        yield pa.RecordBatchReader.from_batches(schema, _batches(cursor, schema))


def _batches(cursor: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    while rows := cursor.fetchmany(_PAGE_ROWS):
        columns = zip(*rows, strict=True)
        cells = [
            pa.array(map(_cell(field.type), column), field.type) for column, field in zip(columns, schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(cells, schema=schema)


def _cell(kind: pa.DataType) -> Any:
    """What makes a cell of a column's type: text of whatever Arrow has no plain type for."""
    import pyarrow as pa

    return (lambda value: value if value is None else str(value)) if pa.types.is_string(kind) else (lambda value: value)


def _schema(described: Sequence[tuple[Any, ...]]) -> pa.Schema:
    import pyarrow as pa

    plain = {
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "double": pa.float64(),
        "float": pa.float32(),
        "integer": pa.int32(),
        "real": pa.float32(),
        "smallint": pa.int16(),
        "timestamp": pa.timestamp("us"),
        "timestamp with time zone": pa.timestamp("us", "UTC"),
        "tinyint": pa.int8(),
        "varbinary": pa.binary(),
    }
    fields = []
    for name, kind, _, _, precision, scale, _ in described:
        of_decimal = pa.decimal128(precision, scale) if kind == "decimal" else pa.string()
        fields.append(pa.field(name, plain.get(kind, of_decimal)))
    return pa.schema(fields)
