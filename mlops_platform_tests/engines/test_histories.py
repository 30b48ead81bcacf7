"""Every engine against the oracle, on the same drawn histories in a real silver table: 1,000 with FULL_PROOFS=1."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.feature_pipeline.spark import spark_features
from mlops_platform.feature_pipeline.transform import feature_sql
from mlops_platform_tests.engines.conftest import DAYS, HISTORIES_A_DAY, Silver
from mlops_platform_tests.oracles.features import features_at
from mlops_platform_tests.properties.comparing import by_customer, differences
from mlops_platform_tests.scale import IS_FULL


def by_duckdb(silver: Silver, day: date) -> pa.Table:
    """The engine of every day: measures in NumPy, features in DuckDB."""
    return compute_features(silver.settings, silver.transactions, [day], created_at=datetime(2025, 6, 30, tzinfo=UTC))


def by_expression(silver: Silver, day: date) -> pa.Table:
    """The expression that Spark and Athena get, on DuckDB."""
    with silver.transactions.relation() as (connection, view):
        connection.execute(f"CREATE TEMP VIEW bought AS FROM {view}")
        return connection.sql(feature_sql(day, "duckdb", table="bought")).to_arrow_table()


def assert_the_oracles(found: pa.Table, silver: Silver, day: date) -> None:
    assert {"customer_id", "feature_date", *STANDARD.names} <= set(found.column_names)
    assert set(found["feature_date"].to_pylist()) == {day}
    assert differences(by_customer(found), features_at(silver.purchases, day)) == []


@pytest.mark.parametrize("day", DAYS, ids=str)
@pytest.mark.parametrize("engine", [by_duckdb, by_expression])
def test_every_cell_is_the_oracles(engine: Callable[[Silver, date], pa.Table], day: date, histories: Silver) -> None:
    assert_the_oracles(engine(histories, day), histories, day)


# On a day between these two: test_spark_iceberg.py.
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("day", DAYS if IS_FULL else (DAYS[0], DAYS[-1]), ids=str)
def test_every_cell_on_spark_is_the_oracles(day: date, histories: Silver) -> None:
    found = spark_features(histories.settings, histories.transactions, day)
    assert_the_oracles(found, histories, day)


def test_the_histories_tell_features_apart(histories: Silver) -> None:
    """A column that is the same for everybody would prove nothing."""
    assert len({p.customer_id for p in histories.purchases}) >= len(DAYS) * HISTORIES_A_DAY
    rows = [row for day in DAYS for row in features_at(histories.purchases, day).values()]
    assert len(rows) > len(DAYS) * HISTORIES_A_DAY
    assert [name for name in STANDARD.names if len({row[name] for row in rows}) < 2] == []
