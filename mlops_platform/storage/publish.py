"""Publishing: audit, then one commit that replaces exactly what the contract says.

A reader never sees unaudited rows; a publish whose content equals the table's commits nothing; writers of one table
wait for each other on a lock that dies with its process. Does not belong here: what the rows are, how they are written
(`rows.py`) and committed (`commit.py`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from mlops_platform.contracts import QUARANTINE
from mlops_platform.contracts.table import Replace
from mlops_platform.errors import ConflictError
from mlops_platform.storage.audit import CheckOutcome, audit, require
from mlops_platform.storage.catalog import ensure_table, open_catalog
from mlops_platform.storage.commit import PUBLISH_ID, Change, commit, replacement
from mlops_platform.storage.conditions import Condition, all_of_text
from mlops_platform.storage.content import changes, unheld
from mlops_platform.storage.duck import session
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.pseudonym import column_hmacs, erased_customers
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.storage.rows import Rows, StagedRows, conform, register_rows, write_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings

PROPERTY_PREFIX = "mlops."
MARK = "mark."
# Where a table names its customers otherwise than in a column customer_id.
_CUSTOMER_IN = {QUARANTINE.name: "json_extract_string(\"row\", '$.customer_id')"}


@dataclass(frozen=True, slots=True)
class Draft:
    """Rows a pipeline proposes for a table, not yet audited or written.

    Args:
        contract: The table's contract.
        rows: Rows in the contract's columns; other Arrow types of the same meaning are cast.
        scope: For `Replace.RANGE`: the range that the rows replace; rows outside it are refused.
        checks: Outcomes the pipeline found itself, reported beside the contract's.
        properties: Recorded in the snapshot, keys without the `mlops.` prefix.
        marks: How the rows are made; recorded like properties and kept by later publishes that don't set them. Another
            value than the table's is committed even where the rows are equal.
        figures: Numbers worth showing a person.
        quarantine: Rejected rows, published even when the rest is not: they say why.
        based_on: The table's snapshot that the rows were computed from (None: it was empty); a publish is refused when
            the table holds another by then. `any`: the rows don't depend on what the table holds.
    """

    contract: TableContract
    rows: Rows
    scope: tuple[Condition, ...] = ()
    checks: tuple[CheckOutcome, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, int | float | str] = field(default_factory=dict)
    quarantine: Draft | None = None
    based_on: int | Literal["any"] | None = "any"

    def audit(self) -> list[CheckOutcome]:
        """The contract's checks, the range check, and the pipeline's own."""
        outcomes = audit(self.contract, _conformed(self), self.scope)
        return [*outcomes, *self.checks]

    def discard(self) -> None:
        """Deletes the rows staged for this draft; for a draft that is not going to be published."""
        _discard(self.rows)
        _close_branch(self.rows)


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What a publish did.

    Args:
        table: The table's name.
        snapshot_id: The snapshot that holds the rows.
        rows: Rows the table holds now; for a range table, the range's.
        is_new: False when the table already held these rows and nothing was committed.
        total: Rows of the whole table.
    """

    table: str
    snapshot_id: int | None
    rows: int
    is_new: bool
    total: int


def publish(settings: Settings, draft: Draft, *, properties: Mapping[str, str] | None = None) -> PublishResult:
    """Audits a draft, sets its quarantined rows aside, and commits it.

    Raises:
        ContractError: A blocking check failed; the table is as it was.
        StorageError: The table is locked by another writer for too long, or the home can't be written.
    """
    try:
        outcomes = draft.audit()
        publish_quarantine(settings, draft, properties=properties)
        require(draft.contract, outcomes)
    except BaseException:
        draft.discard()
        raise
    return publish_audited(settings, draft, properties=properties)


def publish_quarantine(settings: Settings, draft: Draft, *, properties: Mapping[str, str] | None = None) -> None:
    """Publishes the draft's quarantined rows, if the draft has any place for them."""
    if draft.quarantine is not None:
        require(draft.quarantine.contract, draft.quarantine.audit())
        publish_audited(settings, draft.quarantine, properties=properties)


def publish_audited(settings: Settings, draft: Draft, *, properties: Mapping[str, str] | None = None) -> PublishResult:
    """Commits a draft whose `audit` the caller has run and reported.

    Raises:
        ConflictError: The table is no longer the one the draft was computed from.
        StorageError: The table is locked by another writer for too long, or the home can't be written.
    """
    contract, scope = draft.contract, draft.scope
    if (contract.replace is Replace.RANGE) != bool(scope):
        raise ValueError(f"{contract.name}: a range table is published with a scope, and only that")
    rows, is_committing = draft.rows, False
    try:
        catalog = open_catalog(settings)
        with table_lock(settings, contract.name):
            table = ensure_table(catalog, contract, settings.timezone)
            held = current(settings, contract, table)
            _require_fresh(catalog, draft, held)
            rows = unheld(held, _conformed(draft))
            marks = {key: value for key, value in recorded(table).items() if key.startswith(MARK)}
            marked = marks | {MARK + key: value for key, value in draft.marks.items()}
            if marked == marks and not changes(held, rows, scope):
                _discard(rows)
                return _result(contract, table, rows, is_new=False)
            change = Change(()) if contract.replace is Replace.NOTHING else replacement(held, scope)
            change = replace(
                change, added=[*change.added, *_files(table, contract, rows)], tag=_version_tag(draft, recorded(table))
            )
            is_committing = True
            commit(table, change, _properties(draft, {**marked, **(properties or {})}))
            return _result(contract, table, rows, is_new=True)
    except BaseException:
        # A commit that failed may still take effect: its files are left to maintenance.
        if not is_committing:
            _discard(rows)
        raise
    finally:
        _close_branch(draft.rows)


