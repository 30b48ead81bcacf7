"""Spark on local files: the rows it reads, the session it makes or is given, and what it says when it is not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_platform.contracts import SILVER_TRANSACTIONS, STANDARD
from mlops_platform.data_pipeline.crm import TRANSACTIONS
from mlops_platform.data_pipeline.crm_load import seed
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import TRANSACTIONS as SILVER
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.feature_pipeline.spark import spark_features
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.read import TableSnapshot
from mlops_platform_tests.properties.comparing import by_customer, differences

AT = datetime(2024, 8, 1, tzinfo=UTC)
UNTIL = date(2024, 6, 30)

on_spark = pytest.mark.usefixtures("spark")


@dataclass(frozen=True)
class Seeded:
    """Silver as the pipeline makes it from a CRM west of Greenwich: some 150 files, one a day."""

    settings: Settings
    transactions: TableSnapshot

    @cached_property
    def by_spark(self) -> pa.Table:
        """As the setting chooses the engine."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLOPS_ENGINE", "spark")
            chosen = load_settings(home=self.settings.home, timezone=self.settings.timezone)
        return compute_features(chosen, self.transactions, [UNTIL], created_at=AT)

    @cached_property
    def by_duckdb(self) -> pa.Table:
        return compute_features(self.settings, self.transactions, [UNTIL], created_at=AT)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    folder = tmp_path_factory.mktemp("seeded")
    lake = Lake(load_settings(home=folder / "home", timezone="America/Sao_Paulo"))
    url = f"sqlite:///{folder / 'crm.db'}"
    seed(url, customers=80, days=150, seed=20240630, until=UNTIL)
    lake.publish(new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=AT))
    lake.publish(silver_draft(lake, SILVER))
    return Seeded(lake.settings, lake.snapshot(SILVER_TRANSACTIONS))


@on_spark
def test_the_pipelines_silver_gives_duckdbs_features(seeded: Seeded) -> None:
    found = by_customer(seeded.by_spark)
    assert len(found) > 20
    assert differences(found, by_customer(seeded.by_duckdb)) == []
    assert seeded.by_spark.schema == seeded.by_duckdb.schema
    assert seeded.by_spark["customer_id"].equals(seeded.by_duckdb["customer_id"])


@on_spark
def test_a_restricted_snapshot_gives_only_its_rows_and_a_session_that_is_there_stays(seeded: Seeded) -> None:
    from pyspark.sql import SparkSession

    assert seeded.by_spark.num_rows
    own = SparkSession.builder.getOrCreate()
    own.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    own.createDataFrame([(1,)], "a int").createOrReplaceTempView("bought")
    since = Condition("transaction_date", ">=", UNTIL - timedelta(days=30))
    paid = Condition("payment_method", "in", ("credit_card", "pix"))
    restricted = replace(seeded.transactions, where=(since, paid))
    found = by_customer(spark_features(seeded.settings, restricted, UNTIL))
    assert 0 < len(found) < seeded.by_duckdb.num_rows
    expected = compute_features(seeded.settings, restricted, [UNTIL], created_at=AT)
    assert differences(found, by_customer(expected)) == []
    assert own.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
    assert own.table("bought").columns == ["a"]


def test_a_restriction_by_another_column_is_refused(home: Settings) -> None:
    restricted = Lake(home).snapshot(SILVER_TRANSACTIONS, where=[Condition("transaction_ts", ">=", AT)])
    with pytest.raises(InputError, match=r"where \"transaction_ts\" >= .*Expected: conditions on customer_id"):
        spark_features(home, restricted, UNTIL)


@on_spark
def test_without_rows_the_types_are_the_contracts(seeded: Seeded) -> None:
    none = spark_features(seeded.settings, seeded.transactions, UNTIL - timedelta(days=1000))
    contract = seeded.by_duckdb.schema
    assert none.num_rows == 0
    assert [(field.name, field.type) for field in none.schema] == [
        (name, contract.field(name).type) for name in ("customer_id", "feature_date", *STANDARD.names)
    ]


def test_a_bucket_whose_catalog_is_a_file_is_refused(home: Settings) -> None:
    settings = home.model_copy(update={"warehouse_url": "s3://shop/warehouse", "engine": "spark"})
    expected = r"no Iceberg catalog of the tables in s3://shop/warehouse.*PostgreSQL or Glue"
    with pytest.raises(InputError, match=expected):
        spark_features(settings, Lake(home).snapshot(SILVER_TRANSACTIONS), UNTIL)


@on_spark
class TestSession:
    def test_it_listens_on_loopback_only_and_has_no_page(self, seeded: Seeded) -> None:
        import psutil
        from pyspark.sql import SparkSession

        assert seeded.by_spark.num_rows
        context = SparkSession.builder.getOrCreate().sparkContext
        assert context.uiWebUrl is None
        # On a machine without a network Spark listens on loopback unasked.
        assert context.getConf().get("spark.driver.bindAddress") == "127.0.0.1"
        listening = [
            connection.laddr.ip.removeprefix("::ffff:")
            for child in psutil.Process().children(recursive=True)
            for connection in child.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert set(listening) == {"127.0.0.1"}

    def test_without_java_it_says_so(self, tmp_path: Path) -> None:
        code = (
            "from mlops_platform.feature_pipeline.spark_session import local_session\n"
            "from mlops_platform.settings import load_settings\n"
            "local_session(load_settings())"
        )
        environment = {"JAVA_HOME": str(tmp_path), "MLOPS_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
        assert "InputError: MLOPS_ENGINE is spark, but Spark's Java did not start" in run.stderr
        assert "Java 17 or newer" in run.stderr


@pytest.fixture
def without_pyspark(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("pyspark", "pyspark.errors", "pyspark.sql"):
        monkeypatch.setitem(sys.modules, name, None)
    yield


@pytest.mark.usefixtures("without_pyspark")
@pytest.mark.parametrize("through", ["spark_features", "compute_features"])
def test_without_pyspark_it_says_what_to_install(home: Settings, through: str) -> None:
    settings = home.model_copy(update={"engine": "spark"})
    transactions = Lake(settings).snapshot(SILVER_TRANSACTIONS)
    with pytest.raises(InputError, match=r"PySpark is not installed\. Next: pip install 'mlops-platform\[spark\]'"):
        if through == "spark_features":
            spark_features(settings, transactions, UNTIL)
        else:
            compute_features(settings, transactions, [UNTIL], created_at=AT)
