"""Bronze to silver: typing, the latest version, the quarantine, and the checks that go with a draft.

Does not belong here: the comparison with the oracle (`properties/test_silver.py`).
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    QUARANTINE,
    TableContract,
)
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import SILVER_TABLES, STANDARD, transformation
from mlops_platform.errors import ContractError, InputError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft, PublishResult
from mlops_platform_tests.unit.data_pipeline.crms import customer, transaction

AT = datetime(2024, 5, 1, tzinfo=UTC)
SILVER = {table.bronze.name: table for table in SILVER_TABLES}


@pytest.fixture
def lenient(tmp_path: Path) -> Lake:
    """A home where any share of rejected rows may pass."""
    return Lake(load_settings(home=tmp_path / "home", max_rejected_share=1.0))


def deliver(lake: Lake, contract: TableContract, *rows: dict[str, Any], at: datetime = AT) -> None:
    raw = [name for name in contract.column_names if not name.startswith("_")]
    columns: dict[str, Any] = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in raw}
    added = {"_ingested_at": at, "_batch_id": f"{at:%j}", "_source": "crm", "_is_tombstone": False}
    columns |= {name: [row.get(name, value) for row in rows] for name, value in added.items()}
    lake.publish(Draft(contract, pa.table(columns)))


def process(lake: Lake, contract: TableContract = BRONZE_TRANSACTIONS) -> PublishResult:
    return lake.publish(silver_draft(lake, SILVER[contract.name], lake.snapshot(contract)))


def silver(lake: Lake, contract: TableContract = BRONZE_TRANSACTIONS) -> list[dict[str, Any]]:
    target = SILVER[contract.name].contract
    return lake.snapshot(target).to_arrow(order_by=[target.key[0]]).to_pylist()


def quarantined(lake: Lake) -> list[tuple[str, str]]:
    found = lake.snapshot(QUARANTINE).to_arrow().to_pylist()
    return sorted((row["reason"], json.loads(row["row"])["transaction_id"] or "") for row in found)


def test_a_row_is_typed(lake: Lake) -> None:
    deliver(lake, BRONZE_TRANSACTIONS, transaction(1, amount="10.005", quantity="2.0", category="é"))
    process(lake)
    moment = datetime(2024, 3, 1, 10, tzinfo=UTC)
    assert silver(lake) == [
        {
            "transaction_id": "t1",
            "customer_id": "c1",
            "transaction_ts": moment,
            "transaction_date": date(2024, 3, 1),
            "transaction_hour": 10,
            "amount": Decimal("10.00"),
            "category": "é",
            "payment_method": "card",
            "quantity": 2,
            "updated_at": moment,
            "_batch_id": f"{AT:%j}",
            "_source": "crm",
        }
    ]


def test_the_latest_change_wins_and_of_equals_the_latest_ingested(lake: Lake) -> None:
    versions = [("t1", "1", "2024-03-02"), ("t1", "2", "2024-03-03"), ("t1", "3", None), ("t2", "4", "2024-03-02")]
    rows = [transaction(0, transaction_id=i, amount=amount, updated_at=u) for i, amount, u in versions]
    deliver(lake, BRONZE_TRANSACTIONS, *rows)
    again = transaction(0, transaction_id="t2", amount="5", updated_at="2024-03-02")
    late = transaction(0, transaction_id="t1", amount="6", updated_at="2024-03-01")
    deliver(lake, BRONZE_TRANSACTIONS, again, late, at=AT + timedelta(days=1))
    process(lake)
    assert {row["transaction_id"]: row["amount"] for row in silver(lake)} == {"t1": 2, "t2": 5}


def test_a_correction_that_moves_a_row_moves_it(lake: Lake) -> None:
    deliver(lake, BRONZE_TRANSACTIONS, transaction(1))
    process(lake)
    moved = transaction(1, transaction_ts="2023-12-31 23:00", updated_at="2024-04-01")
    deliver(lake, BRONZE_TRANSACTIONS, moved, at=AT + timedelta(days=1))
    process(lake)
    assert [row["transaction_date"] for row in silver(lake)] == [date(2023, 12, 31)]


def test_amounts_of_zero_or_less_stay(lake: Lake) -> None:
    deliver(lake, BRONZE_TRANSACTIONS, transaction(1, amount="0"), transaction(2, amount="-5.5"))
    process(lake)
    assert [row["amount"] for row in silver(lake)] == [Decimal(0), Decimal("-5.50")]


def test_unusable_rows_go_to_the_quarantine_with_reason_and_row(lenient: Lake) -> None:
    bad = [
        transaction(1, transaction_id=None),
        transaction(2, transaction_id=" "),
        transaction(3, customer_id=""),
        transaction(4, transaction_ts="2023-02-29"),
        transaction(5, transaction_ts="infinity"),
        transaction(6, amount="ten"),
        transaction(7, amount="NaN"),
    ]
    deliver(lenient, BRONZE_TRANSACTIONS, *bad, transaction(8))
    process(lenient)
    assert [row["transaction_id"] for row in silver(lenient)] == ["t8"]
    assert quarantined(lenient) == [
        ("amount is missing or not a number", "t6"),
        ("amount is missing or not a number", "t7"),
        ("customer_id is missing", "t3"),
        ("transaction_id is missing", ""),
        ("transaction_id is missing", " "),
        ("transaction_ts is missing or not a time", "t4"),
        ("transaction_ts is missing or not a time", "t5"),
    ]


def test_a_mended_row_leaves_the_quarantine(lenient: Lake) -> None:
    deliver(lenient, BRONZE_TRANSACTIONS, transaction(1, amount="ten"))
    process(lenient)
    assert quarantined(lenient) == [("amount is missing or not a number", "t1")]
    deliver(lenient, BRONZE_TRANSACTIONS, transaction(1, updated_at="2024-04-01"), at=AT + timedelta(days=1))
    process(lenient)
    assert quarantined(lenient) == []


def test_too_many_rejected_rows_block_silver_but_not_the_quarantine(lake: Lake) -> None:
    deliver(lake, BRONZE_TRANSACTIONS, *(transaction(n, amount="ten" if n < 2 else "1") for n in range(10)))
    with pytest.raises(ContractError, match=r"rejected_share: 20\.0%.*amount is missing or not a number: 2"):
        process(lake)
    assert silver(lake) == []
    assert len(quarantined(lake)) == 2


def test_every_row_is_accounted_for(lake: Lake) -> None:
    rows = [*(transaction(n) for n in range(20)), transaction(1), transaction(1, customer_id=None, updated_at=None)]
    deliver(lake, BRONZE_TRANSACTIONS, *rows, transaction(0, transaction_id=None))
    draft = silver_draft(lake, SILVER[BRONZE_TRANSACTIONS.name], lake.snapshot(BRONZE_TRANSACTIONS))
    counts = {"read": 23, "published": 20, "quarantined": 1, "superseded": 2}
    assert draft.figures == {**counts, "keys": 20, "deleted": 0, "is_partial": False}
    assert all(check.passed for check in draft.checks)


def test_again_is_no_new_snapshot(lake: Lake) -> None:
    deliver(lake, BRONZE_TRANSACTIONS, transaction(1), transaction(2))
    first, again = process(lake), process(lake)
    assert (again.is_new, again.snapshot_id) == (False, first.snapshot_id)


def test_nothing_delivered_is_an_empty_silver(lake: Lake) -> None:
    assert process(lake).rows == 0
    assert process(lake, BRONZE_CUSTOMERS).rows == 0


def test_days_and_hours_are_local(tmp_path: Path) -> None:
    there = Lake(load_settings(home=tmp_path / "home", timezone="America/Sao_Paulo"))
    deliver(there, BRONZE_TRANSACTIONS, transaction(1, transaction_ts="2024-03-01T01:30:00Z"), transaction(2))
    process(there)
    found = [(r["transaction_ts"].hour, r["transaction_date"].day, r["transaction_hour"]) for r in silver(there)]
    assert found == [(1, 29, 22), (13, 1, 10)]


class TestCustomers:
    def test_current_state_without_name_and_address(self, lake: Lake) -> None:
        moved = customer(1, city="Santos", updated_at="2024-02-01")
        deliver(lake, BRONZE_CUSTOMERS, customer(1), moved, customer(2, signup_date="soon"))
        process(lake, BRONZE_CUSTOMERS)
        found = silver(lake, BRONZE_CUSTOMERS)
        assert [(row["customer_id"], row["city"], row["signup_date"]) for row in found] == [
            ("c1", "Santos", date(2024, 1, 1)),
            ("c2", "Campinas", None),
        ]
        assert [(row["name"], row["email"]) for row in found] == [(None, None)] * 2

    def test_names_and_addresses_stop_at_bronze(self, lenient: Lake) -> None:
        deliver(lenient, BRONZE_CUSTOMERS, customer(1, customer_id=None, name="Ana Lima", email="ana@example.com"))
        process(lenient, BRONZE_CUSTOMERS)
        (row,) = lenient.snapshot(QUARANTINE).to_arrow()["row"].to_pylist()
        assert "Ana" not in row
        assert "ana@example.com" not in row


class TestOddCells:
    """One cell that nothing can hold is a row to quarantine, or a null: never the end of silver."""

    @pytest.mark.parametrize("amount", ["1e16", "9999999999999999.995", "1e24", "-1e25"])
    def test_an_amount_too_large_for_money(self, lenient: Lake, amount: str) -> None:
        deliver(lenient, BRONZE_TRANSACTIONS, transaction(1, amount=amount), transaction(2))
        process(lenient)
        assert [row["transaction_id"] for row in silver(lenient)] == ["t2"]
        assert quarantined(lenient) == [("amount is missing or not a number", "t1")]

    @pytest.mark.parametrize("amount", ["70368744177664.01", "999999999999999.99", "9999999999999999.99"])
    def test_large_amounts_keep_their_cents(self, lenient: Lake, amount: str) -> None:
        deliver(lenient, BRONZE_TRANSACTIONS, transaction(1, amount=amount))
        process(lenient)
        assert [row["amount"] for row in silver(lenient)] == [Decimal(amount)]

    @pytest.mark.parametrize("moment", ["0000-01-01", "0044-03-15 (BC)", "10000-01-01", "290000-01-01"])
    def test_a_time_outside_the_years_1_to_9999(self, lenient: Lake, moment: str) -> None:
        deliver(lenient, BRONZE_TRANSACTIONS, transaction(1, transaction_ts=moment), transaction(2))
        process(lenient)
        assert [row["transaction_id"] for row in silver(lenient)] == ["t2"]
        assert quarantined(lenient) == [("transaction_ts is missing or not a time", "t1")]

    @pytest.mark.parametrize("moment", ["infinity", "10000-01-01"])
    def test_such_a_time_of_change_is_none(self, lenient: Lake, moment: str) -> None:
        deliver(lenient, BRONZE_TRANSACTIONS, transaction(1, updated_at=moment), transaction(1, amount="7"))
        process(lenient)
        assert [row["amount"] for row in silver(lenient)] == [7]

    @pytest.mark.parametrize("day", ["infinity", "12000-01-01"])
    def test_such_a_day_of_signing_up_is_none(self, lenient: Lake, day: str) -> None:
        deliver(lenient, BRONZE_CUSTOMERS, customer(1, signup_date=day))
        process(lenient, BRONZE_CUSTOMERS)
        assert [row["signup_date"] for row in silver(lenient, BRONZE_CUSTOMERS)] == [None]

    @pytest.mark.parametrize(("quantity", "expected"), [("1e300", None), ("NaN", None), ("two", None), ("3", 3)])
    def test_a_quantity_that_is_no_number_is_null(self, lake: Lake, quantity: str, expected: int | None) -> None:
        deliver(lake, BRONZE_TRANSACTIONS, transaction(1, quantity=quantity))
        process(lake)
        assert [row["quantity"] for row in silver(lake)] == [expected]


class TestLaterBatches:
    def test_old_rows_without_a_key_do_not_count_against_a_new_batch(self, lake: Lake) -> None:
        deliver(lake, BRONZE_TRANSACTIONS, *map(transaction, range(50)), transaction(0, transaction_id=None))
        process(lake)
        deliver(lake, BRONZE_TRANSACTIONS, transaction(60), at=AT + timedelta(days=1))
        assert process(lake).is_new
        assert "t60" in {row["transaction_id"] for row in silver(lake)}

    def test_names_leave_silver_when_the_setting_no_longer_asks_for_them(self, tmp_path: Path) -> None:
        keeping, plain = (Lake(load_settings(home=tmp_path / "home", keep_personal=keep)) for keep in (True, False))
        deliver(keeping, BRONZE_CUSTOMERS, customer(1, name="Ana"))
        process(keeping, BRONZE_CUSTOMERS)
        assert [row["name"] for row in silver(keeping, BRONZE_CUSTOMERS)] == ["Ana"]
        process(plain, BRONZE_CUSTOMERS)
        assert [row["name"] for row in silver(plain, BRONZE_CUSTOMERS)] == [None]

    def test_another_sources_tombstone_buries_nothing(self, lake: Lake) -> None:
        deliver(lake, BRONZE_TRANSACTIONS, transaction(1))
        tombstone = {"transaction_id": "t1", "_source": "other", "_is_tombstone": True}
        deliver(lake, BRONZE_TRANSACTIONS, tombstone, at=AT + timedelta(days=1))
        process(lake)
        assert [row["transaction_id"] for row in silver(lake)] == ["t1"]


class TestRefused:
    def test_a_row_without_a_time_reaches_the_audit(self, lake: Lake) -> None:
        deliver(lake, BRONZE_TRANSACTIONS, transaction(1, transaction_ts="soon"), transaction(2))
        unchecked = [name for name in STANDARD if name != "validate_schema"]
        with pytest.raises(ContractError, match="no_nulls"):
            lake.publish(silver_draft(lake, SILVER[BRONZE_TRANSACTIONS.name], transformations=unchecked))

    def test_staged_rows_are_deleted_and_the_quarantine_stays(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlops_platform.storage.rows.IN_MEMORY_BYTES", 0)
        deliver(lake, BRONZE_TRANSACTIONS, *(transaction(n, amount="ten" if n < 2 else "1") for n in range(10)))
        with pytest.raises(ContractError, match="rejected_share"):
            process(lake)
        assert len(quarantined(lake)) == 2
        assert not list((lake.settings.warehouse / "silver" / "transactions").rglob("*.parquet"))

    def test_unknown_failing_and_row_dropping_steps(self, lake: Lake) -> None:
        deliver(lake, BRONZE_TRANSACTIONS, transaction(1), transaction(2))
        table = SILVER[BRONZE_TRANSACTIONS.name]
        steps = {
            "no_sql": lambda rows, table: f"SELECT nothing FROM {rows}",
            "late_fault": lambda rows, table: f"SELECT * REPLACE (raw.amount::DATE::VARCHAR AS reason) FROM {rows}",
            "drops_rows": lambda rows, table: f"SELECT * FROM {rows} WHERE raw.transaction_id <> 't1'",
        }
        for name, step in steps.items():
            transformation(name)(step)
        for name, problem in (
            ("never_registered", "no transformation"),
            ("no_sql", "no SELECT"),
            ("late_fault", "failed"),
        ):
            with pytest.raises(InputError, match=problem):
                silver_draft(lake, table, transformations=[*STANDARD, name])
        with pytest.raises(ContractError, match="rows_accounted_for: 1 rows"):
            lake.publish(silver_draft(lake, table, transformations=[*STANDARD, "drops_rows"]))


@transformation("reject_everything_once")
def reject_everything(rows: str, table: Any) -> str:
    return f"SELECT * REPLACE (coalesce(reason, 'too strict') AS reason) FROM {rows}"


@transformation("shout_keys")
def shout_keys(rows: str, table: Any) -> str:
    return f"SELECT * REPLACE (upper(transaction_id) AS transaction_id) FROM {rows}"


def test_what_a_refused_run_rejected_leaves_the_quarantine(lake: Lake) -> None:
    table = SILVER[BRONZE_TRANSACTIONS.name]
    deliver(lake, BRONZE_TRANSACTIONS, *(transaction(number) for number in range(3)))
    process(lake)
    with pytest.raises(ContractError, match="too strict: 3"):
        lake.publish(silver_draft(lake, table, transformations=[*STANDARD, "reject_everything_once"]))
    assert len(quarantined(lake)) == 3
    deliver(lake, BRONZE_TRANSACTIONS, transaction(9), at=AT + timedelta(days=1))
    process(lake)
    assert quarantined(lake) == []
    assert len(silver(lake)) == 4
    # From here on only new rows are looked at again.
    assert silver_draft(lake, table).figures["read"] == 0


def test_after_other_transformations_with_the_same_outcome_only_new_rows_are_read(lake: Lake) -> None:
    table = SILVER[BRONZE_TRANSACTIONS.name]
    deliver(lake, BRONZE_TRANSACTIONS, transaction(1))
    process(lake)
    other = tuple(reversed(STANDARD))
    assert silver_draft(lake, table, transformations=other).figures["read"] == 1
    lake.publish(silver_draft(lake, table, transformations=other))
    assert silver_draft(lake, table, transformations=other).figures["read"] == 0


def test_a_transformation_may_not_change_the_key(lake: Lake) -> None:
    deliver(lake, BRONZE_TRANSACTIONS, transaction(1))
    with pytest.raises(InputError, match="a transformation changed transaction_id 't1'"):
        silver_draft(lake, SILVER[BRONZE_TRANSACTIONS.name], transformations=[*STANDARD, "shout_keys"])
