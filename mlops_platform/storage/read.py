"""Reading tables: a `TableSnapshot` is one state of one table, handed from step to step instead of its rows.

DuckDB reads the data files that Iceberg planned, so that filters and projections are pushed down and memory stays
bounded. Does not belong here: SQL typed by users (`query.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import StorageError
from mlops_platform.storage.conditions import Condition, all_of, all_of_sql
from mlops_platform.storage.duck import contract_cells, parquet_source, quoted, session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import duckdb
    import pyarrow as pa
    from pyiceberg.table import DataScan, FileScanTask, Table
    from pyiceberg.table.metadata import TableMetadata

    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings

# A relation without rows, and its columns.
_NOTHING: tuple[str, set[str]] = ("(SELECT 1 WHERE false)", set())


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """One state of one table: cheap to hold and to pass on, read when used.

    Args:
        contract: The table's contract.
        snapshot_id: The Iceberg snapshot; None: the table holds nothing yet.
        settings: Where and how to read.
        table: The Iceberg table; None where it was never created.
        where: Conditions every read of this snapshot adds, such as one partition.
    """

    contract: TableContract
    snapshot_id: int | None
    settings: Settings
    table: Table | None
    where: tuple[Condition, ...] = ()

    @contextmanager
    def relation(
        self, columns: Sequence[str] | None = None, where: Sequence[Condition] = ()
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """A DuckDB connection and the name of a view of this snapshot in it.

        Args:
            columns: Columns to read; None: all.
            where: Conditions that must all hold; they prune files and filter rows.
        """
        with session(self.settings) as connection:
            yield connection, register(connection, self, columns=columns, where=where)

    def to_arrow(
        self, columns: Sequence[str] | None = None, where: Sequence[Condition] = (), order_by: Sequence[str] = ()
    ) -> pa.Table:
        """The rows as an Arrow table in the contract's types."""
        import pyarrow as pa

        from mlops_platform.contracts.schemas import arrow_schema

        with self.relation(columns, where) as (connection, view):
            order = f" ORDER BY {', '.join(map(quoted, order_by))}" if order_by else ""
            found = connection.sql(f"SELECT * FROM {view}{order}").to_arrow_table()
        schema = arrow_schema(self.contract)
        return found.cast(pa.schema([schema.field(name).with_nullable(True) for name in found.column_names]))

    def at(self, state: int | str) -> TableSnapshot:
        """Another state of the same table.

        Args:
            state: A snapshot id, or the name of an Iceberg tag or branch.

        Raises:
            StorageError: The table has no such snapshot, tag or branch.
        """
        if isinstance(state, str):
            return replace(self, snapshot_id=self._referenced(state))
        if self.table is None or self.table.snapshot_by_id(state) is None:
            raise StorageError(f"{self.contract.name} has no snapshot {state}", hint="it may have been expired.")
        return replace(self, snapshot_id=state)

    def as_of(self, moment: datetime) -> TableSnapshot:
        """The state the table had at an instant.

        Raises:
            StorageError: The table was first written later, or what it held then has been expired.
        """
        millis = int(moment.timestamp() * 1000)
        snapshot = self.table.snapshot_as_of_timestamp(millis) if self.table is not None else None
        if snapshot is None:
            raise StorageError(
                f"{self.contract.name} has no snapshot as old as {moment.isoformat()}", hint="it may have been expired."
            )
        return self.at(snapshot.snapshot_id)

    def _referenced(self, name: str) -> int:
        refs = self.table.refs() if self.table is not None else {}
        if name not in refs:
            raise StorageError(
                f"{self.contract.name} has no tag or branch {name!r}",
                expected=f"one of {', '.join(sorted(refs))}" if refs else "a tag; the table has none",
            )
        return refs[name].snapshot_id

    def count(self, where: Sequence[Condition] = ()) -> int:
        """Number of rows."""
        with self.relation(where=where) as (connection, view):
            return int(scalar(connection, f"SELECT count(*) FROM {view}"))


def scalar(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Any = None) -> Any:
    """The single value of a query that returns one row."""
    rows = connection.execute(sql, parameters).fetchall()
    return rows[0][0] if rows else None


@dataclass(frozen=True, slots=True)
class PlannedFiles:
    """Data files a read opens: their number and their size in bytes."""

    files: int
    bytes: int


def planned_files(snapshot: TableSnapshot, where: Sequence[Condition] = ()) -> PlannedFiles:
    """The files a read of the snapshot with these conditions opens."""
    conditions = (*snapshot.where, *where)
    scan = _scan(snapshot, conditions)
    sizes = [task.file.file_size_in_bytes for task in planned(scan, conditions)] if scan is not None else []
    return PlannedFiles(len(sizes), sum(sizes))


def data_files(snapshot: TableSnapshot) -> list[str]:
    """Addresses of the files that hold the snapshot's rows, for an engine that reads them itself.

    Files hold other rows too: the engine has to filter by `snapshot.where`.

    Raises:
        StorageError: Some rows in them are deleted, which only Iceberg's delete files say.
    """
    scan = _scan(snapshot, snapshot.where)
    tasks = planned(scan, snapshot.where) if scan is not None else []
    if any(task.delete_files for task in tasks):
        raise StorageError(
            f"{snapshot.contract.name} has delete files, which another engine has written",
            expected="data files that hold the table's rows and no other",
            hint="rewrite the table without them, in the engine that wrote them.",
        )
    return [task.file.file_path for task in tasks]


