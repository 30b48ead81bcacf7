"""How any Spark is told where the tables are; Spark itself is in `engines`."""

from __future__ import annotations

import pytest

from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.spark_session import spark_options
from mlops_platform.settings import Settings, load_settings

PLACE = "spark.sql.catalog.mlops"
WAREHOUSE = "s3://shop/lake"


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


def options(home: Settings, **given: str) -> dict[str, str]:
    found = spark_options(load_settings(home=home.home, warehouse_url=WAREHOUSE, **given))
    return {key.removeprefix(PLACE): value for key, value in found.items()}


def test_postgresql_and_a_server_that_speaks_s3(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.local:9000")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert options(home, catalog_url="postgresql://ana@db:5433/lake?sslmode=require") == {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".type": "jdbc",
        ".uri": "jdbc:postgresql://db:5433/lake?sslmode=require",
        ".jdbc.user": "ana",
        ".warehouse": WAREHOUSE,
        ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        ".s3.endpoint": "http://s3.local:9000",
        ".s3.path-style-access": "true",
        ".client.region": "eu-west-1",
        ".cache-enabled": "false",
    }


def test_no_password_is_among_them(home: Settings) -> None:
    address = "postgresql://an%40a:canary%2F1@db/lake?sslmode=require&sslpassword=canary2&password=canary3"
    found = options(home, catalog_url=address)
    assert (found[".uri"], found[".jdbc.user"]) == ("jdbc:postgresql://db/lake?sslmode=require", "an@a")
    assert "canary" not in str(found)


def test_glue_and_aws_itself(home: Settings) -> None:
    dagster, mlflow = "postgresql://ana@db/dagster", "http://mlflow:5000"
    found = options(home, profile="aws", dagster_storage_url=dagster, mlflow_tracking_uri=mlflow)
    assert found[".type"] == "glue"
    assert not [key for key in found if "jdbc" in key or "endpoint" in key]


@pytest.mark.parametrize("given", [{}, {"warehouse_url": WAREHOUSE}, {"catalog_url": "postgresql://ana@db/lake"}])
def test_tables_that_only_this_machine_finds_are_refused(home: Settings, given: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"Spark finds no Iceberg catalog .*MLOPS_WAREHOUSE_URL.*unset MLOPS_ENGINE"):
        spark_options(load_settings(home=home.home, **given))
