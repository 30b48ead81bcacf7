"""DataIngestionPipeline, the documented call: a source's tables, or one query of it, into bronze.

Belongs here: reading the call's arguments. Does not belong here: what is new (`ingestion.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from mlops_platform import clock
from mlops_platform.data_pipeline.crm import find_source
from mlops_platform.data_pipeline.extraction_query import parse_query
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.errors import InputError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.paths import tables_below

if TYPE_CHECKING:
    from datetime import datetime

    from mlops_platform.data_pipeline.crm import CrmSource, SourceTable
    from mlops_platform.data_pipeline.extraction_query import ExtractionQuery
    from mlops_platform.settings import Settings

PARTITIONS = ("date",)


class Ingested(TypedDict):
    """What one ingestion did to one bronze table: rows read, rows appended, and where they are."""

    delivered: int
    new: int
    tombstones: int
    batch_id: str
    snapshot_id: int | None


class DataIngestionPipeline:
    """Ingests a source into bronze.

    Args:
        source: Name of a source in the settings; crm_database is the CRM of this home.
        destination: Documented path of the bronze tables, or of one of them.
        settings: The home; None: as the environment says.

    Raises:
        InputError: The destination names no table of bronze.
        SettingsError: There is no such source.
    """

    def __init__(
        self, source: str = "crm_database", destination: str = "bronze/crm/", settings: Settings | None = None
    ) -> None:
        self.settings = settings if settings is not None else load_settings()
        self.source = find_source(self.settings, source)
        self.tables = _tables(self.source, destination, self.settings)

    def run(
        self, extraction_query: str | None = None, partition_by: str = "date", as_of: datetime | None = None
    ) -> dict[str, Ingested]:
        """Appends what bronze does not hold yet.

        Args:
            extraction_query: One SELECT in the database's SQL from one of the source's tables; its rows go to that
                table's bronze. CURRENT_DATE and NOW() are those of `as_of`. None: all tables, since the watermark.
            partition_by: How bronze is partitioned: by the date of ingestion.
            as_of: Instant of the ingestion, local where it has no offset; None: now, and today is `MLOPS_AS_OF`.

        Returns:
            For each bronze table: delivered, new, tombstones, batch_id, snapshot_id.

        Raises:
            InputError: The query or the partitioning is not possible.
            SourceError: The CRM can't be reached, or lacks a table or a required column.
        """
        if partition_by not in PARTITIONS:
            raise InputError(
                f"bronze can't be partitioned by {partition_by!r}",
                expected="date: the day a row was ingested",
                hint='leave partition_by out, or pass "date".',
            )
        instant = _instant(as_of, self.settings)
        if extraction_query is None:
            return {table.bronze.name: self._ingest(table, instant) for table in self.tables}
        local = instant.astimezone(self.settings.zone)
        day = self.settings.as_of if as_of is None and self.settings.as_of is not None else local.date()
        query = parse_query(extraction_query, self.tables, self.source.url, day=day, moment=local)
        return {query.table.bronze.name: self._ingest(query.table, instant, query)}

    def _ingest(self, table: SourceTable, instant: datetime, query: ExtractionQuery | None = None) -> Ingested:
        lake = Lake(self.settings)
        with lake.exclusive(table.bronze):
            draft = new_rows(lake, self.source.url, table, source=self.source.name, ingested_at=instant, query=query)
            published = lake.publish(draft)
        figures = draft.figures
        return Ingested(
            delivered=int(figures["delivered"]),
            new=int(figures["new"]),
            tombstones=int(figures["tombstones"]),
            batch_id=str(figures["batch_id"]),
            snapshot_id=published.snapshot_id,
        )


def _tables(source: CrmSource, destination: str, settings: Settings) -> tuple[SourceTable, ...]:
    below = tables_below(settings, destination).values()
    tables = tuple(table for table in source.tables if table.bronze in below)
    if not tables:
        raise InputError(f"{destination!r} is not in bronze", expected="bronze/crm/, a bucket in front or not")
    return tables


def _instant(as_of: datetime | None, settings: Settings) -> datetime:
    if as_of is None:
        return clock.now(settings)
    return as_of if as_of.tzinfo is not None else as_of.replace(tzinfo=settings.zone)
