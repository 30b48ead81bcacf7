"""Ingestion: only what is new, nothing twice, nothing lost, and the watermark that remembers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.data_pipeline.crm import CUSTOMERS, TRANSACTIONS, SourceTable
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import TRANSACTIONS as SILVER_TABLE
from mlops_platform.errors import ConflictError, SourceError
from mlops_platform.settings import load_settings
from mlops_platform.storage import rows
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import PublishResult
from mlops_platform_tests.unit.data_pipeline.crms import add, change, customer, make_crm, transaction

FIRST, SECOND = datetime(2024, 5, 1, 2, tzinfo=UTC), datetime(2024, 5, 2, 2, tzinfo=UTC)
CHANGED = "2024-03-01 10:00:00"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return make_crm(tmp_path / "crm.db", [transaction(1), transaction(2)])


def ingest(
    lake: Lake, url: str, at: datetime = FIRST, *, table: SourceTable = TRANSACTIONS, source: str = "crm"
) -> PublishResult:
    """Ingests one table; `rows` of the result are those of the batch, not of the table."""
    draft = new_rows(lake, url, table, source=source, ingested_at=at)
    return replace(lake.publish(draft), rows=draft.rows.num_rows)


def held(lake: Lake) -> list[str]:
    return sorted(lake.snapshot(TRANSACTIONS.bronze).to_arrow(["transaction_id"])["transaction_id"].to_pylist())


def later(number: int, **cells: Any) -> dict[str, Any]:
    return transaction(number, **{"transaction_ts": "2024-04-01", "updated_at": "2024-04-01 08:00:00", **cells})


def test_rows_arrive_as_delivered_with_when_and_where_from(lake: Lake, tmp_path: Path) -> None:
    odd = transaction(1, transaction_ts="soon", amount="", category=None, quantity=" 2 ")
    url = make_crm(tmp_path / "crm.db", [odd])
    draft = new_rows(lake, url, TRANSACTIONS, source="shop", ingested_at=FIRST)
    lake.publish(draft)
    (row,) = lake.snapshot(TRANSACTIONS.bronze).to_arrow().to_pylist()
    lineage = {"_ingested_at": FIRST, "_batch_id": draft.figures["batch_id"], "_source": "shop", "_is_tombstone": None}
    assert row == {**odd, "deleted_at": None, **lineage}


def test_twice_adds_nothing(lake: Lake, url: str) -> None:
    first, again = ingest(lake, url), ingest(lake, url, SECOND)
    assert (first.rows, first.is_new) == (2, True)
    assert (again.rows, again.is_new, again.snapshot_id) == (0, False, first.snapshot_id)


def test_only_new_and_changed_rows_are_added(lake: Lake, url: str) -> None:
    ingest(lake, url)
    add(url, "transactions", later(3), later(1, amount="11.00"))
    assert ingest(lake, url, SECOND).rows == 2
    assert held(lake) == ["t1", "t1", "t2", "t3"]
    batches = Counter(lake.snapshot(TRANSACTIONS.bronze).to_arrow(["_ingested_at"])["_ingested_at"].to_pylist())
    assert batches == {FIRST: 2, SECOND: 2}


def test_equal_rows_are_kept_as_often_as_they_are_delivered(lake: Lake, url: str) -> None:
    add(url, "transactions", transaction(1), transaction(1))
    assert ingest(lake, url).rows == 4
    add(url, "transactions", transaction(1))
    assert ingest(lake, url, SECOND).rows == 1
    assert Counter(held(lake)) == {"t1": 4, "t2": 1}
    assert not ingest(lake, url, SECOND).is_new


def test_a_row_without_a_time_of_change_is_always_looked_at(lake: Lake, url: str) -> None:
    ingest(lake, url)
    add(url, "transactions", transaction(3, updated_at=None))
    assert ingest(lake, url, SECOND).rows == 1
    assert not ingest(lake, url, SECOND).is_new


def test_late_rows_within_the_overlap_arrive(lake: Lake, url: str) -> None:
    add(url, "transactions", later(3))
    ingest(lake, url)
    add(url, "transactions", later(4, updated_at="2024-03-30 00:00:00"))
    assert ingest(lake, url, SECOND).rows == 1


def test_the_watermark_is_the_latest_day_of_change_and_saves_reading(lake: Lake, url: str) -> None:
    ingest(lake, url)
    assert lake.properties(TRANSACTIONS.bronze)["watermark.crm"] == "2024-03-01"
    add(url, "transactions", later(3))
    draft = new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=SECOND)
    assert draft.figures.items() >= {"since": "2024-02-28", "delivered": 3, "new": 1}.items()
    lake.publish(draft)
    assert lake.properties(TRANSACTIONS.bronze)["watermark.crm"] == "2024-04-01"
    draft = new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=SECOND)
    assert draft.figures.items() >= {"since": "2024-03-30", "delivered": 1, "new": 0}.items()


def test_the_watermark_is_a_day_of_the_business_time_zone(tmp_path: Path) -> None:
    there = Lake(load_settings(home=tmp_path / "home", timezone="America/Sao_Paulo"))
    ingest(there, make_crm(tmp_path / "crm.db", [transaction(1, updated_at="2024-03-01T01:00:00Z")]))
    assert there.properties(TRANSACTIONS.bronze)["watermark.crm"] == "2024-02-29"


def test_without_any_time_of_change_everything_is_read_every_time(lake: Lake, tmp_path: Path) -> None:
    url = make_crm(tmp_path / "crm.db", [transaction(n, updated_at=("", "soon", None)[n % 3]) for n in range(6)])
    ingest(lake, url)
    add(url, "transactions", transaction(6, updated_at="soon"))
    assert ingest(lake, url, SECOND).rows == 1
    assert len(held(lake)) == 7


def test_the_batch_id_is_that_of_what_the_batch_was_computed_from(lake: Lake, url: str) -> None:
    def batch(source: str = "crm", at: datetime = FIRST) -> object:
        return new_rows(lake, url, TRANSACTIONS, source=source, ingested_at=at).figures["batch_id"]

    first = batch()
    assert batch() == first
    assert len({first, batch(source="other"), batch(at=SECOND)}) == 3
    ingest(lake, url)
    assert batch() != first


def test_customers_are_ingested_the_same_way(lake: Lake, tmp_path: Path) -> None:
    url = make_crm(tmp_path / "crm.db", customers=[customer(1), customer(2)])
    assert ingest(lake, url, table=CUSTOMERS).rows == 2
    add(url, "customers", customer(1, city="Santos", updated_at=CHANGED))
    assert ingest(lake, url, SECOND, table=CUSTOMERS).rows == 1
    assert lake.snapshot(CUSTOMERS.bronze).count() == 3


def test_a_broken_crm_changes_nothing(lake: Lake, url: str, tmp_path: Path) -> None:
    first = ingest(lake, url)
    with pytest.raises(SourceError, match="lacks the column"):
        ingest(lake, make_crm(tmp_path / "broken.db", lacks=["transactions.amount"]), SECOND)
    assert lake.snapshot(TRANSACTIONS.bronze).snapshot_id == first.snapshot_id


def test_a_first_load_too_large_for_memory_is_staged(
    lake: Lake, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 100)
    draft = new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=FIRST)
    assert isinstance(draft.rows, rows.StagedRows)
    assert draft.properties == {"watermark.crm": "2024-03-01"}
    assert lake.publish(draft).rows == 2
    add(url, "transactions", later(3))
    second = new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=SECOND)
    assert isinstance(second.rows, rows.StagedRows)
    assert lake.publish(second).rows == 3
    assert held(lake) == ["t1", "t2", "t3"]


class TestLost:
    """Rows that a delivery brings and ingestion does not see."""

    @pytest.mark.parametrize("changed", ["", "01/06/2024"])
    def test_a_later_row_whose_time_of_change_is_unreadable(self, lake: Lake, url: str, changed: str) -> None:
        ingest(lake, url)
        add(url, "transactions", later(3, updated_at=changed))
        assert ingest(lake, url, SECOND).rows == 1
        assert not ingest(lake, url, SECOND).is_new

    def test_rows_after_one_with_a_time_in_the_far_future(self, lake: Lake, tmp_path: Path) -> None:
        url = make_crm(tmp_path / "crm.db", [transaction(1), transaction(2, updated_at="2999-01-01")])
        ingest(lake, url)
        add(url, "transactions", later(3))
        assert ingest(lake, url, SECOND).rows == 1

    def test_rows_after_one_changed_at_infinity(self, lake: Lake, tmp_path: Path) -> None:
        url = make_crm(tmp_path / "crm.db", [transaction(1), transaction(2, updated_at="infinity")])
        ingest(lake, url)
        add(url, "transactions", later(3))
        assert ingest(lake, url, SECOND).rows == 1

    def test_rows_of_a_second_source(self, lake: Lake, url: str, tmp_path: Path) -> None:
        add(url, "transactions", later(3))
        ingest(lake, url, source="shop")
        other = make_crm(tmp_path / "other.db", [transaction(8), later(9), later(3)])
        assert ingest(lake, other, source="web").rows == 3

    def test_rows_of_two_ingestions_at_a_time_are_held_once(self, lake: Lake, url: str) -> None:
        # Both read before either publishes.
        drafts = [new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=at) for at in (FIRST, SECOND)]
        lake.publish(drafts[0])
        with pytest.raises(ConflictError, match="changed by another run"):
            lake.publish(drafts[1])
        assert held(lake) == ["t1", "t2"]
        assert not ingest(lake, url, SECOND).is_new


@pytest.mark.parametrize("updated_at", [None, "2024-01-01", "01/02/2024"])
def test_a_row_changed_back_counts_though_its_time_of_change_stays(
    lake: Lake, tmp_path: Path, updated_at: str | None
) -> None:
    url = make_crm(tmp_path / "back.db", [transaction(n, amount="1", updated_at=updated_at) for n in (1, 2)])
    seen = []
    for amount in ("1", "2", "1", "1"):
        change(url, f"UPDATE transactions SET amount = '{amount}' WHERE transaction_id = 't1'")
        # The clock stands still.
        draft = new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=FIRST)
        lake.publish(draft)
        lake.publish(silver_draft(lake, SILVER_TABLE))
        held = lake.snapshot(SILVER_TABLE.contract).to_arrow(["transaction_id", "amount"]).to_pylist()
        seen.append((draft.figures["new"], {row["transaction_id"]: int(row["amount"]) for row in held}["t1"]))
    assert seen == [(2, 1), (1, 2), (1, 1), (0, 1)]


def test_a_key_delivered_twice_is_not_delivered_for_ever(lake: Lake, tmp_path: Path) -> None:
    url = make_crm(tmp_path / "twice.db", [transaction(1, amount="1"), transaction(1, amount="2")])
    for number, new in enumerate((2, 0, 0)):
        draft = new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=FIRST + timedelta(days=number))
        lake.publish(draft)
        assert draft.figures["new"] == new
