"""Rows on their way into a table: an Arrow table where they are few, data files that no snapshot names where many.

Belongs here: deciding between the two, and writing Arrow batches into data files with bounded memory, partition by
partition. Does not belong here: auditing them or making them part of the table (`publish.py`).
"""

from __future__ import annotations

import itertools
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import ContractError
from mlops_platform.storage.catalog import ensure_table, open_catalog, outages
from mlops_platform.storage.duck import parquet_source, quoted, use_files_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import duckdb
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings
    from mlops_platform.storage.branch import Branch

# Rows up to this size stay in memory: auditing and comparing them is then cheaper than writing them.
IN_MEMORY_BYTES = 64 * 2**20
# One data file's rows, and all rows waiting to be written, as Arrow holds them; as many again are being written.
FILE_BYTES = 96 * 2**20
BUFFER_BYTES = 128 * 2**20
# Rows a batch, where DuckDB hands them over: its own million is 150 MB of transactions.
BATCH_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class StagedRows:
    """Rows in data files of a table that none of its states names yet: nobody reads them before a publish commits them.

    Args:
        contract: The table's contract.
        settings: The home.
        files: The data files.
        branch: The branch on which another engine wrote them; None: nothing names them.
    """

    contract: TableContract
    settings: Settings
    files: tuple[DataFile, ...]
    branch: Branch | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return sum(file.record_count for file in self.files)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(file.file_size_in_bytes for file in self.files)

    def discard(self) -> None:
        """Deletes the files; for rows that are not going to be published."""
        with suppress(*outages()):
            _delete(open_catalog(self.settings).load_table(self.contract.name), self.files)


Rows: TypeAlias = pa.Table | StagedRows


def gather(settings: Settings, contract: TableContract, reader: pa.RecordBatchReader) -> Rows:
    """Takes all rows of a stream, in memory up to 64 MB, else into data files with bounded memory.

    A stream into a partitioned table should come sorted by the partition's column, or more files are made than needed.

    Raises:
        ContractError: A column is missing, unknown, of another type, or holds a null where none may be.
    """
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        held.append(batch)
        size += batch.nbytes
        if size > IN_MEMORY_BYTES:
            return stage(settings, contract, itertools.chain(held, reader))
    return pa.Table.from_batches(held, reader.schema)


def stage(settings: Settings, contract: TableContract, batches: Iterable[pa.RecordBatch]) -> StagedRows:
    """Writes batches into data files of the table, which is made if it is not there.

    Raises:
        ContractError: A column is missing, unknown, of another type, or holds a null where none may be.
    """
    table = ensure_table(open_catalog(settings), contract, settings.timezone)
    return StagedRows(contract, settings, tuple(write_files(table, contract, batches)))


def write_files(table: Table, contract: TableContract, batches: Iterable[pa.RecordBatch]) -> list[DataFile]:
    """Writes batches into data files of the table; on any failure the files written so far are deleted."""
    writer = _Writer(table)
    try:
        for batch in batches:
            writer.add(conform_batch(contract, batch))
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


