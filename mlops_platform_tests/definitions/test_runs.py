"""Assets as they run in Dagster, on real storage: what a failed check leaves behind, what a run reports.

Does not belong here: what the domain functions compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import pytest

from mlops_platform.contracts import (
    BRONZE_TRANSACTIONS,
    QUARANTINE,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    STANDARD,
    TableContract,
    all_contracts,
)
from mlops_platform.contracts.schemas import CHECK_NAMES
from mlops_platform.data_pipeline.processing import SILVER_CHECKS
from mlops_platform.definitions import build_definitions
from mlops_platform.errors import ContractError
from mlops_platform.settings import Settings
from mlops_platform.storage.audit import RANGE_CHECK
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.data_pipeline.crms import add, customer, make_crm, transaction

LAKE = [
    ["bronze", "crm_customers"],
    ["bronze", "crm_transactions"],
    ["silver", "customers"],
    ["silver", "transactions"],
]
MARCH = date(2024, 3, 5)


class Home:
    """A home fed by a small CRM, and its ingest job on an instance of its own."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, **junk: Any) -> None:
        self.instance = instance
        settings.home.mkdir()
        self.url = make_crm(
            settings.home / "crm.db",
            [transaction(n) for n in range(8)] + [transaction(n, **junk) for n in range(8, 10)],
            [customer(1)],
        )
        self.settings = settings.model_copy(
            update={"crm_url": self.url, "as_of": MARCH, "history_start": date(2024, 3, 1)}
        )
        self.lake = Lake(self.settings)

    def run(self, assets: list[list[str]] = LAKE, **options: Any) -> dg.ExecuteInProcessResult:
        job = build_definitions(self.settings).resolve_job_def("ingest_and_features")
        selection = [dg.AssetKey(key) for key in assets]
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=selection,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            **{"partition_key": MARCH.isoformat(), "raise_on_error": False, **options},
        )

    def rows(self, contract: TableContract) -> list[dict[str, Any]]:
        return list(self.lake.snapshot(contract).to_arrow().to_pylist())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def evaluations(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dg.AssetCheckEvaluation]:
    found = result.get_asset_check_evaluations()
    return {each.check_name: each for each in found if each.asset_key.to_user_string() == asset}


class TestAFailedCheck:
    """Two of ten transactions have no amount: 20 % rejected, where 10 % may be."""

    def test_it_is_recorded_and_nothing_is_written(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance, amount="much")
        result = made.run()
        assert not result.success
        found = evaluations(result, "silver/transactions")
        assert set(found) == {*CHECK_NAMES, RANGE_CHECK, *SILVER_CHECKS}
        assert {name for name, each in found.items() if not each.passed} == {"rejected_share"}
        failed = found["rejected_share"]
        assert (failed.blocking, failed.severity) == (True, dg.AssetCheckSeverity.ERROR)
        assert "20.0%" in str(failed.description)
        assert failed.metadata["amount is missing or not a number"].value == 2
        assert made.lake.snapshot(SILVER_TRANSACTIONS).snapshot_id is None
        assert not result.asset_materializations_for_node("silver__transactions")
        assert len(made.rows(BRONZE_TRANSACTIONS)) == 10
        # The other tables don't depend on it.
        assert [row["customer_id"] for row in made.rows(SILVER_CUSTOMERS)] == ["c1"]

    def test_the_rejected_rows_are_in_quarantine(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance, amount="much")
        made.run()
        held = made.rows(QUARANTINE)
        assert [row["table_name"] for row in held] == ["silver.transactions"] * 2
        assert {row["reason"] for row in held} == {"amount is missing or not a number"}
        assert all('"amount":"much"' in row["row"] for row in held)

    def test_it_raises_with_the_cause(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance, customer_id=None)
        with pytest.raises(dg.Failure, match=r"silver\.transactions was not published") as caught:
            made.run(raise_on_error=True)
        assert isinstance(caught.value.__cause__, ContractError)

    def test_the_table_stays_as_it_was(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance)
        assert made.run().success
        before = made.lake.snapshot(SILVER_TRANSACTIONS).snapshot_id
        later = "2024-03-02 00:00:00"
        add(made.url, "transactions", *(transaction(n, amount=None, updated_at=later) for n in range(5)))
        assert not made.run().success
        assert made.lake.snapshot(SILVER_TRANSACTIONS).snapshot_id == before
        assert len(made.rows(SILVER_TRANSACTIONS)) == 10

    def test_a_correction_in_the_crm_mends_it(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance, amount="much")
        assert not made.run().success
        later = "2024-03-02 00:00:00"
        add(made.url, "transactions", *(transaction(n, amount="1.5", updated_at=later) for n in (8, 9)))
        assert made.run().success
        assert len(made.rows(SILVER_TRANSACTIONS)) == 10
        assert made.rows(QUARANTINE) == []

    def test_a_check_that_does_not_block_warns(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home.model_copy(update={"max_rejected_share": 1.0}), instance)
        later = "2024-03-02 00:00:00"
        add(made.url, "transactions", *(transaction(n, amount="", updated_at=later) for n in range(10)))
        result = made.run()
        assert result.success
        failed = [each for each in evaluations(result, "silver/transactions").values() if not each.passed]
        assert [(each.check_name, each.severity) for each in failed] == [("data_ready", dg.AssetCheckSeverity.WARN)]
        assert made.rows(SILVER_TRANSACTIONS) == []


