"""DataIngestionPipeline: the documented call, its arguments, and what it tells of what it did."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from mlops_platform.contracts import BRONZE_CUSTOMERS, BRONZE_TRANSACTIONS
from mlops_platform.data_pipeline import DataIngestionPipeline
from mlops_platform.errors import InputError, SettingsError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.data_pipeline.crms import add, change, customer, make_crm, transaction

CUSTOMERS, TRANSACTIONS = BRONZE_CUSTOMERS.name, BRONZE_TRANSACTIONS.name
DOCUMENTED = "SELECT * FROM customers WHERE updated_at >= CURRENT_DATE"
AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    customers = [customer(n, updated_at=f"2024-0{n}-01 10:00:00") for n in range(3, 7)]
    return make_crm(tmp_path / "crm.db", [transaction(1)], customers)


@pytest.fixture
def home(tmp_path: Path, url: str) -> Settings:
    return load_settings(home=tmp_path / "home", crm_url=url)


def keys(home: Settings) -> list[str]:
    return sorted(Lake(home).snapshot(BRONZE_CUSTOMERS).to_arrow(["customer_id"])["customer_id"].to_pylist())


def test_the_documented_call(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLOPS_CRM_URL", url)
    monkeypatch.setenv("MLOPS_AS_OF", "2024-05-01")
    pipeline = DataIngestionPipeline(source="crm_database", destination="s3://bucket/bronze/crm/")
    found = pipeline.run(extraction_query=DOCUMENTED, partition_by="date")
    assert list(found) == [CUSTOMERS]
    lake = Lake(pipeline.settings)
    rows = lake.snapshot(BRONZE_CUSTOMERS).to_arrow().to_pylist()
    assert sorted(row["customer_id"] for row in rows) == ["c5", "c6"]
    assert {row["_source"] for row in rows} == {"crm"}
    batch_id = rows[0]["_batch_id"]
    snapshot_id = lake.snapshot(BRONZE_CUSTOMERS).snapshot_id
    expected = {"delivered": 2, "new": 2, "tombstones": 0, "batch_id": batch_id, "snapshot_id": snapshot_id}
    assert found[CUSTOMERS] == expected


def test_all_tables_without_a_query(home: Settings, url: str) -> None:
    pipeline = DataIngestionPipeline(settings=home)
    first = pipeline.run(as_of=AT)
    assert {name: done["new"] for name, done in first.items()} == {CUSTOMERS: 4, TRANSACTIONS: 1}
    again = pipeline.run(as_of=AT)
    assert [done["new"] for done in again.values()] == [0, 0]
    assert [done["snapshot_id"] for done in again.values()] == [done["snapshot_id"] for done in first.values()]
    change(url, "DELETE FROM customers WHERE customer_id = 'c3'")
    assert pipeline.run(as_of=AT)[CUSTOMERS]["tombstones"] == 1


def test_a_query_leaves_the_watermark_and_the_other_keys(home: Settings, url: str) -> None:
    pipeline = DataIngestionPipeline(settings=home)
    pipeline.run(DOCUMENTED, as_of=AT)
    assert not any(name.startswith("watermark") for name in Lake(home).properties(BRONZE_CUSTOMERS))
    assert pipeline.run(as_of=AT)[CUSTOMERS] | {"batch_id": "", "snapshot_id": 0} == {
        **{"delivered": 4, "new": 2, "tombstones": 0},
        **{"batch_id": "", "snapshot_id": 0},
    }
    before = Lake(home).properties(BRONZE_CUSTOMERS)["watermark.crm"]
    add(url, "customers", customer(7, updated_at="2024-04-30 23:00:00"))
    assert pipeline.run("SELECT * FROM customers WHERE customer_id = 'c7'", as_of=AT)[CUSTOMERS]["new"] == 1
    assert Lake(home).properties(BRONZE_CUSTOMERS)["watermark.crm"] == before
    assert keys(home) == ["c3", "c4", "c5", "c6", "c7"]


def test_the_same_query_again_adds_nothing(home: Settings) -> None:
    pipeline = DataIngestionPipeline(settings=home)
    assert [pipeline.run(DOCUMENTED, as_of=AT)[CUSTOMERS]["new"] for _ in range(2)] == [2, 0]


def test_today_is_a_day_of_the_business_time_zone(tmp_path: Path, url: str) -> None:
    there = load_settings(home=tmp_path / "home", crm_url=url, timezone="America/Sao_Paulo", as_of=date(2024, 6, 1))
    # Two in the morning UTC is still the day before there; the instant given counts, not the pinned day.
    done = DataIngestionPipeline(settings=there).run(DOCUMENTED, as_of=datetime(2024, 5, 2, 2, tzinfo=UTC))
    assert done[CUSTOMERS]["new"] == 2
    assert DataIngestionPipeline(settings=there).run(DOCUMENTED)[CUSTOMERS]["delivered"] == 1


def test_a_destination_may_be_one_table(home: Settings) -> None:
    pipeline = DataIngestionPipeline(destination="bronze/crm/customers/", settings=home)
    assert list(pipeline.run(as_of=AT)) == [CUSTOMERS]
    with pytest.raises(InputError, match="reads transactions, which is no table of the source"):
        pipeline.run("SELECT * FROM transactions")


@pytest.mark.parametrize("destination", ["silver/customers/", "bronze/erp/", ""])
def test_a_destination_elsewhere(home: Settings, destination: str) -> None:
    with pytest.raises(InputError, match=r"is not in bronze|no table below"):
        DataIngestionPipeline(destination=destination, settings=home)


def test_an_unknown_source(home: Settings) -> None:
    with pytest.raises(SettingsError, match="there is no source 'erp'"):
        DataIngestionPipeline(source="erp", settings=home)


def test_another_partitioning(home: Settings) -> None:
    with pytest.raises(InputError, match="can't be partitioned by 'country'"):
        DataIngestionPipeline(settings=home).run(partition_by="country")


def test_importing_the_package_is_cheap() -> None:
    libraries = {"pyarrow", "duckdb", "pydantic"}
    code = f"import sys, mlops_platform.data_pipeline as p; print(sorted({libraries} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    import mlops_platform.data_pipeline as package

    assert package.DataIngestionPipeline is DataIngestionPipeline
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018 - the attribute is looked up
