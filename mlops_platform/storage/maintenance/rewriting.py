"""Rewriting data files of a table into others with the same rows, or fewer.

By the table's own schema and by field id: a column that the contract no longer has survives, a renamed one is found,
one that a file lacks is null. Does not belong here: which files are rewritten and why (`compaction.py`, erasure).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from mlops_platform.errors import StorageError
from mlops_platform.storage.catalog import column_type, stored_contract
from mlops_platform.storage.commit import PUBLISH_ID
from mlops_platform.storage.content import digest
from mlops_platform.storage.duck import parquet_source
from mlops_platform.storage.publish import PROPERTY_PREFIX
from mlops_platform.storage.rows import BATCH_ROWS, write_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

OPERATION = f"{PROPERTY_PREFIX}operation"


def table_name(table: Table) -> str:
    """`namespace.table`."""
    return ".".join(table.name())


def obstacle(table: Table) -> str | None:
    """Why the table's files can't be rewritten by this platform; None where they can."""
    foreign = [field.name for field in table.schema().fields if column_type(field.field_type) is None]
    if foreign:
        return f"column(s) {', '.join(foreign)} of a type that the platform does not write"
    snapshot = table.current_snapshot()
    if snapshot is not None and any(m.content for m in snapshot.manifests(table.io)):
        return "delete files written by another engine"
    return None


def require_rewritable(table: Table) -> None:
    """Raises where the table's files can't be rewritten.

    Raises:
        StorageError: Another engine gave the table delete files, or a column of a type we don't write.
    """
    found = obstacle(table)
    if found is not None:
        raise StorageError(
            f"{table_name(table)} has {found}",
            expected="data files and columns as the platform writes them",
            hint="rewrite or compact the table with that engine, then run this again.",
        )


def rows_of(table: Table, paths: Sequence[str]) -> str:
    """A `read_parquet` call that gives the files' rows in the table's present columns, matched by field id."""
    columns = ", ".join(
        f"{column.field_id}: {{name: {_text(column.name)}, type: {_text(kind.value)}, default_value: NULL}}"
        for column in table.schema().fields
        if (kind := column_type(column.field_type)) is not None
    )
    return parquet_source(paths, options=f", schema = MAP {{{columns}}}")


def rewrite(
    duck: duckdb.DuckDBPyConnection, table: Table, files: Sequence[DataFile], *, keep: str = "true"
) -> list[DataFile]:
    """Writes the files' rows into new files, in the order they come in, and reads them back.

    Args:
        duck: A session of the home.
        table: The table.
        files: Data files; those of one partition should follow each other.
        keep: SQL condition, never null, of the rows to keep.

    Returns:
        The new files, which no snapshot names yet.

    Raises:
        StorageError: What was written is not what was to be kept; the new files are deleted.
    """
    source = f"(SELECT * FROM {rows_of(table, [file.file_path for file in files])} WHERE {keep})"
    contract = stored_contract(table)
    added = write_files(table, contract, duck.sql(f"FROM {source}").to_arrow_reader(BATCH_ROWS))
    wanted = digest(duck, source, contract.column_names)
    # No file at all is read as one without rows.
    read_back = rows_of(table, [file.file_path for file in added]) if added else f"(FROM {source} LIMIT 0)"
    written = digest(duck, read_back, contract.column_names)
    if written != wanted or sum(file.record_count for file in added) != wanted[0]:
        discard(table, added)
        raise StorageError(
            f"{contract.name}: new files hold {written[0]} rows where {wanted[0]} were to be kept, or other values",
            expected="the same rows before and after",
            hint="check the disk; the table is as it was.",
        )
    return added


def discard(table: Table, files: Sequence[DataFile]) -> None:
    """Deletes files that no snapshot names."""
    for file in files:
        table.io.delete(file.file_path)


def carried(table: Table, operation: str, *, renamed: Mapping[str, str] | None = None) -> dict[str, str]:
    """Snapshot properties of a rewrite: those of the current snapshot, since readers look for them there.

    Args:
        table: The table.
        operation: What is done, as `mlops.operation`.
        renamed: Snapshot ids that another took the place of, old to new, in properties that name a snapshot.
    """
    snapshot = table.current_snapshot()
    found = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
    ours = {key: value for key, value in found.items() if key.startswith(PROPERTY_PREFIX)}
    ids = {key: (renamed or {}).get(value, value) for key, value in ours.items() if key.endswith("-snapshot-id")}
    return ours | ids | {OPERATION: operation, PUBLISH_ID: uuid.uuid4().hex}


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
