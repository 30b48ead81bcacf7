"""Deletions: keys the CRM no longer has get one tombstone, and come back in full when the CRM has them again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlops_platform.contracts import BRONZE_TRANSACTIONS
from mlops_platform.data_pipeline.crm import CUSTOMERS, TRANSACTIONS
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.errors import SourceError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.data_pipeline.crms import add, change, customer, make_crm, transaction

START = datetime(2024, 5, 1, 2, tzinfo=UTC)
OLD, RECENT = "2024-03-01 10:00:00", "2024-04-30 10:00:00"


class Crm:
    """A CRM and the home it feeds, one day after the other."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], **options: Any) -> None:
        self.lake = Lake(load_settings(home=folder / "home", **options))
        self.url = make_crm(folder / "crm.db", rows)
        self.days = 0

    def ingest(self, at: datetime | None = None, source: str = "crm") -> dict[str, Any]:
        self.days += 1
        instant = at or START + timedelta(days=self.days)
        draft = new_rows(self.lake, self.url, TRANSACTIONS, source=source, ingested_at=instant)
        self.lake.publish(draft)
        return {name: draft.figures[name] for name in ("new", "tombstones")}

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lake.snapshot(BRONZE_TRANSACTIONS).to_arrow().to_pylist()
        return found

    def living(self) -> list[str]:
        """Keys that are alive, by the rule as one would say it."""
        return sorted({row["transaction_id"] for row in living(self.rows())})


