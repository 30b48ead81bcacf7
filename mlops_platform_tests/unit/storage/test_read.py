"""Reading: snapshots by id, conditions, and a table that holds nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import BRONZE_TRANSACTIONS, Column, ColumnType, Partition
from mlops_platform.errors import StorageError
from mlops_platform.settings import load_settings
from mlops_platform.storage import read as reading
from mlops_platform.storage.conditions import Condition, all_of_sql, all_time
from mlops_platform.storage.duck import session
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot, data_files, planned_files, register
from mlops_platform_tests.unit.storage.things import AT, FEB, JAN, RANGE, draft, on, rows


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three things: a on the last of January, b and o'clock on the first of February."""
    lake = Lake(load_settings(home=tmp_path_factory.mktemp("filled")))
    lake.publish(draft("a", size=1.0))
    lake.publish(
        Draft(RANGE, pa.concat_tables([rows("b", day=FEB), rows("o'clock", day=FEB, size=3.0)]), scope=on(FEB))
    )
    return lake


def test_a_table_that_was_never_written_reads_as_empty(lake: Lake) -> None:
    snapshot = lake.snapshot(RANGE)
    assert (snapshot.snapshot_id, snapshot.count()) == (None, 0)
    assert snapshot.to_arrow().schema.names == list(RANGE.column_names)
    assert lake.snapshot(BRONZE_TRANSACTIONS).to_arrow().num_rows == 0


def test_every_snapshot_stays_readable(lake: Lake) -> None:
    ids = [lake.publish(draft(*names)).snapshot_id for names in (["a"], ["a", "b"], [], ["c"])]
    expected = [["a"], ["a", "b"], [], ["c"]]
    for snapshot_id, names in zip(ids, expected, strict=True):
        assert sorted(lake.snapshot(RANGE, snapshot_id=snapshot_id).to_arrow()["thing"].to_pylist()) == names


def test_a_held_snapshot_does_not_change(lake: Lake) -> None:
    lake.publish(draft("a"))
    held = lake.snapshot(RANGE)
    lake.publish(draft("b"))
    assert held.to_arrow()["thing"].to_pylist() == ["a"]
    assert lake.snapshot(RANGE).to_arrow()["thing"].to_pylist() == ["b"]


def test_an_unknown_snapshot_is_an_error(lake: Lake) -> None:
    with pytest.raises(StorageError, match="no snapshot 5"):
        lake.snapshot(RANGE, snapshot_id=5)
    lake.publish(draft("a"))
    with pytest.raises(StorageError, match="no snapshot 5"):
        lake.snapshot(RANGE, snapshot_id=5)


def test_a_state_by_the_name_of_a_tag(lake: Lake) -> None:
    first = lake.publish(draft("a")).snapshot_id
    lake.publish(draft("a", "b"))
    now = lake.snapshot(RANGE)
    assert first is not None and now.table is not None
    now.table.manage_snapshots().create_tag(first, "one").commit()
    assert (now.at("one").snapshot_id, now.at("one").count(), now.at("main").count()) == (first, 1, 2)
    with pytest.raises(StorageError, match=r"no tag or branch 'two'. Expected: one of main, one"):
        now.at("two")


def test_a_state_by_an_instant(lake: Lake) -> None:
    with pytest.raises(StorageError, match="no snapshot as old"):
        lake.snapshot(RANGE).as_of(datetime.now(UTC))
    lake.publish(draft("a"))
    before = datetime.now(UTC)
    while datetime.now(UTC) - before < timedelta(milliseconds=2):
        pass
    lake.publish(draft("a", "b"))
    now = lake.snapshot(RANGE)
    assert (now.as_of(before).count(), now.as_of(datetime.now(UTC)).count()) == (1, 2)
    with pytest.raises(StorageError, match="no snapshot as old as 2001-01-01"):
        now.as_of(datetime(2001, 1, 1, tzinfo=UTC))


def test_the_files_a_read_opens(filled: Lake) -> None:
    snapshot = filled.snapshot(RANGE)
    whole, january = planned_files(snapshot), planned_files(snapshot, on(JAN))
    assert (january.files, whole.files) == (1, 2)
    assert 0 < january.bytes < whole.bytes
    assert planned_files(filled.snapshot(RANGE, where=on(JAN))) == january


def test_the_files_another_engine_reads_hold_the_rows(filled: Lake) -> None:
    files = data_files(filled.snapshot(RANGE))
    names = [pq.read_table(path.removeprefix("file://"), columns=["thing"])["thing"].to_pylist() for path in files]
    assert sorted(names) == [["a"], ["b", "o'clock"]]
    assert data_files(filled.snapshot(RANGE, where=on(JAN))) == [files[names.index(["a"])]]
    assert data_files(replace(filled.snapshot(RANGE), snapshot_id=None)) == []


def test_files_with_deleted_rows_are_not_handed_out(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "planned", lambda *_: [mock.Mock(delete_files=set()), mock.Mock(delete_files={"a"})])
    with pytest.raises(StorageError, match="has delete files"):
        data_files(filled.snapshot(RANGE))


