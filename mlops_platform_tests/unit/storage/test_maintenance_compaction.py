"""Compaction: fewer files, the same rows, and nothing else that a reader could notice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import Column, ColumnType, TableContract
from mlops_platform.errors import StorageError
from mlops_platform.storage.content import digest
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import TableUpkeep, compaction, maintain, rewriting
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.unit.storage.things import APPEND, FEB, JAN, RANGE, rows

NOW = datetime.now(UTC)


def append(lake: Lake, *things: str, contract: TableContract = APPEND, **cells: Any) -> int:
    """Appends things, which makes one file for each month; returns the snapshot."""
    properties = {"watermark.crm": "2024-01-31", "bronze-snapshot-id": "7"}
    return int(lake.publish(Draft(contract, rows(*things, **cells), properties=properties)).snapshot_id or 0)


def many(lake: Lake, number: int, **cells: Any) -> None:
    for n in range(number):
        append(lake, f"{n}a", f"{n}b", **cells)


def upkeep(lake: Lake, contract: TableContract = APPEND, **arguments: Any) -> TableUpkeep:
    """Maintains now; what was done to the table."""
    done = maintain(lake, **{"now": NOW, "keep": (), **arguments})
    return next(entry for entry in done if entry.table == contract.name)


def files(lake: Lake, contract: TableContract = APPEND) -> list[str]:
    found = lake.snapshot(contract).table
    assert found is not None
    return [task.file.file_path for task in found.scan().plan_files()]


def content(lake: Lake, contract: TableContract = APPEND) -> tuple[Any, ...]:
    with lake.snapshot(contract).relation() as (duck, view):
        return digest(duck, view, contract.column_names)


def test_small_files_of_a_partition_become_one(lake: Lake) -> None:
    many(lake, 5)
    before, old = content(lake), lake.snapshot(APPEND)
    assert (upkeep(lake).files_before, len(files(lake))) == (5, 1)
    assert content(lake) == before
    assert old.count() == 10
    things = lake.snapshot(APPEND).to_arrow(["thing"])["thing"].to_pylist()
    assert things == ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b", "4a", "4b"]


def test_a_second_pass_does_nothing(lake: Lake) -> None:
    many(lake, 5)
    upkeep(lake)
    snapshot = lake.snapshot(APPEND).snapshot_id
    assert upkeep(lake) == TableUpkeep(APPEND.name)
    assert lake.snapshot(APPEND).snapshot_id == snapshot


def test_partitions_with_few_or_large_files_stay(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    many(lake, 3)
    many(lake, 4, day=FEB)
    january = [path for path in files(lake) if "2024-01" in path]
    assert upkeep(lake).files_before == 4
    assert set(january) < set(files(lake))
    many(lake, 4)
    monkeypatch.setattr(compaction, "SMALL_BYTES", 1)
    assert upkeep(lake).files_before == 0


def test_what_readers_look_up_in_the_snapshot_is_carried_on(lake: Lake) -> None:
    many(lake, 4)
    before = lake.properties(APPEND)
    upkeep(lake)
    after = lake.properties(APPEND)
    assert after.pop("publish-id") != before.pop("publish-id")
    assert after == {**before, "operation": "compact"}
    assert "watermark.crm" in after


def test_columns_of_other_times_survive(lake: Lake) -> None:
    """One that the contract has no longer, one that the older files lack."""
    many(lake, 2)
    weight = Column("weight", ColumnType.INT, "Its weight", nullable=True)
    heavier = replace(APPEND, columns=(*APPEND.columns, weight))
    for n in range(2):
        offered = rows(f"w{n}").append_column("weight", pa.array([n], pa.int32()))
        lake.publish(Draft(heavier, offered))
    assert upkeep(lake).files_before == 4
    assert len(files(lake)) == 1
    found = lake.snapshot(heavier).to_arrow(["thing", "weight"], order_by=["thing"])
    assert found["weight"].to_pylist() == [None, None, None, None, 0, 1]


def test_a_column_renamed_by_another_engine_keeps_its_values(lake: Lake) -> None:
    many(lake, 4, colour="blue")
    table = lake.catalog.load_table(APPEND.name)
    with table.update_schema() as update:
        update.rename_column("colour", "paint")
    upkeep(lake)
    renamed = replace(
        APPEND, columns=tuple(replace(c, name="paint") if c.name == "colour" else c for c in RANGE.columns)
    )
    assert set(lake.snapshot(renamed).to_arrow(["paint"])["paint"].to_pylist()) == {"blue"}


def test_types_of_another_engine_are_left_alone(lake: Lake) -> None:
    from pyiceberg.types import BinaryType

    many(lake, 4)
    table = lake.catalog.load_table(APPEND.name)
    with table.update_schema() as update:
        update.add_column("picture", BinaryType())
    assert upkeep(lake).files_before == 0
    assert lake.snapshot(APPEND).count() == 8


def test_a_rewrite_into_no_fewer_files_is_thrown_away(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    many(lake, 4)
    before, snapshot = files(lake), lake.snapshot(APPEND).snapshot_id
    monkeypatch.setattr("mlops_platform.storage.rows.FILE_BYTES", 1)
    monkeypatch.setattr("duckdb.DuckDBPyRelation.to_arrow_reader", one_row_at_a_time)
    assert (upkeep(lake).files_before, files(lake)) == (0, before)
    assert lake.snapshot(APPEND).snapshot_id == snapshot
    location = lake.settings.warehouse / "test" / "appended" / "data"
    assert len(list(location.rglob("*.parquet"))) == len(before)


def one_row_at_a_time(relation: Any, _rows: int) -> Any:
    found = relation.to_arrow_table()
    return pa.RecordBatchReader.from_batches(found.schema, found.to_batches(max_chunksize=1))


def test_other_rows_than_were_read_are_never_committed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    many(lake, 4)
    before, snapshot = content(lake), lake.snapshot(APPEND).snapshot_id
    real = rewriting.write_files

    def losing(table: Any, contract: TableContract, batches: Any) -> Any:
        return real(table, contract, (batch.slice(1) for batch in batches))

    monkeypatch.setattr(rewriting, "write_files", losing)
    with pytest.raises(StorageError, match=r"test\.appended: new files hold 4 rows where 8 were"):
        upkeep(lake)
    assert lake.snapshot(APPEND).snapshot_id == snapshot
    assert content(lake) == before


def test_a_dry_run_says_what_a_run_does_and_changes_nothing(lake: Lake) -> None:
    many(lake, 5)
    many(lake, 4, day=FEB)
    later = {"now": NOW + timedelta(days=60)}
    home = lake.settings.home
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    said = maintain(lake, **later, keep=(), dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == before
    assert maintain(lake, **later, keep=()) == said
    entry = said[0]
    assert (entry.files_before, entry.files_after, entry.snapshots_expired) == (9, 2, 8)
    assert entry.orphans > 0
    assert content(lake)[0] == 18


def test_publishing_goes_on_afterwards(lake: Lake) -> None:
    for day in (JAN, date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)):
        append(lake, "x", day=day, contract=APPEND)
    upkeep(lake)
    append(lake, "y")
    assert lake.snapshot(APPEND).count() == 5
