"""Reading: snapshots by id, conditions, and a table that holds nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from mlops_platform.contracts import BRONZE_TRANSACTIONS
from mlops_platform.errors import StorageError
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition, all_of_sql
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
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


def test_conditions_as_sql() -> None:
    assert all_of_sql([]) == "true"
    assert all_of_sql([Condition('a"b', "=", "it's"), Condition("n", "<", 3)]) == '"a""b" = \'it\'\'s\' AND "n" < 3'
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert Condition("t", ">", moment).sql() == "\"t\" > TIMESTAMPTZ '2024-01-01T12:00:00+00:00'"