def _version_tag(draft: Draft, before: Mapping[str, str]) -> str | None:
    """The tag of the state before, where the draft's rows are of another version; None where they are not."""
    contract = draft.contract
    old = before.get(contract.version_property) if contract.version_property is not None else None
    new = draft.properties.get(contract.version_property or "")
    return f"{contract.version_tag}-{old}" if old is not None and new not in {None, old} else None


def _discard(rows: Rows) -> None:
    if isinstance(rows, StagedRows):
        rows.discard()


def _close_branch(rows: Rows) -> None:
    if isinstance(rows, StagedRows) and rows.branch is not None:
        rows.branch.close()


def _require_fresh(catalog: Catalog, draft: Draft, held: TableSnapshot) -> None:
    """Refuses rows that were computed from what is no longer so: the table's own state, or customers since erased.

    Raises:
        ConflictError: They have to be computed again.
    """
    contract = draft.contract
    if draft.based_on not in {"any", held.snapshot_id}:
        raise ConflictError(
            f"{contract.name} was changed by another run since the rows were computed", hint="run this again."
        )
    if isinstance(draft.rows, StagedRows) and draft.rows.branch is not None:
        draft.rows.branch.require_fresh(held, draft.scope)
    erased = erased_customers(held.settings, catalog)
    customer = _CUSTOMER_IN.get(contract.name, "customer_id" if "customer_id" in contract.column_names else None)
    if not erased or customer is None or contract.name.startswith("bronze."):
        return
    with session(held.settings) as connection:
        offered = register_rows(connection, "published", _conformed(draft))
        found = connection.sql(f"SELECT DISTINCT {customer} AS customer_id FROM {offered}").to_arrow_table()
    if erased.intersection(column_hmacs(held.settings, found["customer_id"].combine_chunks()).to_pylist()):
        raise ConflictError(
            f"rows for {contract.name} name a customer who was erased since they were computed", hint="run this again."
        )


def _properties(draft: Draft, more: Mapping[str, str]) -> dict[str, str]:
    own = {"code-version": _code_version(), "partition-range": all_of_text(draft.scope) if draft.scope else "all"}
    named = {PROPERTY_PREFIX + key: value for key, value in {**own, **draft.properties, **more}.items()}
    return named | {PUBLISH_ID: uuid.uuid4().hex}


@cache
def _code_version() -> str:
    return version("mlops-platform")


def _conformed(draft: Draft) -> Rows:
    return draft.rows if isinstance(draft.rows, StagedRows) else conform(draft.contract, draft.rows)


def _files(table: Table, contract: TableContract, rows: Rows) -> Sequence[DataFile]:
    return rows.files if isinstance(rows, StagedRows) else write_files(table, contract, rows.to_batches())


def _result(contract: TableContract, table: Table, rows: Rows, *, is_new: bool) -> PublishResult:
    snapshot = table.current_snapshot()
    held = total = rows.num_rows
    if snapshot is not None and snapshot.summary is not None:
        total = int(snapshot.summary.additional_properties.get("total-records", held))
    if contract.replace is Replace.NOTHING:
        held = total
    return PublishResult(contract.name, snapshot.snapshot_id if snapshot else None, held, is_new, total)


def recorded(table: Table | None) -> dict[str, str]:
    """The snapshot properties (without the `mlops.` prefix) of the table's last publish; empty before the first."""
    return _recorded(table.current_snapshot() if table is not None else None)


def recorded_in(snapshot: TableSnapshot) -> dict[str, str]:
    """The snapshot properties (without the `mlops.` prefix) of a table's state, which may be a former one."""
    if snapshot.table is None or snapshot.snapshot_id is None:
        return {}
    return _recorded(snapshot.table.snapshot_by_id(snapshot.snapshot_id))


def _recorded(snapshot: Snapshot | None) -> dict[str, str]:
    if snapshot is None or snapshot.summary is None:
        return {}
    found = snapshot.summary.additional_properties
    return {k.removeprefix(PROPERTY_PREFIX): v for k, v in found.items() if k.startswith(PROPERTY_PREFIX)}


def current(settings: Settings, contract: TableContract, table: Table | None) -> TableSnapshot:
    """The table's present state."""
    snapshot = table.current_snapshot() if table is not None else None
    return TableSnapshot(contract, snapshot.snapshot_id if snapshot else None, settings, table)
