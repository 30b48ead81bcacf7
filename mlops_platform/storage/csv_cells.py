"""Texts as CSV cells: one that a spreadsheet would run as a formula gets a quote in front.

Parquet keeps every text as it is. Does not belong here: writing files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# How a formula starts, for some program: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_BLANKS = " \u00a0"
_PATTERN = f"^[{_BLANKS}]*[" + "".join(f"\\{sign}" if sign == "-" else sign for sign in _FORMULA) + "]"


def csv_cell(text: str) -> str:
    """The text, with a leading quote if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.lstrip(_BLANKS).startswith(_FORMULA) else text


def csv_cells(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same for every text of a batch and for its columns' names."""
    import pyarrow as pa

    columns = [_cells(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=[csv_cell(name) for name in batch.schema.names])


def csv_schema(schema: pa.Schema) -> pa.Schema:
    """What `csv_cells` makes of a schema."""
    import pyarrow as pa

    return pa.schema([field.with_name(csv_cell(field.name)).remove_metadata() for field in schema])


def _cells(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    quoted = pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type))
    return pc.if_else(pc.match_substring_regex(column, _PATTERN), quoted, column)
