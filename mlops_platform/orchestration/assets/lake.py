"""Bronze and silver assets."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.data_pipeline.crm import CUSTOMERS, TRANSACTIONS, SourceTable, span
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import (
    SILVER_CHECKS,
    silver_customers,
    silver_transactions,
)
from mlops_platform.errors import SettingsError
from mlops_platform.orchestration.tables import propose, table_asset
from mlops_platform.settings import pin
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.read import TableSnapshot

SOURCE_NAME = "crm"


def lake_assets() -> list[dg.AssetsDefinition]:
    """The bronze and silver assets."""
    return [
        _bronze(CUSTOMERS),
        _bronze(TRANSACTIONS),
        _silver("customers", "crm_customers", silver_customers),
        _silver("transactions", "crm_transactions", silver_transactions),
    ]


def _bronze(table: SourceTable) -> dg.AssetsDefinition:
    @table_asset(["bronze", f"crm_{table.name}"], kinds={"bronze", "iceberg", "sql"})
    def bronze(lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        url = crm_url(lake)
        if lake.settings.history_start is None:
            # Definitions read no tables: the first day of the partitions stands in the home's file.
            pin(lake.settings, history_start=span(lake.settings, url).first_day)
        ingested_at = clock.now(lake.settings)
        draft = new_rows(lake, url, table, source=SOURCE_NAME, ingested_at=ingested_at)
        yield from propose(lake.settings, draft)

    return bronze


def _silver(name: str, bronze: str, process: Any) -> dg.AssetsDefinition:
    @table_asset(
        ["silver", name],
        extra_checks=SILVER_CHECKS,
        kinds={"silver", "iceberg", "duckdb"},
        ins={"bronze": dg.AssetIn(["bronze", bronze])},
    )
    def silver(bronze: TableSnapshot, lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        yield from propose(lake.settings, process(lake.settings, bronze))

    return silver


def crm_url(lake: Lake) -> str:
    """The CRM that feeds this home.

    Raises:
        SettingsError: None is set.
    """
    if lake.settings.crm_url is None:
        raise SettingsError(
            "no CRM is set for this home",
            expected="a database URL",
            hint="set MLOPS_CRM_URL, or run `mlops demo`, which makes a synthetic one.",
        )
    return lake.settings.crm_url
