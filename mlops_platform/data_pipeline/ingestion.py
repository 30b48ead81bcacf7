"""Ingestion: which CRM rows are new, appended to bronze as one batch.

New is what bronze does not hold yet: rows changed since the watermark (less an overlap), minus equal rows already
there, counted (a row delivered twice is held twice). A row changed back to what it was, its time of change as before,
is delivered again, for the latest version wins. A source's watermark is kept in the bronze table's own snapshots.
Does not belong here: how a CRM is read (`extraction.py`), what a tombstone means (`deletions.py`), what the rows mean
(`processing.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.data_pipeline.connections import ISO_DAY, open_database
from mlops_platform.data_pipeline.deletions import compare_keys, define_alive, latest_first, require_few_gone
from mlops_platform.data_pipeline.erased import erased_filter
from mlops_platform.data_pipeline.extraction import check, read
from mlops_platform.data_pipeline.text import define_macros
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import register, scalar
from mlops_platform.storage.rows import BATCH_ROWS, gather, register_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import duckdb
    import pyarrow as pa

    from mlops_platform.data_pipeline.connections import Database
    from mlops_platform.data_pipeline.crm import SourceTable
    from mlops_platform.data_pipeline.extraction_query import ExtractionQuery
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.rows import Rows

WATERMARK = "watermark"
_HELD = "held"


def new_rows(
    lake: Lake,
    url: str,
    table: SourceTable,
    *,
    source: str,
    ingested_at: datetime,
    query: ExtractionQuery | None = None,
) -> Draft:
    """Reads what the CRM has that bronze has not.

    Args:
        lake: The home's tables.
        url: The CRM's URL.
        table: The CRM table to read.
        source: Name of the source, kept in `_source`.
        ingested_at: Instant of this ingestion, kept in `_ingested_at`.
        query: Deliver this instead of what changed since the watermark; the watermark stays and no key is compared.

    Returns:
        A draft with the new rows (possibly none) and tombstones, and the new watermark in its properties.

    Raises:
        InputError: The CRM refuses the query.
        SourceError: The CRM can't be reached, lacks the table or a required column, or too many keys are gone.
    """
    watermarks = {k: v for k, v in lake.properties(table.bronze).items() if k.startswith(WATERMARK)}
    known = watermarks.get(f"{WATERMARK}.{source}")
    since = _since(lake, known) if query is None else None
    bronze = lake.snapshot(table.bronze, where=[Condition("_source", "=", source)])
    with open_database(url) as database, session(lake.settings) as duck:
        define_macros(duck)
        register(duck, bronze, view=_HELD)
        at = _instant(duck, ingested_at)
        batch_id = _batch_id(source, table, bronze.snapshot_id, at, query)
        run = _Run(lake, database, duck, table, query, {"_ingested_at": at, "_batch_id": batch_id, "_source": source})
        found = run.compared(since) if scalar(duck, f"SELECT count(*) FROM {_HELD}") else run.everything()
    watermark = max((day for day in (found.watermark, known) if day), default=None) if query is None else known
    return Draft(
        table.bronze,
        found.rows,
        properties=watermarks | ({f"{WATERMARK}.{source}": watermark} if watermark else {}),
        figures={
            "delivered": found.delivered,
            "new": found.rows.num_rows - found.tombstones,
            "tombstones": found.tombstones,
            "batch_id": batch_id,
            "since": str(since or "start"),
        },
        based_on=bronze.snapshot_id,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    rows: Rows
    delivered: int
    tombstones: int
    watermark: str | None


@dataclass(frozen=True, slots=True)
class _Run:
    """One ingestion of one table, with the source's bronze rows registered in DuckDB."""

    lake: Lake
    database: Database
    duck: duckdb.DuckDBPyConnection
    table: SourceTable
    query: ExtractionQuery | None
    lineage: Mapping[str, Any]

    def everything(self) -> _Found:
        """Where bronze holds nothing of the source all rows are new: they go straight through."""
        rows = self._gather(self._delivered())
        register_rows(self.duck, "gathered", rows)
        return _Found(rows, rows.num_rows, 0, self._watermark("gathered"))

    def compared(self, since: date | None) -> _Found:
        """The delivered rows that bronze does not hold, and tombstones for keys that are gone."""
        recent = _is_recent(since) if since is not None else "true"
        names = ", ".join(map(quoted, self.table.columns))
        define_alive(self.duck, _HELD, self.table.key)
        self.duck.execute(f"CREATE TEMP TABLE delivered ({names.replace(',', ' VARCHAR,')} VARCHAR)")
        # What the CRM takes for recent may be a little more.
        self._take(self._delivered(since), recent)
        gone = self._deletions() if self._compares_keys() else 0
        self.duck.execute(
            f"CREATE TEMP TABLE fresh AS SELECT {names} FROM delivered "
            f"EXCEPT ALL SELECT {names} FROM alive WHERE {recent}"
        )
        self._redeliver_reverted(names, recent)
        new = f"SELECT {names}, NULL::BOOLEAN AS _is_tombstone FROM fresh"
        if gone:
            new += f" UNION ALL SELECT {self._tombstone_cells()}, true FROM gone"
        rows = self._gather(self.duck.sql(new).to_arrow_reader(BATCH_ROWS))
        delivered = scalar(self.duck, "SELECT count(*) FROM delivered")
        return _Found(rows, delivered, gone, self._watermark("delivered"))

    def _delivered(self, since: date | None = None) -> Iterable[pa.RecordBatch]:
        """Every row that the CRM hands over passes here, but for those of customers who were erased."""
        statement = self.query.statement if self.query is not None else None
        batches: Iterable[pa.RecordBatch] = read(self.database, self.table, since=since, query=statement)
        keep = erased_filter(self.lake)
        return map(keep, batches) if keep is not None else batches

    def _take(self, batches: Iterable[pa.RecordBatch], where: str) -> None:
        for batch in batches:
            self.duck.register("_batch", batch)
            self.duck.execute(f"INSERT INTO delivered SELECT * FROM _batch WHERE {where}")

    def _redeliver_reverted(self, names: str, recent: str) -> None:
        """Adds to `fresh` the delivered rows that bronze holds, but behind another version of the same time of change.

        A key that the CRM delivers twice has no one row that could have changed back.
        """
        key, cells = quoted(self.table.key), ", ".join(f"winner.{quoted(name)}" for name in self.table.columns)
        order = latest_first("readable_time(updated_at)", map(quoted, self.table.columns))
        self.duck.execute(
            f"""INSERT INTO fresh
            WITH several AS (SELECT {key} FROM alive SEMI JOIN delivered USING ({key}) WHERE {recent}
                    GROUP BY {key} HAVING count(*) > 1),
                held AS (SELECT * FROM alive SEMI JOIN several USING ({key}) WHERE {recent}),
                winner AS (SELECT * FROM held QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order}) = 1),
                once AS (SELECT * FROM delivered SEMI JOIN several USING ({key})
                    QUALIFY count(*) OVER (PARTITION BY {key}) = 1)
            SELECT {names} FROM (SELECT once.* FROM once JOIN winner USING ({key})
                WHERE readable_time(once.updated_at) IS NOT DISTINCT FROM readable_time(winner.updated_at)
                AND ({", ".join(f"once.{quoted(name)}" for name in self.table.columns)}) IS DISTINCT FROM ({cells}))
            EXCEPT SELECT {names} FROM fresh"""
        )

    def _compares_keys(self) -> bool:
        is_wanted = self.query is None and self.lake.settings.deletions == "compare"
        return is_wanted and "deleted_at" not in check(self.database, self.table)

    def _deletions(self) -> int:
        """Finds the keys that are gone, and delivers in full those that are back; returns how many are gone."""
        compare_keys(self.duck, self.table, read(self.database, self.table, (self.table.key,)))
        gone = require_few_gone(self.duck, self.lake.settings, self.table, self.database.url)
        if scalar(self.duck, "SELECT count(*) FROM restored"):
            # Their rows may lie long before the watermark.
            is_back = f"{quoted(self.table.key)} IN (SELECT key FROM restored)"
            self.duck.execute(f"DELETE FROM delivered WHERE {is_back}")
            self._take(self._delivered(), is_back)
        return gone

    def _tombstone_cells(self) -> str:
        cells = {self.table.key: "key", "deleted_at": f"'{self.lineage['_ingested_at'].isoformat()}'"}
        return ", ".join(cells.get(name, "NULL") for name in self.table.columns)

    def _gather(self, batches: Iterable[pa.RecordBatch]) -> Rows:
        """The batches with the lineage columns, in memory or staged."""
        import pyarrow as pa

        schema = arrow_schema(self.table.bronze)

        def complete() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                cells = [
                    batch[field.name].cast(field.type)
                    if field.name in batch.schema.names
                    else pa.repeat(pa.scalar(self.lineage.get(field.name), field.type), batch.num_rows)
                    for field in schema
                ]
                yield pa.RecordBatch.from_arrays(cells, schema=schema)

        return gather(self.lake.settings, self.table.bronze, pa.RecordBatchReader.from_batches(schema, complete()))

    def _watermark(self, relation: str) -> str | None:
        """Local day of the latest readable `updated_at`; None when no row has one.

        A time after the ingestion itself is a mistake and does not count: it would hide every later change.
        """
        # Reading every time costs more than writing the rows. ISO text sorts by day, and an offset moves a time by less
        # than two: the rows of the last days hold the latest time, unless what is written there can't be read.
        at = self.lineage["_ingested_at"]
        day: date | None = scalar(
            self.duck,
            f"SELECT try_cast(max(left(updated_at, 10)) AS DATE) FROM {relation} WHERE left(updated_at, 10) <= $last",
            {"last": (at + timedelta(days=2)).date().isoformat()},
        )
        if day is not None and day > date(2, 1, 1):
            recent = f"updated_at >= '{day - timedelta(days=2)}' OR updated_at NOT LIKE '____-__-__%'"
            latest = self._latest_day(f"(FROM {relation} WHERE {recent})")
            if latest is not None and latest >= day - timedelta(days=1):
                return latest.isoformat()
        found = self._latest_day(relation)
        return found.isoformat() if found is not None else None

    def _latest_day(self, relation: str) -> date | None:
        found: date | None = scalar(
            self.duck,
            f"SELECT max(t)::DATE FROM (SELECT readable_time(updated_at) AS t FROM {relation}) "
            "WHERE t <= $at::TIMESTAMPTZ",
            {"at": self.lineage["_ingested_at"]},
        )
        return found


