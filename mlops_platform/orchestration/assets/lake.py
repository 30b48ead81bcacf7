"""Bronze and silver assets."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.data_pipeline.crm import CUSTOMERS, TRANSACTIONS, SourceTable, find_source, span
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import SILVER_CHECKS, silver_draft
from mlops_platform.data_pipeline.transformations import SILVER_TABLES, SilverTable
from mlops_platform.orchestration.tables import propose, table_asset
from mlops_platform.settings import pin
from mlops_platform.storage.lake import Lake


def lake_assets() -> list[dg.AssetsDefinition]:
    """The bronze and silver assets."""
    return [
        _bronze(CUSTOMERS),
        _bronze(TRANSACTIONS),
        *(_silver(table) for table in SILVER_TABLES),
    ]


def _bronze(table: SourceTable) -> dg.AssetsDefinition:
    @table_asset(["bronze", f"crm_{table.name}"], kinds={"bronze", "iceberg", "sql"})
    def bronze(lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        source = find_source(lake.settings)
        if lake.settings.history_start is None:
            # Definitions read no tables: the first day of the partitions stands in the home's file.
            pin(lake.settings, history_start=span(lake.settings, source.url, source.tables).first_day)
        mapped = next(each for each in source.tables if each.bronze is table.bronze)
        ingested_at = clock.now(lake.settings)
        with lake.exclusive(table.bronze):
            draft = new_rows(lake, source.url, mapped, source=source.name, ingested_at=ingested_at)
            yield from propose(lake.settings, draft)

    return bronze


def _silver(table: SilverTable) -> dg.AssetsDefinition:
    @table_asset(
        table.contract.name.split("."),
        extra_checks=SILVER_CHECKS,
        kinds={"silver", "iceberg", "duckdb"},
        deps=[dg.AssetKey(table.bronze.name.split("."))],
    )
    def silver(lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        # Dagster resumes here once the IO manager has committed: the lock spans reading, computing and publishing.
        with lake.exclusive(table.contract):
            yield from propose(lake.settings, silver_draft(lake, table))

    return silver
