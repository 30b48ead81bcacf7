"""Ingestion: which CRM rows are new, appended to bronze as one batch.

New is what bronze does not hold yet: rows changed since the watermark (less an overlap), minus equal rows already
there, counted (a row delivered twice is held twice). A source's watermark is kept in the bronze table's own snapshots.
Does not belong here: how a CRM is read (`crm.py`), what the rows mean (`processing.py`).
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops_platform.data_pipeline.crm import ISO_DAY, SourceTable, connect, read
from mlops_platform.data_pipeline.text import define_macros
from mlops_platform.storage.conditions import Condition
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
    watermarks = {k: v for k, v in lake.properties(table.bronze).items() if k.startswith(WATERMARK)}
    name = f"{WATERMARK}.{source}"
    since = _since(lake, watermarks.get(name))
    bronze = lake.snapshot(table.bronze, where=[Condition("_source", "=", source)])
    names = ", ".join(map(quoted, table.columns))
    with connect(url) as connection, session(lake.settings) as duck:
        define_macros(duck)
        duck.register("_stream", read(connection, url, table, table.columns, since=since))
        duck.execute(f"CREATE TEMP TABLE delivered AS SELECT {names} FROM _stream")
        held = register(duck, bronze)
        recent = "" if since is None else f" WHERE {_is_recent(since)}"
        duck.execute(
            f"CREATE TEMP TABLE fresh AS SELECT {names} FROM delivered EXCEPT ALL SELECT {names} FROM {held}{recent}"
        )
        delivered = scalar(duck, "SELECT count(*) FROM delivered")
        batch_id = _batch_id(duck, source, table, names)
        rows = duck.sql(
            f"SELECT {names}, $at::TIMESTAMPTZ AS _ingested_at, $batch AS _batch_id, $source AS _source FROM fresh",
            params={"at": ingested_at, "batch": batch_id, "source": source},
        ).to_arrow_table()
        watermark = _watermark(duck, watermarks.get(name), ingested_at)
    return Draft(
        table.bronze,
        rows,
        properties=watermarks | ({name: watermark} if watermark else {}),
        figures={"delivered": delivered, "new": rows.num_rows, "batch_id": batch_id, "since": str(since or "start")},
    )


def _since(lake: Lake, watermark: str | None) -> date | None:
    return date.fromisoformat(watermark) - timedelta(days=lake.settings.ingest_overlap_days) if watermark else None


def _is_recent(since: date) -> str:
    """The rows of bronze that an extraction since this day delivers again: the CRM's own condition, in DuckDB."""
    return f"updated_at IS NULL OR NOT regexp_matches(updated_at, '{ISO_DAY}') OR updated_at >= '{since.isoformat()}'"


def _watermark(duck: duckdb.DuckDBPyConnection, known: str | None, ingested_at: datetime) -> str | None:
    """Local day of the latest readable `updated_at` seen so far; None when no delivered row ever had one.

    A time after the ingestion itself is a mistake and does not count: it would hide every later change.
    """
    rows = duck.execute(
        "SELECT max(t)::DATE::VARCHAR FROM (SELECT readable_time(updated_at) AS t FROM delivered) "
        "WHERE t <= $at::TIMESTAMPTZ",
        {"at": ingested_at},
    ).fetchall()
    return max((day for day in (rows[0][0], known) if day), default=None)


def _batch_id(duck: duckdb.DuckDBPyConnection, source: str, table: SourceTable, names: str) -> str:
    """Identifier of a batch: the same rows of the same source always have the same one."""
    digest = scalar(
        duck, f"SELECT md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5(to_json(({names}))) h FROM fresh)"
    )
    return hashlib.sha256(f"{source}/{table.name}/{digest}".encode()).hexdigest()[:16]
