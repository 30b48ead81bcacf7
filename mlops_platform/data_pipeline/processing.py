"""Processing: bronze to silver, only what new bronze rows touch; rejected rows to the quarantine with a reason.

Belongs here: which rows are processed and what of silver is replaced, and the accounting. Does not belong here: what is
done to a row (`transformations.py`), publishing.

The new rows are those of batches that the bronze snapshot of silver's last publish did not hold. Every version of their
keys is read again, so that the outcome does not depend on the order of arrival, and the days (of UTC, as the table is
partitioned) on which such a key lies now or will lie are replaced; the days' other rows come from silver itself.
Without such a snapshot, or with other transformations than last time, everything is processed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb

from mlops_platform.contracts import QUARANTINE
from mlops_platform.data_pipeline.text import define_macros
from mlops_platform.data_pipeline.transformations import PERSONAL, STANDARD, SilverTable, named
from mlops_platform.errors import InputError, StorageError
from mlops_platform.storage.audit import CheckOutcome
from mlops_platform.storage.conditions import Condition, all_time
from mlops_platform.storage.duck import parquet_source, quoted, session
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import register, scalar
from mlops_platform.storage.rows import BATCH_ROWS, gather

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

ROWS_ACCOUNTED = "rows_accounted_for"
REJECTED_SHARE = "rejected_share"
HAS_ROWS = "data_ready"
# More rows are taken in shares by key: joins and windows over all of them would not fit into bounded memory.
ROWS_AT_ONCE = 5_000_000
# Iceberg's writer holds no later instant, and silver reads none (`text.py`).
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
SILVER_CHECKS = (ROWS_ACCOUNTED, REJECTED_SHARE, HAS_ROWS)

BRONZE_SNAPSHOT = "bronze-snapshot-id"


def silver_draft(
    lake: Lake, table: SilverTable, bronze: TableSnapshot | None = None, *, transformations: Sequence[str] = STANDARD
) -> Draft:
    """What silver has to become, given bronze.

    Args:
        lake: The home's tables.
        table: The silver table.
        bronze: The state of its bronze table; None: the present one.
        transformations: Names of the steps, in order.

    Returns:
        A draft that replaces the touched days (for a table without days: everything), with rejected rows in its
        quarantine.

    Raises:
        InputError: An unknown transformation, or silver's columns are not all there after the last one.
    """
    held = lake.snapshot(table.contract)
    marks = _marks(lake.settings, table, transformations)
    bronze = bronze or lake.snapshot(table.bronze)
    scratch = lake.settings.home / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="silver-") as folder, session(lake.settings) as duck:
        work = _Work(lake.settings, duck, table, Path(folder))
        before = _bronze_before(lake, table, bronze, marks)
        is_partial = work.read_bronze(bronze, before)
        work.transform(transformations)
        work.count()
        scope: tuple[Condition, ...] = ()
        if table.moment is not None:
            days = work.touched_days(held) if is_partial else []
            scope = (Condition(table.moment, "day in", tuple(days)),) if is_partial else all_time(table.moment)
        quarantine = work.rejected(lake.snapshot(QUARANTINE), is_partial)
        checks = work.checks(lake.settings)
        rows = gather(lake.settings, table.contract, work.published(held if is_partial else None, scope))
    return Draft(
        table.contract,
        rows,
        scope=scope,
        checks=checks,
        figures={**work.figures, "is_partial": is_partial},
        properties={BRONZE_SNAPSHOT: str(bronze.snapshot_id)},
        marks=marks,
        quarantine=Draft(
            QUARANTINE, quarantine, scope=(Condition("table_name", "=", table.contract.name),), marks=marks
        ),
        based_on=held.snapshot_id,
    )


def _bronze_before(
    lake: Lake, table: SilverTable, bronze: TableSnapshot, marks: Mapping[str, str]
) -> TableSnapshot | None:
    """The bronze snapshot that silver holds already; None: everything has to be processed."""
    snapshot_id = lake.properties(table.contract).get(BRONZE_SNAPSHOT, "")
    # A publish that was refused has left rows in the quarantine that other transformations may have rejected.
    is_alike = all(marks.items() <= lake.marks(made).items() for made in (table.contract, QUARANTINE))
    if not snapshot_id.isdigit() or not is_alike:
        return None
    try:
        return bronze.at(int(snapshot_id))
    except StorageError:
        # It has been expired: there is no telling what is new.
        return None


def _marks(settings: Settings, table: SilverTable, transformations: Sequence[str]) -> dict[str, str]:
    """Changes with what is done to a row: names and SQL of the steps, and whether names and addresses are kept."""
    steps = [step("rows", table) for step in named(transformations)]
    digest = hashlib.sha256(f"{steps}/{table.read}/{settings.keep_personal}".encode()).hexdigest()[:16]
    return {f"transformations.{table.contract.name}": f"{','.join(transformations)}/{digest}"}


@dataclass
class _Work:
    """One processing of one table, in one DuckDB session: bronze's rows in, silver's and the quarantine's out."""

    settings: Settings
    duck: duckdb.DuckDBPyConnection
    table: SilverTable
    folder: Path

    def __post_init__(self) -> None:
        define_macros(self.duck)
        # Keeping bronze's order would hold every row in memory; silver has an order of its own.
        self.duck.execute("SET preserve_insertion_order = false")
        self.duck.execute(f"CREATE TEMP MACRO keep_personal() AS {str(self.settings.keep_personal).lower()}")
        self.key = quoted(self.table.key)
        self.is_blank = f"trim(coalesce({self.key}, '')) = ''"
        self.shares, self.is_partial, self.new_rows = 1, False, (0, 0)
        self.figures: dict[str, int] = {}
        self.reasons: dict[str, int] = {}

    def read_bronze(self, bronze: TableSnapshot, before: TableSnapshot | None) -> bool:
        """Makes the view `rows` of the bronze rows to process; True when these are not all of them."""
        view = register(self.duck, bronze)
        chosen = view
        if before is not None:
            old = register(self.duck, before, view="bronze_before", columns=["_batch_id"])
            self.duck.execute(
                f"CREATE TEMP TABLE new_batches AS SELECT DISTINCT _batch_id FROM {view} "
                f"EXCEPT SELECT DISTINCT _batch_id FROM {old}"
            )
            batches = [row[0] for row in self.duck.execute("SELECT _batch_id FROM new_batches").fetchall()]
            fresh = register(self.duck, bronze, view="fresh", where=[Condition("_batch_id", "in", tuple(batches))])
            keys = f"SELECT DISTINCT {self.key} FROM {fresh} WHERE NOT ({self.is_blank})"
            self.duck.execute(f"CREATE TEMP TABLE touched AS {keys}")
            # Rows without a key can't be told apart: they are looked at whole.
            self.duck.execute(
                f"CREATE TEMP TABLE chosen AS SELECT * FROM {view} SEMI JOIN touched USING ({self.key}) "
                f"UNION ALL SELECT * FROM {view} WHERE {self.is_blank}"
            )
            chosen = "chosen"
        self.figures["read"] = scalar(self.duck, f"SELECT count(*) FROM {chosen}")
        self.figures["keys"] = scalar(
            self.duck, f"SELECT count(DISTINCT {self.key}) FROM {chosen} WHERE NOT ({self.is_blank})"
        )
        raw = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in self.table.raw)
        read = ", ".join(f"{quoted(name)} := {sql}" for name, sql in self.table.read.items())
        self.shares = max(1, -(-self.figures["read"] // ROWS_AT_ONCE))
        self.duck.execute(
            f"CREATE TEMP VIEW rows AS SELECT struct_pack({raw}) AS raw, struct_pack({read}) AS read, _ingested_at, "
            "_batch_id, _source, coalesce(_is_tombstone, false) AS _is_tombstone, false AS is_superseded, "
            f"NULL::VARCHAR AS reason FROM {chosen}"
            + (f" WHERE hash({self.key}) % {self.shares} = getvariable('share')" if self.shares > 1 else "")
        )
        self.is_partial = before is not None
        return self.is_partial

    def transform(self, names: Sequence[str]) -> None:
        """Runs the transformations; `processed` holds what they end with."""
        view = "rows"
        for name, step in zip(names, named(names), strict=True):
            made = f"after {name}"
            try:
                self.duck.execute(f"CREATE TEMP VIEW {quoted(made)} AS {step(view, self.table)}")
            except duckdb.Error as error:
                raise InputError(
                    f"the transformation {name} is no SELECT over its rows: {str(error).splitlines()[0]}",
                    expected="SQL of DuckDB's over the view whose name it is given",
                ) from error
            view = quoted(made)
        made_columns = self.duck.table(view).columns
        missing = [name for name in self.table.contract.column_names if name not in made_columns]
        if missing:
            raise InputError(
                f"after {', '.join(names) or 'no transformation'} {self.table.contract.name} lacks {missing}",
                expected=f"all of {', '.join(STANDARD)} among the transformations",
            )
        try:
            self._process(self._verdicts(view))
        except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException) as error:
            raise InputError(
                f"a transformation failed: {str(error).splitlines()[0]}",
                expected="steps that hold for every row",
                hint="try_cast and TRY give null where a value can't be computed.",
            ) from error

    def _process(self, verdicts: str) -> None:
        """Makes `processed`: in memory, or of many rows share by share in files, which DuckDB need not hold."""
        if self.shares == 1:
            self.duck.execute(f"CREATE TEMP TABLE processed AS {verdicts}")
            return
        files = [str(self.folder / f"{share}.parquet") for share in range(self.shares)]
        for share, file in enumerate(files):
            self.duck.execute(f"SET VARIABLE share = {share}")
            target = file.replace("'", "''")
            self.duck.execute(f"COPY ({verdicts}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        self.duck.execute(f"CREATE TEMP VIEW processed AS SELECT * FROM {parquet_source(files)}")

    def _verdicts(self, view: str) -> str:
        """Every row with what becomes of it; the row itself only as far as it is published or shown as rejected."""
        shown = [name for name in self.table.raw if self.settings.keep_personal or name not in PERSONAL]
        row = ", ".join(f"{quoted(name)} := raw.{quoted(name)}" for name in shown)
        cells = ", ".join(
            f"CASE WHEN is_published THEN {quoted(name)} END AS {quoted(name)}"
            for name in self.table.contract.column_names
            if name != "_batch_id"
        )
        return f"""SELECT is_superseded, reason, is_published, _batch_id, {cells},
                CASE WHEN NOT is_superseded AND trim(raw.{self.key}) <> '' THEN raw.{self.key} END AS _key,
                CASE WHEN NOT is_superseded AND NOT is_published THEN to_json(struct_pack({row}))::VARCHAR END AS "row"
            FROM (SELECT *, NOT is_superseded AND reason IS NULL AS is_published FROM {view})"""

    def count(self) -> None:
        """Counts what became of the rows."""
        found = self.duck.execute(
            f"""SELECT count(*) FILTER (WHERE is_published), count(*) FILTER (WHERE "row" IS NOT NULL),
                count(*) FILTER (WHERE is_superseded), count(DISTINCT _key),
                any_value(_key) FILTER (WHERE is_published AND {self.key} IS DISTINCT FROM _key) FROM processed"""
        ).fetchall()[0]
        if found[-1] is not None:
            raise InputError(
                f"a transformation changed {self.table.key} {found[-1]!r}",
                expected="the CRM's own keys: by them later versions and deletions find a row again",
                hint="put what you make of it into another column.",
            )
        self.figures |= dict(zip(("published", "quarantined", "superseded", "live_keys"), found[:-1], strict=True))
        # Old rows that are read again say nothing of the new batch.
        new = "_batch_id IN (SELECT _batch_id FROM new_batches)" if self.is_partial else "true"
        self.new_rows = self.duck.execute(
            f"""SELECT count(*) FILTER (WHERE is_published), count(*) FILTER (WHERE "row" IS NOT NULL)
            FROM processed WHERE {new}"""
        ).fetchall()[0]
        self.figures["deleted"] = self.figures["keys"] - self.figures.pop("live_keys")
        self.reasons = dict(
            self.duck.execute(
                'SELECT reason, count(*) FROM processed WHERE "row" IS NOT NULL GROUP BY reason'
            ).fetchall()
        )

    def touched_days(self, held: TableSnapshot) -> list[Any]:
        """The UTC days on which a touched key lies in silver now, or will lie."""
        moment = f"(timezone('UTC', {self.table.moment}))::DATE"
        now = register(self.duck, held, view="held", columns=[self.table.key, str(self.table.moment)])
        found = self.duck.execute(
            f"SELECT {moment} FROM {now} SEMI JOIN touched USING ({self.key}) "
            f"UNION SELECT {moment} FROM processed WHERE is_published"
        ).fetchall()
        return sorted(row[0] for row in found)

    def published(self, held: TableSnapshot | None, scope: Sequence[Condition]) -> pa.RecordBatchReader:
        """A stream of the rows that the scope is to hold, ordered as the table is partitioned."""
        import pyarrow as pa

        cells = ", ".join(map(quoted, self.table.contract.column_names))
        sql = f"SELECT {cells} FROM processed WHERE is_published"
        if held is not None:
            kept = register(self.duck, held, view="kept", where=scope)
            sql += f" UNION ALL SELECT {cells} FROM {kept} ANTI JOIN touched USING ({self.key})"
        if self.table.moment is None:
            return self.duck.sql(sql).to_arrow_reader(BATCH_ROWS)
        self.duck.execute(f"CREATE TEMP VIEW published AS {sql}")
        slices = self._slices()
        # A row without a time must reach the audit, which refuses it.
        ordered = f"SELECT * FROM published WHERE coalesce({self.table.moment}, $last) BETWEEN $from AND $to"
        ordered += f" ORDER BY {self.table.moment}"

        def batches() -> Iterator[pa.RecordBatch]:
            for start, end in slices:
                yield from self.duck.sql(ordered, params={"from": start, "to": end, "last": _LAST}).to_arrow_reader(
                    BATCH_ROWS
                )

        return pa.RecordBatchReader.from_batches(
            self.duck.sql("FROM published LIMIT 0").to_arrow_table().schema, batches()
        )

    def _slices(self) -> list[tuple[datetime, datetime]]:
        """Spans of UTC days of about `ROWS_AT_ONCE` rows each: sorting more at once would not fit into memory."""
        day = f"(timezone('UTC', {self.table.moment}))::DATE"
        counts = self.duck.execute(f"SELECT {day} AS day, count(*) FROM published GROUP BY day ORDER BY day").fetchall()
        edges, rows = [datetime(1, 1, 1, tzinfo=UTC)], 0
        for found, count in counts:
            if rows and rows + count > ROWS_AT_ONCE:
                edges.append(datetime.combine(found, time(), UTC))
                rows = 0
            rows += count
        starts = [*edges, _LAST + timedelta(microseconds=1)]
        return [(start, end - timedelta(microseconds=1)) for start, end in pairwise(starts)]

    def rejected(self, quarantine: TableSnapshot, is_partial: bool) -> Any:
        """What the quarantine of this table is to hold."""
        name = self.table.contract.name
        sql = f'SELECT \'{name}\' AS table_name, reason, _batch_id, "row" FROM processed WHERE "row" IS NOT NULL'
        if is_partial:
            old = register(self.duck, quarantine, where=[Condition("table_name", "=", name)])
            key = f"json_extract_string(\"row\", '$.{self.table.key}')"
            columns = ", ".join(map(quoted, QUARANTINE.column_names))
            sql += (
                f" UNION ALL SELECT {columns} FROM (SELECT *, {key} AS {self.key} FROM {old}) "
                f"ANTI JOIN touched USING ({self.key}) WHERE NOT ({self.is_blank})"
            )
        return gather(self.settings, QUARANTINE, self.duck.sql(sql).to_arrow_reader(BATCH_ROWS))

    def checks(self, settings: Settings) -> tuple[CheckOutcome, ...]:
        """The accounting, the share of rejected rows, and whether there is anything."""
        figures = self.figures
        read, published, quarantined = figures["read"], figures["published"], figures["quarantined"]
        unaccounted = read - published - quarantined - figures["superseded"]
        share = self.new_rows[1] / sum(self.new_rows) if any(self.new_rows) else 0.0
        limit = settings.max_rejected_share
        found = ", ".join(f"{reason}: {count}" for reason, count in sorted(self.reasons.items()))
        lost = "; set `reason` in a transformation instead of dropping a row" if unaccounted > 0 else ""
        return (
            CheckOutcome(
                ROWS_ACCOUNTED,
                passed=unaccounted == 0 and figures["deleted"] >= 0,
                message=f"{unaccounted} rows neither published, quarantined nor superseded{lost}"
                if unaccounted
                else "",
                figures=dict(figures),
            ),
            CheckOutcome(
                REJECTED_SHARE,
                passed=share <= limit,
                message=f"{share:.1%} of the rows were rejected, at most {limit:.0%} may be ({found})" if share else "",
                figures={"rejected_share": share, **self.reasons},
            ),
            CheckOutcome(
                HAS_ROWS,
                passed=published > 0 or read == 0,
                message="" if published else "no usable row",
                is_blocking=False,
            ),
        )
