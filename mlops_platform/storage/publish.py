"""Publishing: audit, then one commit that replaces exactly what the contract says.

A reader never sees unaudited rows; a publish whose content equals the table's commits nothing; a commit whose answer
was lost is looked up by its publish id before any retry; writers of one table wait for each other on a lock that dies
with its process. Does not belong here: what the rows are.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.contracts.table import Replace
from mlops_platform.errors import ContractError, StorageError
from mlops_platform.storage.audit import CheckOutcome, audit, require
from mlops_platform.storage.catalog import ensure_table, open_catalog
from mlops_platform.storage.conditions import Condition, all_of, all_of_sql
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.read import TableSnapshot, register, scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb
    import pyarrow as pa
    from pyiceberg.table import Table

    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings

LOCK_TIMEOUT_SECONDS = 600
PUBLISH_ID = "mlops.publish-id"
PROPERTY_PREFIX = "mlops."
RANGE_CHECK = "rows_in_range"


@dataclass(frozen=True, slots=True)
class Draft:
    """Rows a pipeline proposes for a table, not yet audited or written.

    Args:
        contract: The table's contract.
        rows: Rows in the contract's columns; other Arrow types of the same meaning are cast.
        scope: For `Replace.RANGE`: the range that the rows replace; rows outside it are refused.
        checks: Outcomes the pipeline found itself, reported beside the contract's.
        properties: Recorded in the snapshot, keys without the `mlops.` prefix.
        figures: Numbers worth showing a person.
        quarantine: Rejected rows, published even when the rest is not: they say why.
    """

    contract: TableContract
    rows: pa.Table
    scope: tuple[Condition, ...] = ()
    checks: tuple[CheckOutcome, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, int | float | str] = field(default_factory=dict)
    quarantine: Draft | None = None

    def audit(self) -> list[CheckOutcome]:
        """The contract's checks, the range check, and the pipeline's own."""
        rows = conform(self.contract, self.rows)
        outcomes = audit(self.contract, rows)
        if self.scope:
            outcomes.append(_range_check(rows, self.scope))
        return [*outcomes, *self.checks]


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What a publish did.

    Args:
        table: The table's name.
        snapshot_id: The snapshot that holds the rows.
        rows: Rows the table holds now; for a range table, the range's.
        is_new: False when the table already held these rows and nothing was committed.
    """

    table: str
    snapshot_id: int | None
    rows: int
    is_new: bool


def publish(settings: Settings, draft: Draft, *, properties: Mapping[str, str] | None = None) -> PublishResult:
    """Audits a draft, sets its quarantined rows aside, and commits it.

    Raises:
        ContractError: A blocking check failed; the table is as it was.
        StorageError: The table is locked by another writer for too long, or the home can't be written.
    """
    outcomes = draft.audit()
    publish_quarantine(settings, draft, properties=properties)
    require(draft.contract, outcomes)
    return publish_audited(settings, draft, properties=properties)


def publish_quarantine(settings: Settings, draft: Draft, *, properties: Mapping[str, str] | None = None) -> None:
    """Publishes the draft's quarantined rows, if the draft has any place for them."""
    if draft.quarantine is not None:
        require(draft.quarantine.contract, draft.quarantine.audit())
        publish_audited(settings, draft.quarantine, properties=properties)


def publish_audited(settings: Settings, draft: Draft, *, properties: Mapping[str, str] | None = None) -> PublishResult:
    """Commits a draft whose `audit` the caller has run and reported.

    Raises:
        StorageError: The table is locked by another writer for too long, or the home can't be written.
    """
    contract, scope = draft.contract, draft.scope
    if (contract.replace is Replace.RANGE) != bool(scope):
        raise ValueError(f"{contract.name}: a range table is published with a scope, and only that")
    rows = conform(contract, draft.rows)
    catalog = open_catalog(settings)
    with table_lock(settings, contract.name):
        table = ensure_table(catalog, contract, settings.timezone)
        held = current(settings, contract, table)
        rows = _unheld(held, rows)
        replaced = _replaced(held, rows, scope)
        if replaced is None:
            return _result(contract, table, rows, is_new=False)
        found = {PROPERTY_PREFIX + key: value for key, value in {**draft.properties, **(properties or {})}.items()}
        _commit(
            table,
            rows.cast(arrow_schema(contract)),
            scope if replaced else None,
            found | {PUBLISH_ID: uuid.uuid4().hex},
        )
        return _result(contract, table, rows, is_new=True)


def _result(contract: TableContract, table: Table, rows: pa.Table, *, is_new: bool) -> PublishResult:
    snapshot = table.current_snapshot()
    held = rows.num_rows
    if contract.replace is Replace.NOTHING and snapshot is not None and snapshot.summary is not None:
        held = int(snapshot.summary.additional_properties.get("total-records", held))
    return PublishResult(contract.name, snapshot.snapshot_id if snapshot else None, held, is_new)