def conform(contract: TableContract, rows: pa.Table) -> pa.Table:
    """The rows in the contract's column order and Arrow types, nulls allowed everywhere.

    Raises:
        ContractError: A column is missing, unknown, or can't be cast without loss.
    """
    schema = arrow_schema(contract)
    missing = [name for name in schema.names if name not in rows.schema.names]
    unknown = [name for name in rows.schema.names if name not in schema.names]
    if missing or unknown:
        raise ContractError(f"{contract.name}: missing columns {missing}, unknown columns {unknown}")
    try:
        return rows.select(schema.names).cast(pa.schema([field.with_nullable(True) for field in schema]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(f"{contract.name}: {error}", expected=f"the columns {schema.names}") from error


def conform_batch(contract: TableContract, batch: pa.RecordBatch) -> pa.Table:
    """A batch in exactly the contract's Arrow schema.

    Raises:
        ContractError: As `conform`, and for a null in a required column.
    """
    rows = conform(contract, pa.Table.from_batches([batch]))
    nulls = {c.name: rows[c.name].null_count for c in contract.columns if not c.nullable and rows[c.name].null_count}
    if nulls:
        found = ", ".join(f"{name}: {count}" for name, count in nulls.items())
        raise ContractError(f"{contract.name} was not written, required columns hold nulls: {found}")
    return rows.cast(arrow_schema(contract))


def register_rows(connection: duckdb.DuckDBPyConnection, name: str, rows: Rows) -> str:
    """Makes rows readable under a name in a DuckDB connection; returns the quoted name."""
    if not isinstance(rows, StagedRows):
        connection.register(name, rows)
        return quoted(name)
    use_files_of(connection, rows.settings)
    source = parquet_source([file.file_path for file in rows.files])
    cells = ", ".join(f"{quoted(c.name)}::{c.type.value} AS {quoted(c.name)}" for c in rows.contract.columns)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT {cells} FROM {source}")
    return quoted(name)


def _delete(table: Table, files: Iterable[DataFile]) -> None:
    """Deletes files nothing refers to; where the store does not answer they are left to maintenance."""
    with suppress(OSError):
        for file in files:
            with suppress(FileNotFoundError):
                table.io.delete(file.file_path)


class _Writer:
    """Buffers rows by partition and writes them out in the background, one group of files at a time."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._fields = table.spec().fields
        self._id, self._counter = uuid.uuid4(), itertools.count()
        self._buffers: dict[tuple[Any, ...], list[pa.RecordBatch]] = {}
        self._sizes: dict[tuple[Any, ...], int] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stage")
        self._running: Future[list[DataFile]] | None = None
        self._files: list[DataFile] = []

    def add(self, rows: pa.Table) -> None:
        """Takes rows; writes when enough are waiting."""
        if not rows.num_rows:
            return
        latest: tuple[Any, ...] = ()
        for latest, part in self._split(rows):
            self._buffers.setdefault(latest, []).extend(part.to_batches())
            self._sizes[latest] = self._sizes.get(latest, 0) + part.nbytes
        full = [key for key, size in self._sizes.items() if size >= FILE_BYTES]
        if sum(self._sizes.values()) >= BUFFER_BYTES:
            # Sorted rows are still coming for the latest partition only.
            full = [key for key in self._sizes if key != latest] or [latest]
        if full:
            self._write(full)

    def finish(self) -> list[DataFile]:
        """Writes what is left and returns all files."""
        if self._buffers:
            self._write(list(self._buffers))
        self._collect()
        self._pool.shutdown()
        return self._files

    def abandon(self) -> None:
        """Deletes every file written."""
        if self._running is not None and self._running.exception() is None:
            self._collect()
        self._pool.shutdown()
        _delete(self._table, self._files)

    def _split(self, rows: pa.Table) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
        """The rows by partition, in the order of the partitions' values."""
        if not self._fields:
            yield (), rows
            return
        schema = self._table.schema()
        values = {}
        for field in self._fields:
            source = schema.find_field(field.source_id)
            values[field.name] = field.transform.pyarrow_transform(source.field_type)(rows[source.name])
        keys = pa.table(values).combine_chunks()
        distinct = keys.group_by(keys.column_names).aggregate([]).num_rows
        starts = _run_starts(keys)
        if len(starts) > distinct:
            order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
            keys, rows = keys.take(order), rows.take(order)
            starts = _run_starts(keys)
        for start, end in itertools.pairwise([*starts, rows.num_rows]):
            yield tuple(keys.slice(start, 1).to_pylist()[0].values()), rows.slice(start, end - start)

    def _write(self, keys: Sequence[tuple[Any, ...]]) -> None:
        tasks = [(key, self._buffers.pop(key)) for key in keys]
        for key in keys:
            del self._sizes[key]
        self._collect()
        self._running = self._pool.submit(self._write_group, tasks)

    def _collect(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            self._files.extend(running.result())

    def _write_group(self, group: list[tuple[tuple[Any, ...], list[pa.RecordBatch]]]) -> list[DataFile]:
        from pyiceberg.io.pyarrow import pyarrow_to_schema, write_file
        from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
        from pyiceberg.table import WriteTask

        metadata = self._table.metadata
        # By name: a table may hold columns that the contract no longer has, which are then null.
        schema = pyarrow_to_schema(group[0][1][0].schema, name_mapping=metadata.schema().name_mapping)
        tasks = [
            WriteTask(
                write_uuid=self._id,
                task_id=next(self._counter),
                schema=schema,
                record_batches=batches,
                partition_key=PartitionKey(
                    [PartitionFieldValue(field, value) for field, value in zip(self._fields, key, strict=True)],
                    self._table.spec(),
                    metadata.schema(),
                )
                if self._fields
                else None,
            )
            for key, batches in group
        ]
        return list(write_file(self._table.io, metadata, iter(tasks)))


def _run_starts(keys: pa.Table) -> list[int]:
    """Where a row's key differs from that of the row before."""
    import numpy as np

    edges = np.zeros(keys.num_rows - 1, dtype=bool)
    for column in keys.columns:
        codes = column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        edges |= codes[1:] != codes[:-1]
    return [0, *(np.flatnonzero(edges) + 1).tolist()]