def register(
    connection: duckdb.DuckDBPyConnection,
    snapshot: TableSnapshot,
    *,
    view: str | None = None,
    columns: Sequence[str] | None = None,
    where: Sequence[Condition] = (),
) -> str:
    """Makes a view of the snapshot in the connection; returns the view's quoted name.

    Files written before a column was added are read by name, with null for what they lack. The platform writes no
    delete files; a table that got some from another engine is read through PyIceberg instead.
    """
    name = quoted(view or snapshot.contract.name)
    wanted = tuple(columns) if columns is not None else snapshot.contract.column_names
    conditions = (*snapshot.where, *where)
    scan = _scan(snapshot, conditions)
    tasks = planned(scan, conditions) if scan is not None else []
    if scan is None or not tasks:
        source, present = _NOTHING
    elif any(task.delete_files for task in tasks):
        needed = {*wanted, *(condition.column for condition in conditions)}
        rows = scan.select(*(known for known in scan.projection().column_names if known in needed)).to_arrow()
        # Each view has rows of its own: one statement may read several such tables.
        scanned = f"scanned for {view or snapshot.contract.name}"
        connection.register(scanned, rows)
        source, present = quoted(scanned), set(rows.column_names)
    else:
        source, present = _read_files(connection, snapshot, [task.file.file_path for task in tasks])
    sql = _rows_sql(snapshot.contract, wanted, (source, present), conditions)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")
    return name


def register_difference(
    connection: duckdb.DuckDBPyConnection, before: TableSnapshot, after: TableSnapshot, columns: Sequence[str]
) -> tuple[str, str]:
    """Makes a view each of the rows in files that only one of two states of a table has; returns their names.

    A row that is in a file of each view has only been written again.
    """
    scans = [_scan(snapshot, snapshot.where) for snapshot in (before, after)]
    found = [planned(scan, before.where) if scan is not None else [] for scan in scans]
    if any(task.delete_files for tasks in found for task in tasks):
        return (
            register(connection, before, view="before", columns=columns),
            register(connection, after, view="after", columns=columns),
        )
    paths = [{task.file.file_path for task in tasks} for tasks in found]
    views = ("before", "after")
    for view, snapshot, own, other in zip(views, (before, after), paths, reversed(paths), strict=True):
        only = sorted(own - other)
        relation = _read_files(connection, snapshot, only) if only else _NOTHING
        sql = _rows_sql(snapshot.contract, columns, relation, snapshot.where)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(view)} AS {sql}")
    return quoted("before"), quoted("after")


def _rows_sql(
    contract: TableContract, columns: Sequence[str], relation: tuple[str, Collection[str]], where: Sequence[Condition]
) -> str:
    """The columns of a relation of data files, which has these columns, in the contract's types."""
    source, present = relation
    cells = contract_cells(contract, set(present))
    return f"SELECT {', '.join(map(quoted, columns))} FROM (SELECT {cells} FROM {source}) WHERE {all_of_sql(where)}"


def _scan(snapshot: TableSnapshot, conditions: Sequence[Condition]) -> DataScan | None:
    if snapshot.table is None or snapshot.snapshot_id is None:
        return None
    # A file planned through the snapshot's own schema; a column added since is null in every one of its rows.
    known = snapshot.table.scan(snapshot_id=snapshot.snapshot_id).projection().column_names
    planned = [condition for condition in conditions if condition.column in known]
    return snapshot.table.scan(row_filter=all_of(planned), snapshot_id=snapshot.snapshot_id)


def planned(scan: DataScan, conditions: Sequence[Condition]) -> list[FileScanTask]:
    """The scan's files, less those whose partition is a day that a `day in` among the conditions leaves out."""
    tasks = list(scan.plan_files())
    table = scan.table_metadata
    for condition in conditions:
        days = condition.days()
        specs = {} if days is None else _day_places(table, condition.column)
        if not specs:
            continue
        wanted = {(day - date(1970, 1, 1)).days for day in days or ()}
        tasks = [
            task
            for task in tasks
            if (place := specs.get(task.file.spec_id)) is None or task.file.partition[place] in wanted
        ]
    return tasks


def _day_places(metadata: TableMetadata, column: str) -> dict[int, int]:
    """For each partition spec that cuts the column by day: where in a partition that day stands."""
    from pyiceberg.transforms import DayTransform

    source = metadata.schema().find_field(column).field_id
    return {
        spec.spec_id: place
        for spec in metadata.partition_specs
        for place, part in enumerate(spec.fields)
        if part.source_id == source and isinstance(part.transform, DayTransform)
    }


def _read_files(
    connection: duckdb.DuckDBPyConnection, snapshot: TableSnapshot, paths: Sequence[str]
) -> tuple[str, set[str]]:
    """A `read_parquet` call over the files, and the columns it has.

    `union_by_name` opens every file once more while planning, so it is used only where the schema has changed.
    """
    assert snapshot.table is not None  # noqa: S101 - files were planned from it
    if len(snapshot.table.schemas()) == 1:
        return parquet_source(paths), {field.name for field in snapshot.table.schema().fields}
    source = parquet_source(paths, options=", union_by_name = true")
    return source, set(connection.sql(f"SELECT * FROM {source} LIMIT 0").columns)
