"""Ingestion: which CRM rows are new, appended to bronze as one batch.

New is what bronze does not hold yet: rows changed since the watermark (less an overlap), minus equal rows already
there, counted (a row delivered twice is held twice). The watermark is kept in the bronze table's own snapshots. Does
not belong here: how a CRM is read (`crm.py`), what the rows mean (`processing.py`).
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops_platform.data_pipeline.crm import SourceTable, connect, read
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import register, scalar

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

    from mlops_platform.storage.lake import Lake

WATERMARK = "watermark"


def new_rows(lake: Lake, url: str, table: SourceTable, *, source: str, ingested_at: datetime) -> Draft:
    """Reads what the CRM has that bronze has not.

    Args:
        lake: The home's tables.
        url: The CRM's URL.
        table: The CRM table to read.
        source: Name of the source, kept in `_source`.
        ingested_at: Instant of this ingestion, kept in `_ingested_at`.

    Returns:
        A draft with the new rows (possibly none) and the new watermark in its properties.

    Raises:
        SourceError: The CRM can't be reached, or lacks the table or a required column.
    """
    since = _since(lake, table)
    bronze = lake.snapshot(table.bronze)
    names = ", ".join(map(quoted, table.columns))
    with connect(url) as connection, session(lake.settings) as duck:
        duck.register("_stream", read(connection, url, table, table.columns, since=since))
        duck.execute(f"CREATE TEMP TABLE delivered AS SELECT {names} FROM _stream")
        held = register(duck, bronze)
        recent = "" if since is None else f" WHERE updated_at IS NULL OR updated_at >= '{since.isoformat()}'"
        duck.execute(
            f"CREATE TEMP TABLE fresh AS SELECT {names} FROM delivered EXCEPT ALL SELECT {names} FROM {held}{recent}"
        )
        delivered = scalar(duck, "SELECT count(*) FROM delivered")
        batch_id = _batch_id(duck, source, table, names)
        rows = duck.sql(
            f"SELECT {names}, $at::TIMESTAMPTZ AS _ingested_at, $batch AS _batch_id, $source AS _source FROM fresh",
            params={"at": ingested_at, "batch": batch_id, "source": source},
        ).to_arrow_table()
        watermark = _watermark(duck, lake.properties(table.bronze).get(WATERMARK))
    return Draft(
        table.bronze,
        rows,
        properties={WATERMARK: watermark} if watermark else {},
        figures={"delivered": delivered, "new": rows.num_rows, "batch_id": batch_id, "since": str(since or "start")},
    )


def _since(lake: Lake, table: SourceTable) -> date | None:
    watermark = lake.properties(table.bronze).get(WATERMARK)
    return date.fromisoformat(watermark) - timedelta(days=lake.settings.ingest_overlap_days) if watermark else None


def _watermark(duck: duckdb.DuckDBPyConnection, known: str | None) -> str | None:
    """Local day of the latest readable `updated_at` seen so far; None when no delivered row ever had one."""
    newest = scalar(duck, "SELECT max(try_cast(updated_at AS TIMESTAMPTZ))::DATE::VARCHAR FROM delivered")
    return max((day for day in (newest, known) if day), default=None)


def _batch_id(duck: duckdb.DuckDBPyConnection, source: str, table: SourceTable, names: str) -> str:
    """Identifier of a batch: the same rows of the same source always have the same one."""
    digest = scalar(
        duck, f"SELECT md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5(to_json(({names}))) h FROM fresh)"
    )
    return hashlib.sha256(f"{source}/{table.name}/{digest}".encode()).hexdigest()[:16]