def test_tables_with_delete_files_are_read_side_by_side(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    # The platform writes no delete files, so a scan is made to report one; the rows then come through PyIceberg.
    def scan(snapshot: TableSnapshot, conditions: Sequence[Condition]) -> Any:
        found = planned(snapshot, conditions)
        return mock.Mock(wraps=found, plan_files=lambda: [mock.Mock(delete_files={"a file"})])

    planned = reading._scan
    monkeypatch.setattr(reading, "_scan", scan)
    snapshot = filled.snapshot(RANGE)
    with session(filled.settings) as connection:
        january = register(connection, snapshot, view="january", columns=["thing"], where=on(JAN))
        february = register(connection, snapshot, view="february", columns=["thing"], where=on(FEB))
        rows = [connection.sql(f"SELECT thing FROM {view} ORDER BY 1").fetchall() for view in (january, february)]
    assert rows == [[("a",)], [("b",), ("o'clock",)]]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition("day", "=", JAN), ["a"]),
        (Condition("day", ">", JAN), ["b", "o'clock"]),
        (Condition("day", ">=", JAN), ["a", "b", "o'clock"]),
        (Condition("day", "<", FEB), ["a"]),
        (Condition("day", "<=", JAN), ["a"]),
        (Condition("day", "in", (JAN, date(2024, 5, 1))), ["a"]),
        (Condition("thing", "=", "o'clock"), ["o'clock"]),
        (Condition("thing", "in", ("b", "o'clock")), ["b", "o'clock"]),
        (Condition("size", ">=", 2), ["o'clock"]),
        (Condition("_at", "=", AT), ["a", "b", "o'clock"]),
        (Condition("_at", "=", AT.astimezone(timezone(timedelta(hours=9)))), ["a", "b", "o'clock"]),
        (Condition("_at", "<", AT), []),
        (Condition("day", "=", date(1999, 1, 1)), []),
    ],
)
def test_conditions_filter_rows(filled: Lake, condition: Condition, expected: list[str]) -> None:
    found = filled.snapshot(RANGE).to_arrow(["thing"], where=[condition], order_by=["thing"])
    assert found["thing"].to_pylist() == expected
    assert filled.snapshot(RANGE, where=[condition]).count() == len(expected)


def test_conditions_of_the_snapshot_and_of_the_read_both_hold(filled: Lake) -> None:
    february = filled.snapshot(RANGE, where=on(FEB))
    assert february.count() == 2
    assert february.count([Condition("thing", "=", "b")]) == 1
    assert february.count([Condition("thing", "=", "a")]) == 0


def test_a_condition_may_be_on_a_column_that_is_not_read(filled: Lake) -> None:
    assert filled.snapshot(RANGE).to_arrow(["thing"], where=on(JAN)).to_pylist() == [{"thing": "a"}]


def test_a_catalog_that_nobody_has_any_more_holds_no_connection(tmp_path: Path) -> None:
    catalog: Any = Lake(load_settings(home=tmp_path)).catalog
    engine = catalog.engine
    assert engine.pool.checkedin() == 1
    del catalog
    gc.collect()
    assert engine.pool.checkedin() == 0


def test_a_long_query_draws_nothing_into_the_output(tmp_path: Path) -> None:
    # `-c`, as in a worker, is where DuckDB sees a person at a terminal.
    code = (
        "from mlops_platform.settings import load_settings; from mlops_platform.storage.duck import session\n"
        f"with session(load_settings(home={str(tmp_path)!r})) as duck:\n"
        "    print(duck.sql(\"SELECT current_setting('enable_progress_bar')\").fetchall())"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout == "[(False,)]\n"


def test_conditions_as_sql() -> None:
    assert all_of_sql([]) == "true"
    assert all_of_sql([Condition('a"b', "=", "it's"), Condition("n", "<", 3)]) == '"a""b" = \'it\'\'s\' AND "n" < 3'
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert Condition("t", ">", moment).sql() == "\"t\" > TIMESTAMPTZ '2024-01-01T12:00:00+00:00'"


def test_of_many_scattered_days_only_their_files_are_opened(lake: Lake) -> None:
    contract = replace(
        RANGE,
        name="test.by_moment",
        columns=(*RANGE.columns, Column("ts", ColumnType.TIMESTAMP, "When")),
        partitions=(Partition("ts", "day"),),
        range_column="ts",
    )
    days = [datetime(2020, 1, 1, 12, tzinfo=UTC) + timedelta(days=number) for number in range(60)]
    table = pa.concat_tables(rows(f"t{n}").append_column("ts", pa.array([day])) for n, day in enumerate(days))
    lake.publish(Draft(contract, table, scope=all_time("ts")))
    chosen = Condition("ts", "day in", tuple(day.date() for day in days[::3]))
    assert planned_files(lake.snapshot(contract), [chosen]).files == 20
    assert lake.snapshot(contract).count([chosen]) == 20
