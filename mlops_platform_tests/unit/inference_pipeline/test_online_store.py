"""The online store: the latest features of every customer, replaced as a whole, and nothing of those forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import NotEnoughDataError, StorageError
from mlops_platform.inference_pipeline.online_store import OnlineStore, forget, materialize
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft

MONDAY, TUESDAY = date(2024, 1, 15), date(2024, 1, 16)


def publish(lake: Lake, day: date, **tenure_days: int) -> None:
    """One row a customer, told apart by its tenure."""
    contract = lake.features.customer_features
    meta = {"feature_date": day, "_feature_version": "v1", "_created_at": datetime(2024, 1, 17, tzinfo=UTC)}
    example = RowSchema.of(lake.settings).example()
    rows = [
        meta | example | {"customer_id": name, "tenure_days": tenure, "_feature_hash": name}
        for name, tenure in tenure_days.items()
    ]
    table = pa.Table.from_pylist(rows, schema=arrow_schema(contract))
    lake.publish(Draft(contract, table, scope=(Condition("feature_date", "=", day),)))


def tenures(store: OnlineStore, *names: str) -> list[int | None]:
    return [None if row is None else row["tenure_days"] for row in store.rows(names)]


@pytest.fixture
def store(lake: Lake) -> OnlineStore:
    return OnlineStore(lake.settings.online_store)


def test_it_holds_the_latest_day_of_each_customer(lake: Lake, store: OnlineStore) -> None:
    publish(lake, TUESDAY, C1=2, C2=20)
    publish(lake, MONDAY, C1=1, C3=30)
    state = materialize(lake)
    assert (state.feature_date, state.customers) == (TUESDAY, 2)
    assert store.state() == state
    assert tenures(store, "C2", "C1", "C3", " C1\t") == [20, 2, None, 2]
    (row,) = store.rows(["C1"])
    assert row is not None
    # Types and all, as the schema of a request wants them.
    schema = RowSchema.of(lake.settings)
    assert schema.check({name: row[name] for name in schema.names}) == (schema.example() | {"tenure_days": 2}, {})


def test_a_reader_follows_the_next_day(lake: Lake, store: OnlineStore) -> None:
    publish(lake, MONDAY, C1=1)
    materialize(lake)
    assert tenures(store, "C1", "C2") == [1, None]
    publish(lake, TUESDAY, C1=2, C2=3)
    materialize(lake)
    assert tenures(store, "C1", "C2") == [2, 3]


def test_again_it_writes_nothing(lake: Lake) -> None:
    publish(lake, MONDAY, C1=1)
    first = materialize(lake)
    before = lake.settings.online_store.stat()
    assert materialize(lake) == first
    assert lake.settings.online_store.stat().st_ino == before.st_ino
    assert before.st_mode & 0o777 == 0o600


def test_a_killed_writer_leaves_the_old_state_and_its_draft_goes(
    lake: Lake, store: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(lake, MONDAY, C1=1)
    materialize(lake)
    publish(lake, TUESDAY, C1=2)
    left = lake.settings.online_store.with_name(f".{lake.settings.online_store.name}.dead")
    left.write_text("half of a store")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("mlops_platform.inference_pipeline.online_store._describe", lambda *_: 1 / 0)
        materialize(lake)
    assert tenures(store, "C1") == [1]
    assert [path.name for path in lake.settings.online_store.parent.iterdir()] == ["online-store.db"]
    materialize(lake)
    assert tenures(store, "C1") == [2]


def test_a_damaged_store_is_said_and_made_anew(lake: Lake, store: OnlineStore) -> None:
    publish(lake, MONDAY, C1=1)
    materialize(lake)
    path: Path = lake.settings.online_store
    path.unlink()
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StorageError, match="can't be read"):
        store.rows(["C1"])
    materialize(lake)
    assert tenures(store, "C1") == [1]


def test_no_store_and_no_features(lake: Lake, store: OnlineStore) -> None:
    assert store.state() is None
    with pytest.raises(StorageError, match="there is no online store yet"):
        store.rows(["C1"])
    with pytest.raises(NotEnoughDataError):
        materialize(lake)
    assert forget(lake.settings, ["C1"]) == 0


def test_a_forgotten_customer_is_not_in_the_file(lake: Lake, store: OnlineStore) -> None:
    publish(lake, MONDAY, **{"forgotten-one": 1, "C2": 2})
    materialize(lake)
    assert forget(lake.settings, [" forgotten-one", "nobody"]) == 1
    assert tenures(store, "forgotten-one", "C2") == [None, 2]
    state = store.state()
    assert state is not None
    assert state.customers == 1
    assert b"forgotten-one" not in lake.settings.online_store.read_bytes()
    assert forget(lake.settings, ["forgotten-one"]) == 0


def test_its_age_is_counted_from_the_newest_day_there_can_be(lake: Lake) -> None:
    publish(lake, MONDAY, C1=1)
    state = materialize(lake)
    assert [state.age_days(date(2024, 1, day)) for day in (15, 16, 17, 20)] == [0, 0, 1, 4]


def test_numbers_keep_every_bit(lake: Lake, store: OnlineStore) -> None:
    publish(lake, MONDAY, C1=2**31 - 1)
    materialize(lake)
    (row,) = store.rows(["C1"])
    assert row is not None
    assert row["tenure_days"] == 2**31 - 1
    with closing(sqlite3.connect(lake.settings.online_store)) as connection:
        assert connection.execute("SELECT typeof(churn_score) FROM customers").fetchall() == [("real",)]