class TestARun:
    def test_it_reports_rows_snapshots_and_checks(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance)
        result = made.run()
        assert result.success
        (event,) = result.asset_materializations_for_node("silver__transactions")
        snapshot = made.lake.snapshot(SILVER_TRANSACTIONS).snapshot_id
        assert event.metadata["dagster/row_count"].value == 10
        assert event.metadata["snapshot_id"].value == str(snapshot)
        assert event.metadata["is_new_snapshot"].value is True
        assert all(each.passed for each in evaluations(result, "silver/transactions").values())
        assert made.lake.properties(SILVER_TRANSACTIONS)["run-id"] == result.run_id

    def test_the_same_again_commits_nothing(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance)
        assert made.run().success
        before = {name: made.lake.snapshot(contract).snapshot_id for name, contract in all_contracts().items()}
        again = made.run()
        assert again.success
        after = {name: made.lake.snapshot(contract).snapshot_id for name, contract in all_contracts().items()}
        assert after == before
        events = [event.materialization for event in again.get_asset_materialization_events()]
        assert len(events) == 4
        assert {event.metadata["is_new_snapshot"].value for event in events} == {False}

    def test_a_range_is_one_run_and_one_publish(self, home: Settings, instance: dg.DagsterInstance) -> None:
        made = Home(home, instance)
        assert made.run().success
        tags = {"dagster/asset_partition_range_start": "2024-03-02", "dagster/asset_partition_range_end": "2024-03-04"}
        key = dg.AssetKey(["feature_store", "customer_features"])
        result = made.run([list(key.path)], partition_key=None, tags=tags)
        assert result.success
        days = {"2024-03-02", "2024-03-03", "2024-03-04"}
        assert {row["feature_date"].isoformat() for row in made.rows(STANDARD.customer_features)} == days
        assert instance.get_materialized_partitions(key) == days
        assert made.lake.properties(STANDARD.customer_features)["feature-dates"] == "2024-03-02/2024-03-04"
        table = made.lake.snapshot(STANDARD.customer_features).table
        assert table is not None
        assert {s.summary.get("mlops.run-id") for s in table.snapshots() if s.summary} == {result.run_id}

    def test_a_partition_that_could_not_be_computed_is_not_reported(
        self, home: Settings, instance: dg.DagsterInstance
    ) -> None:
        made = Home(home, instance)
        assert made.run().success
        key = dg.AssetKey(["feature_store", "customer_features"])
        made.settings = made.settings.model_copy(update={"history_start": date(2024, 2, 1)})
        assert not made.run([list(key.path)], partition_key="2024-02-10").success
        assert instance.get_materialized_partitions(key) == set()
        assert made.rows(STANDARD.customer_features) == []