def conform(contract: TableContract, rows: pa.Table) -> pa.Table:
    """The rows in the contract's column order and Arrow types.

    Raises:
        ContractError: A column is missing, unknown, or can't be cast without loss.
    """
    import pyarrow as pa

    schema = arrow_schema(contract)
    missing = [name for name in schema.names if name not in rows.column_names]
    unknown = [name for name in rows.column_names if name not in schema.names]
    if missing or unknown:
        raise ContractError(f"{contract.name}: missing columns {missing}, unknown columns {unknown}")
    try:
        nullable = pa.schema([field.with_nullable(True) for field in schema])
        return rows.select(schema.names).cast(nullable)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(f"{contract.name}: {error}", expected=f"the columns {schema.names}") from error


def current(settings: Settings, contract: TableContract, table: Table | None) -> TableSnapshot:
    """The table's present state."""
    snapshot = table.current_snapshot() if table is not None else None
    return TableSnapshot(contract, snapshot.snapshot_id if snapshot else None, settings, table)


@contextmanager
def table_lock(settings: Settings, name: str) -> Iterator[None]:
    """Holds the table's writer lock; a flock, so the kernel releases it when the process dies.

    Raises:
        StorageError: Another writer held it for ten minutes.
    """
    from filelock import FileLock, Timeout

    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock", timeout=LOCK_TIMEOUT_SECONDS)
    try:
        with lock:
            yield
    except Timeout as error:
        raise StorageError(
            f"{name} has been locked by another writer for {LOCK_TIMEOUT_SECONDS} s",
            hint="wait for the other run to end, or stop it in the Dagster UI, then run this again.",
        ) from error


def _range_check(rows: pa.Table, scope: Sequence[Condition]) -> CheckOutcome:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("published", rows)
        outside = scalar(connection, f"SELECT count(*) FROM published WHERE ({all_of_sql(scope)}) IS NOT TRUE")
    message = f"{outside} rows lie outside {all_of_sql(scope)}" if outside else ""
    return CheckOutcome(RANGE_CHECK, passed=not outside, message=message)


def _unheld(held: TableSnapshot, rows: pa.Table) -> pa.Table:
    """For an append-once table: the rows whose identity the table does not hold yet."""
    identity = held.contract.append_once
    if not identity or held.snapshot_id is None or not rows.num_rows:
        return rows
    with session(held.settings) as connection:
        before = register(connection, held, columns=identity)
        connection.register("published", rows)
        names = ", ".join(map(quoted, identity))
        fresh = connection.sql(f"SELECT * FROM published ANTI JOIN {before} USING ({names})").to_arrow_table()
    return fresh.cast(rows.schema)


def _replaced(held: TableSnapshot, rows: pa.Table, scope: Sequence[Condition]) -> int | None:
    """How many held rows the publish replaces; None if it would change nothing.

    A publish changes nothing when it appends no row, or replaces rows by equal ones.
    """
    if held.snapshot_id is None:
        return 0
    if held.contract.replace is Replace.NOTHING:
        return 0 if rows.num_rows else None
    with session(held.settings) as connection:
        before = register(connection, held, where=scope)
        connection.register("published", rows)
        columns = held.contract.content_columns
        old = _digest(connection, before, columns)
        return None if old == _digest(connection, "published", columns) else old[0]


def _digest(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str]
) -> tuple[int, int | None, int | None]:
    """Order-free digest of the rows: their number and two independent 64-bit hash sums."""
    cells = ", ".join(map(quoted, columns))
    rows, first, second = connection.execute(
        f"SELECT count(*), sum(hash({cells})::HUGEINT), sum(hash('digest', {cells})::HUGEINT) FROM {relation}"
    ).fetchall()[0]
    return rows, first, second


def _commit(table: Table, rows: pa.Table, scope: Sequence[Condition] | None, properties: dict[str, str]) -> None:
    """One catalog commit; with a scope it replaces the rows there. A lost answer is looked up before it is believed."""
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with table.transaction() as transaction:
            if scope is None:
                transaction.append(rows, snapshot_properties=properties)
            else:
                transaction.overwrite(rows, overwrite_filter=all_of(scope), snapshot_properties=properties)
    except (CommitFailedException, CommitStateUnknownException, SQLAlchemyError, OSError) as error:
        if not _has_committed(table, properties[PUBLISH_ID]):
            raise StorageError(f"the commit to {table.name()} failed: {error}", hint="run this again.") from error
    table.refresh()


def _has_committed(table: Table, publish_id: str) -> bool:
    table.refresh()
    return any(s.summary is not None and s.summary.get(PUBLISH_ID) == publish_id for s in table.snapshots())
