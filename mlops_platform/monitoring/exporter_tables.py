"""What the exporter reads from the tables: each one's size and newest data, and the figures that stand in some.

A table is read when its snapshot is another than at the last look; until then its figures are kept. Does not belong
here: serving them (`exporter.py`), Dagster's runs (`orchestration/run_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from mlops_platform import contracts
from mlops_platform.monitoring import exporter_rows as rows
from mlops_platform.monitoring.metrics import Family, Figure
from mlops_platform.storage.read import TableSnapshot, scalar

if TYPE_CHECKING:
    from mlops_platform.contracts import TableContract
    from mlops_platform.storage.lake import Lake

_TABLE = ("table",)
ROWS = Family("mlops_table_rows", "Rows of the table.", _TABLE)
FILES = Family("mlops_table_files", "Data files of the table's present state.", _TABLE)
SIZE = Family("mlops_table_size_bytes", "Size of those files.", _TABLE)
COMMITTED = Family("mlops_table_last_commit_timestamp_seconds", "When the table last changed.", _TABLE)
NEWEST = Family(
    "mlops_table_newest_data_timestamp_seconds",
    "Until when the table's data reaches: its newest instant, or the end of its newest local day.",
    _TABLE,
)
FAMILIES = (ROWS, FILES, SIZE, COMMITTED, NEWEST)

# What reads a table that has rows, given its newest day or instant (None where it has no such column).
Reader = Callable[[TableSnapshot, Any], Iterator[Figure]]
_READERS: dict[str, Reader] = {
    contracts.PERFORMANCE.name: rows.performance,
    contracts.PREDICTIONS.name: rows.predictions,
    contracts.DRIFT.name: rows.drift,
    contracts.PROMOTIONS.name: rows.promotions,
    contracts.STANDARD.customer_features.name: rows.features,
}


@dataclass
class TableSource:
    """One table as a source of figures.

    Args:
        lake: Whose table.
        contract: Which table.
    """

    lake: Lake
    contract: TableContract
    _seen: int | None = None
    _figures: tuple[Figure, ...] = field(default=())

    @property
    def name(self) -> str:
        """The table's name."""
        return self.contract.name

    def read(self) -> tuple[Figure, ...]:
        """The figures of the table's present state; none where it was never written."""
        snapshot = self.lake.snapshot(self.contract)
        if snapshot.snapshot_id is None:
            return ()
        if snapshot.snapshot_id != self._seen:
            self._seen = None
            self._figures = tuple(_read(snapshot))
            self._seen = snapshot.snapshot_id
        return self._figures


def table_sources(lake: Lake) -> list[TableSource]:
    """Every table of the home."""
    return [TableSource(lake, contract) for contract in lake.contracts.values()]


def _read(snapshot: TableSnapshot) -> Iterator[Figure]:
    name, column = snapshot.contract.name, time_column(snapshot.contract)
    yield from _state(snapshot, name)
    newest = _newest(snapshot, column) if column is not None else None
    if newest is not None:
        yield NEWEST.figure(_reaches(newest, snapshot).timestamp(), name)
    if name in _READERS and (newest is not None or column is None):
        yield from _READERS[name](snapshot, newest)


def _state(snapshot: TableSnapshot, name: str) -> Iterator[Figure]:
    """What Iceberg itself keeps of the table's present state."""
    state = snapshot.table.current_snapshot() if snapshot.table is not None else None
    if state is None:
        return
    yield COMMITTED.figure(state.timestamp_ms / 1000, name)
    summary = state.summary.additional_properties if state.summary is not None else {}
    for family, key in ((ROWS, "total-records"), (FILES, "total-data-files"), (SIZE, "total-files-size")):
        if key in summary:
            yield family.figure(float(summary[key]), name)


def time_column(contract: TableContract) -> str | None:
    """The column that says how far the table's data reaches; None for a table of mere state."""
    columns = [contract.range_column, *(partition.column for partition in contract.partitions)]
    of_time = {contracts.ColumnType.DATE, contracts.ColumnType.TIMESTAMP}
    return next((name for name in columns if name is not None and contract.column(name).type in of_time), None)


def _newest(snapshot: TableSnapshot, column: str) -> date | datetime | None:
    """The column's largest value, of the files' statistics, or of the rows where a file has none."""
    assert snapshot.table is not None  # noqa: S101 - it has a snapshot
    field_id = snapshot.table.schema().find_field(column).field_id
    tasks = snapshot.table.scan(snapshot_id=snapshot.snapshot_id).plan_files()
    bounds = [(task.file.upper_bounds or {}).get(field_id) for task in tasks]
    if not bounds:
        return None
    known = [int.from_bytes(bound, "little", signed=True) for bound in bounds if bound is not None]
    if len(known) == len(bounds):
        return _value(max(known), snapshot, column)
    with snapshot.relation([column]) as (connection, view):
        found: date | datetime | None = scalar(connection, f"SELECT max({column}) FROM {view}")
        return found


def _value(number: int, snapshot: TableSnapshot, column: str) -> date | datetime:
    """What Iceberg stores as days, or as microseconds, since 1970."""
    if snapshot.contract.column(column).type is contracts.ColumnType.DATE:
        return date(1970, 1, 1) + timedelta(days=number)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=number)


def _reaches(newest: date | datetime, snapshot: TableSnapshot) -> datetime:
    if isinstance(newest, datetime):
        return newest
    return datetime.combine(newest + timedelta(days=1), time(), tzinfo=snapshot.settings.zone)
