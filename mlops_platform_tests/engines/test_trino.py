"""Trino on the platform's own Iceberg tables: its features beside the oracle's and DuckDB's, and its refusals.

The tables lie in a bucket and are listed in PostgreSQL, both real. Each test's transactions are one snapshot of the one
table, so that all but the last are read from the past.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_platform.contracts import SILVER_TRANSACTIONS, STANDARD
from mlops_platform.errors import StorageError
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.feature_pipeline.sql_engines import sql_features
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.conditions import Condition, all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.storage.rows import gather
from mlops_platform.storage.trino import trino_rows
from mlops_platform_tests.benchmarks.features import synthetic_rows
from mlops_platform_tests.engines.columns import TOLERANCE, differing
from mlops_platform_tests.engines.conftest import DAYS, Silver
from mlops_platform_tests.engines.silver_tables import in_few_files, published
from mlops_platform_tests.engines.trino_server import running_trino
from mlops_platform_tests.integration import postgres
from mlops_platform_tests.integration.object_store import running_store
from mlops_platform_tests.integration.test_real_data import CDNOW, DATA, Imported
from mlops_platform_tests.oracles.features import features_at
from mlops_platform_tests.properties.comparing import by_customer, differences
from mlops_platform_tests.scale import IS_FULL, rounds

AT = datetime(2025, 6, 30, tzinfo=UTC)
ROWS, CUSTOMERS = rounds(10_000_000, 50_000), rounds(200_000, 4_000)
# Java's exp and C's are within one unit in the last place of the true value, and not always the same side of it.
LAST_BIT = {"churn_score"}


@dataclass(frozen=True)
class Served:
    """A lake in a bucket, and the settings by which Trino computes its features."""

    lake: Lake
    trino: Settings


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A lake whose catalog is in a PostgreSQL and whose files are in an S3, and a Trino that reads it."""
    if os.environ.get("ENGINE_PROOFS") != "1":
        pytest.skip("`make test-engines` runs this: Trino's Java alone takes half a minute of a core")
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL server here; Debian's package is `postgresql`")
    folder = tmp_path_factory.mktemp("trino")
    with (
        postgres.running(programs) as database,
        running_store(folder / "s3") as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        bucket = store.bucket()
        for name, value in bucket.environment().items():
            patch.setenv(name, value)
        database.run("CREATE DATABASE lake")
        settings = load_settings(home=folder / "home", catalog_url=database.url("lake"), warehouse_url=bucket.url)
        lake = Lake(settings)
        lake.catalog.create_namespace_if_not_exists("silver")
        heap_mb = rounds(4096, 1024)
        with running_trino(folder, database, "lake", bucket, heap_mb=heap_mb, is_optimizing=IS_FULL) as trino:
            yield Served(lake, settings.model_copy(update={"engine": "trino", "trino_url": trino.url}))


@pytest.fixture(scope="module")
def drawn(served: Served, histories: Silver) -> TableSnapshot:
    """The drawn histories in the bucket."""
    return published(served.lake, histories.purchases)


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_every_cell_is_the_oracles(day: date, served: Served, drawn: TableSnapshot, histories: Silver) -> None:
    found = sql_features(served.trino, drawn, day)
    assert found.column_names == ["customer_id", "feature_date", *STANDARD.names]
    assert set(found["feature_date"].to_pylist()) == {day}
    assert differences(by_customer(found), features_at(histories.purchases, day)) == []


def test_cdnow_is_duckdbs(served: Served, tmp_path: Path) -> None:
    if not (DATA / CDNOW.name / "transactions.parquet").is_file():
        pytest.skip(f"no {CDNOW.name} in ../shared/data beside the project")
    rows = Imported(CDNOW, tmp_path).lake.snapshot(SILVER_TRANSACTIONS).to_arrow()
    assert rows.num_rows == CDNOW.transactions
    transactions = _in_the_bucket(served, rows.to_reader())
    for day in CDNOW.feature_dates:
        _assert_duckdbs(served, transactions, day, at_least=CDNOW.customers * 3 // 4)


def test_synthetic_rows_are_duckdbs(served: Served) -> None:
    with synthetic_rows(ROWS, CUSTOMERS) as reader:
        transactions = _in_the_bucket(served, reader)
    _assert_duckdbs(served, transactions, date(2024, 10, 27), at_least=CUSTOMERS * 9 // 10)


def _in_the_bucket(served: Served, rows: pa.RecordBatchReader) -> TableSnapshot:
    gathered = gather(served.lake.settings, SILVER_TRANSACTIONS, in_few_files(rows))
    served.lake.publish(Draft(SILVER_TRANSACTIONS, gathered, scope=all_time("transaction_ts")))
    return served.lake.snapshot(SILVER_TRANSACTIONS)


def _assert_duckdbs(served: Served, transactions: TableSnapshot, day: date, *, at_least: int) -> None:
    """Every feature is DuckDB's; and the hash, where no float differs in its last bit."""
    found = compute_features(served.trino, transactions, [day], created_at=AT)
    expected = compute_features(served.lake.settings, transactions, [day], created_at=AT)
    assert found.num_rows >= at_least
    unequal = differing(found, expected)
    hashes = unequal.pop("_feature_hash", None)
    assert unequal.keys() <= LAST_BIT
    assert all(difference.largest < TOLERANCE for difference in unequal.values())
    assert (hashes.rows if hashes else 0) == sum(difference.rows for difference in unequal.values())


def test_a_restricted_snapshot_gives_only_its_rows(served: Served, drawn: TableSnapshot) -> None:
    day = DAYS[-1]
    since = Condition("transaction_date", ">=", day - timedelta(days=30))
    kinds = Condition("category", "in", ("books", "Books", "unknown", "it's"))
    restricted = replace(drawn, where=(since, kinds))
    found = compute_features(served.trino, restricted, [day], created_at=AT)
    expected = compute_features(served.lake.settings, restricted, [day], created_at=AT)
    assert 0 < found.num_rows < compute_features(served.lake.settings, drawn, [day], created_at=AT).num_rows
    assert differing(found, expected).keys() <= LAST_BIT | {"_feature_hash"}


def test_before_the_first_purchase_there_is_no_row(served: Served, drawn: TableSnapshot) -> None:
    found = sql_features(served.trino, drawn, date(1999, 1, 1))
    assert (found.num_rows, found.column_names) == (0, ["customer_id", "feature_date", *STANDARD.names])


CELLS = {
    "DECIMAL '1234567890123456.78'": (pa.decimal128(18, 2), Decimal("1234567890123456.78")),
    "DOUBLE '0.1' + DOUBLE '0.2'": (pa.float64(), 0.1 + 0.2),
    "DOUBLE '5e-324'": (pa.float64(), 5e-324),
    "infinity()": (pa.float64(), float("inf")),
    "9223372036854775807": (pa.int64(), 2**63 - 1),
    "DATE '0001-01-01'": (pa.date32(), date(1, 1, 1)),
    "TIMESTAMP '2024-02-29 23:59:59.999999 UTC'": (
        pa.timestamp("us", "UTC"),
        datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    ),
    "U&'\\+01F600''\\0000'": (pa.string(), "\U0001f600'\x00"),
    "CAST(NULL AS DECIMAL(18, 2))": (pa.decimal128(18, 2), None),
}


def test_cells_arrive_exactly(served: Served) -> None:
    columns = ", ".join(f"{sql} AS c{place}" for place, sql in enumerate(CELLS))
    found = trino_rows(served.trino, f"SELECT {columns}")
    assert found.schema.types == [kind for kind, _ in CELLS.values()]
    assert list(found.to_pylist()[0].values()) == [value for _, value in CELLS.values()]


def test_more_rows_than_a_batch_arrive_once_each(served: Served) -> None:
    numbers = "UNNEST(sequence(0, 499))"
    found = trino_rows(served.trino, f"SELECT 500 * a + b AS n FROM {numbers} AS s(a), {numbers} AS t(b)")
    assert len(found["n"].chunks) == 3
    assert sorted(found["n"].to_pylist()) == list(range(250_000))


def test_what_trino_refuses_is_one_message(served: Served) -> None:
    with pytest.raises(StorageError, match=r"could not run the query \w+: TABLE_NOT_FOUND: .*silver\.nothing"):
        trino_rows(served.trino, "SELECT * FROM silver.nothing")
    elsewhere = served.trino.model_copy(update={"trino_url": str(served.trino.trino_url).replace("iceberg", "hive")})
    with pytest.raises(StorageError, match=r"CATALOG_NOT_FOUND.*its catalog must be the one of these tables"):
        trino_rows(elsewhere, "SELECT * FROM silver.transactions")