def living(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    died: dict[str, datetime] = {}
    for row in rows:
        if row["_is_tombstone"]:
            died[row["transaction_id"]] = max(row["_ingested_at"], died.get(row["transaction_id"], row["_ingested_at"]))
    epoch = datetime(1, 1, 1, tzinfo=UTC)
    return [
        row for row in rows if not row["_is_tombstone"] and row["_ingested_at"] > died.get(row["transaction_id"], epoch)
    ]


@pytest.fixture
def crm(tmp_path: Path) -> Crm:
    return Crm(tmp_path, [transaction(1), transaction(2, updated_at=RECENT)])


def test_a_deleted_key_gets_one_tombstone(crm: Crm) -> None:
    assert crm.ingest() == {"new": 2, "tombstones": 0}
    change(crm.url, "DELETE FROM transactions WHERE transaction_id = 't1'")
    assert crm.ingest() == {"new": 0, "tombstones": 1}
    (tombstone,) = (row for row in crm.rows() if row["_is_tombstone"])
    at = START + timedelta(days=2)
    assert {name: cell for name, cell in tombstone.items() if cell is not None and name != "_batch_id"} == {
        "transaction_id": "t1",
        "deleted_at": at.isoformat(),
        "_ingested_at": at,
        "_source": "crm",
        "_is_tombstone": True,
    }
    assert crm.ingest() == {"new": 0, "tombstones": 0}
    assert crm.living() == ["t2"]


def test_a_tombstone_leaves_the_watermark(crm: Crm) -> None:
    crm.ingest()
    change(crm.url, "DELETE FROM transactions WHERE transaction_id = 't2'")
    crm.ingest()
    assert crm.lake.properties(BRONZE_TRANSACTIONS)["watermark.crm"] == "2024-04-30"


def test_a_restored_key_comes_back_in_full_though_its_rows_are_old(crm: Crm) -> None:
    crm.ingest()
    change(crm.url, "DELETE FROM transactions WHERE transaction_id = 't1'")
    crm.ingest()
    add(crm.url, "transactions", transaction(1), transaction(1))
    assert crm.ingest() == {"new": 2, "tombstones": 0}
    assert crm.living() == ["t1", "t2"]
    assert crm.ingest() == {"new": 0, "tombstones": 0}
    change(crm.url, "DELETE FROM transactions WHERE transaction_id = 't1'")
    assert crm.ingest() == {"new": 0, "tombstones": 1}
    assert crm.living() == ["t2"]


def test_a_restored_row_within_the_overlap_is_new_too(crm: Crm) -> None:
    crm.ingest()
    change(crm.url, "DELETE FROM transactions WHERE transaction_id = 't2'")
    crm.ingest()
    add(crm.url, "transactions", transaction(2, updated_at=RECENT))
    assert crm.ingest() == {"new": 1, "tombstones": 0}


def test_with_a_clock_that_stands_still(crm: Crm) -> None:
    crm.ingest(START)
    for _ in range(2):
        change(crm.url, "DELETE FROM transactions WHERE transaction_id = 't1'")
        assert crm.ingest(START) == {"new": 0, "tombstones": 1}
        add(crm.url, "transactions", transaction(1))
        assert crm.ingest(START) == {"new": 1, "tombstones": 0}
        assert crm.ingest(START) == {"new": 0, "tombstones": 0}
        assert crm.living() == ["t1", "t2"]


def test_each_source_has_its_own_keys(crm: Crm, tmp_path: Path) -> None:
    crm.ingest()
    crm.url = make_crm(tmp_path / "other.db", [transaction(9)])
    assert crm.ingest(source="web") == {"new": 1, "tombstones": 0}
    assert crm.ingest(source="web") == {"new": 0, "tombstones": 0}


def test_blank_keys_are_no_keys(crm: Crm) -> None:
    add(crm.url, "transactions", transaction(0, transaction_id=None), transaction(0, transaction_id=" "))
    crm.ingest()
    change(crm.url, "DELETE FROM transactions WHERE trim(coalesce(transaction_id, '')) = ''")
    assert crm.ingest() == {"new": 0, "tombstones": 0}


def test_ignored_where_old_rows_are_archived(tmp_path: Path) -> None:
    crm = Crm(tmp_path, [transaction(1), transaction(2)], deletions="ignore")
    crm.ingest()
    change(crm.url, "DELETE FROM transactions WHERE transaction_id = 't1'")
    assert crm.ingest() == {"new": 0, "tombstones": 0}


def test_too_many_at_once_are_a_mistake(tmp_path: Path) -> None:
    crm = Crm(tmp_path, [transaction(n) for n in range(30)])
    crm.ingest()
    change(crm.url, "DELETE FROM transactions WHERE rowid <= 9")
    assert crm.ingest()["tombstones"] == 9
    change(crm.url, "DELETE FROM transactions WHERE rowid <= 19")
    before = crm.rows()
    with pytest.raises(SourceError, match=r"10 of 21 keys .*MLOPS_DELETIONS=ignore.*MLOPS_MAX_DELETED_SHARE"):
        crm.ingest()
    assert crm.rows() == before
    crm.lake = Lake(crm.lake.settings.model_copy(update={"max_deleted_share": 0.5}))
    assert crm.ingest()["tombstones"] == 10


def test_a_crm_that_marks_its_deletions_is_believed(lake: Lake, tmp_path: Path) -> None:
    url = make_crm(tmp_path / "crm.db", customers=[customer(1), customer(2)], has=["customers.deleted_at"])
    lake.publish(new_rows(lake, url, CUSTOMERS, source="crm", ingested_at=START))
    change(url, "DELETE FROM customers WHERE customer_id = 'c2'")
    add(url, "customers", customer(1, deleted_at="2024-04-01", updated_at="2024-04-01"))
    draft = new_rows(lake, url, CUSTOMERS, source="crm", ingested_at=START + timedelta(days=1))
    assert (draft.figures["new"], draft.figures["tombstones"]) == (1, 0)
    assert draft.rows.to_pylist()[0]["deleted_at"] == "2024-04-01"


@given(days=st.lists(st.sets(st.integers(0, 3)), min_size=3, max_size=4))
@settings(derandomize=True, max_examples=3, deadline=None, phases=[Phase.generate])
def test_bronze_always_lives_as_the_crm_does(tmp_path_factory: pytest.TempPathFactory, days: list[set[int]]) -> None:
    # One row of every key lies before the watermark, the other is read every time.
    crm = Crm(tmp_path_factory.mktemp("days"), [])
    for day, keys in enumerate([{0, 1, 2, 3}, *days]):
        change(crm.url, "DELETE FROM transactions")
        for n in keys:
            add(crm.url, "transactions", transaction(n), transaction(n, updated_at=RECENT))
        crm.ingest()
        found = [(row["transaction_id"], row["updated_at"]) for row in living(crm.rows())]
        assert sorted(found) == sorted((f"t{n}", moment) for n in keys for moment in (OLD, RECENT)), day
