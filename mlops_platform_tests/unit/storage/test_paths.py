"""Documented paths: which table each names, with a bucket in front or not."""

from __future__ import annotations

import pytest

from mlops_platform.contracts import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    STANDARD,
    TableContract,
)
from mlops_platform.errors import InputError
from mlops_platform.settings import Settings
from mlops_platform.storage.paths import PATHS, table_at, tables_below

DOCUMENTED = [
    ("bronze/crm/customers/", BRONZE_CUSTOMERS),
    ("bronze/crm/transactions/", BRONZE_TRANSACTIONS),
    ("silver/customers/", SILVER_CUSTOMERS),
    ("silver/transactions/", SILVER_TRANSACTIONS),
    ("ml/features/customer_features/", STANDARD.customer_features),
]


@pytest.fixture
def in_bucket(home: Settings) -> Settings:
    return home.model_copy(update={"warehouse_url": "s3://lake/house"})


@pytest.mark.parametrize(("path", "contract"), DOCUMENTED)
@pytest.mark.parametrize("form", ["{}", "/{}", "s3://bucket/{}", "s3a://bucket//{}", " {} "])
def test_a_path_names_a_table(home: Settings, path: str, contract: TableContract, form: str) -> None:
    assert table_at(home, form.format(path)) is contract
    assert table_at(home, form.format(path.rstrip("/"))) is contract


@pytest.mark.parametrize(
    "path", ["s3://lake/silver/customers", "s3://lake/house/silver/customers/", "silver/customers"]
)
def test_the_warehouses_own_bucket(in_bucket: Settings, path: str) -> None:
    assert table_at(in_bucket, path) is SILVER_CUSTOMERS


def test_another_bucket_is_refused(in_bucket: Settings) -> None:
    with pytest.raises(InputError, match=r"lies in the bucket bucket.*a path in lake.*MLOPS_WAREHOUSE_URL"):
        table_at(in_bucket, "s3://bucket/silver/customers/")


@pytest.mark.parametrize("path", ["", "/", "s3://bucket", "silver", "silver/customer/", "gold/customers", "bronze.crm"])
def test_an_unknown_path_names_the_known_ones(home: Settings, path: str) -> None:
    with pytest.raises(InputError) as refused:
        table_at(home, path)
    assert all(known in str(refused.value) for known in PATHS)


def test_tables_below_a_folder(home: Settings) -> None:
    both = {"customers": BRONZE_CUSTOMERS, "transactions": BRONZE_TRANSACTIONS}
    assert tables_below(home, "s3://bucket/bronze/crm/") == tables_below(home, "bronze") == both
    assert tables_below(home, "bronze/crm/customers") == {"customers": BRONZE_CUSTOMERS}


@pytest.mark.parametrize("path", ["", "s3://bucket/", "bronze/crm/cust", "bronze/erp"])
def test_no_table_below(home: Settings, path: str) -> None:
    with pytest.raises(InputError, match="there is no table below"):
        tables_below(home, path)