def _since(lake: Lake, watermark: str | None) -> date | None:
    return date.fromisoformat(watermark) - timedelta(days=lake.settings.ingest_overlap_days) if watermark else None


def _is_recent(since: date) -> str:
    """The rows of bronze that an extraction since this day delivers again: the CRM's own condition, in DuckDB."""
    return f"updated_at IS NULL OR NOT regexp_matches(updated_at, '{ISO_DAY}') OR updated_at >= '{since.isoformat()}'"


def _instant(duck: duckdb.DuckDBPyConnection, ingested_at: datetime) -> datetime:
    """The instant of this batch: after every batch of the source that bronze holds.

    Tombstones and versions of one time of change count by their `_ingested_at`, and a pinned clock stands still.
    """
    latest = scalar(duck, f"SELECT max(epoch_us(_ingested_at)) FROM {_HELD}")
    if latest is None:
        return ingested_at
    return max(ingested_at, datetime.fromtimestamp(0, UTC) + timedelta(microseconds=latest + 1))


def _batch_id(
    source: str, table: SourceTable, snapshot_id: int | None, at: datetime, query: ExtractionQuery | None
) -> str:
    """Identifier of a batch: what it was computed from, since a streamed batch is written before it is known."""
    text = query.text if query is not None else ""
    known = f"{source}/{table.name}/{snapshot_id}/{at.astimezone(UTC).isoformat()}/{text}"
    return hashlib.sha256(known.encode()).hexdigest()[:16]
