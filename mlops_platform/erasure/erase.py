"""One erasure from beginning to end, and what it would do.

In an order that a killed process can repeat: first the customers are kept out of later ingestions, then the tables from
bronze downwards, then what refers to them, then files. Does not belong here: the steps themselves.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.contracts import BRONZE_CUSTOMERS, BRONZE_TRANSACTIONS, ERASURES
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.erasure.files import erase_from_files
from mlops_platform.erasure.models import mark_models
from mlops_platform.erasure.subjects import Subjects
from mlops_platform.erasure.tables import TableErasure, candidates, count_in, erase_from
from mlops_platform.inference_pipeline.online_store import forget
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.maintenance.orphans import ORPHAN_DAYS, delete, table_orphans
from mlops_platform.storage.maintenance.tables import own_tables
from mlops_platform.storage.publish import Draft

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from mlops_platform.storage.lake import Lake


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure did.

    Args:
        customers: Customers named.
        newly_listed: Those among them that were not in bronze.erasures yet.
        tables: What was erased from each table that named one of them, now or in a snapshot.
        models: Runs and model versions marked as not rebuildable.
        files: Files of the home that were changed or deleted.
        busy: Spool files that a service is writing: run this again once it has begun another.
    """

    customers: int
    newly_listed: int
    tables: tuple[TableErasure, ...] = ()
    models: int = 0
    files: tuple[Path, ...] = field(default=())
    busy: tuple[Path, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Rows erased from the tables."""
        return sum(table.rows for table in self.tables)


def preview(lake: Lake, customer_ids: Iterable[str]) -> list[TableErasure]:
    """What an erasure would take from each table; nothing is changed.

    Raises:
        InputError: No id, or a blank one.
    """
    subjects = Subjects.of(lake.settings, customer_ids)
    found = [count_in(lake.settings, table, name, subjects) for name, table in candidates(lake).items()]
    return [entry for entry in found if entry.rows or entry.snapshots]


def erase(lake: Lake, customer_ids: Iterable[str], *, now: datetime) -> ErasureReport:
    """Erases customers from the home; again, it completes what was cut short and otherwise does nothing.

    Args:
        lake: The home's tables.
        customer_ids: The customers.
        now: The present instant.

    Raises:
        InputError: No id, or a blank one.
        StorageError: A table can't be rewritten or is locked for too long, or MLflow can't be reached; run it again.
    """
    subjects = Subjects.of(lake.settings, customer_ids)
    listed = _keep_out(lake, subjects, now)
    tables = [erase_from(lake, name, subjects) for name in candidates(lake)]
    _delete_orphans(lake, now)
    models = mark_models(lake, now=now)
    files, busy = erase_from_files(lake.settings, subjects)
    if forget(lake.settings, subjects.ids) and lake.settings.redis_url is None:
        files.append(lake.settings.online_store)
    return ErasureReport(
        customers=len(subjects.ids),
        newly_listed=listed,
        tables=tuple(entry for entry in tables if entry.rows or entry.snapshots),
        models=models,
        files=tuple(files),
        busy=tuple(busy),
    )


def _keep_out(lake: Lake, subjects: Subjects, now: datetime) -> int:
    """Lists the customers as erased; returns how many were not listed before."""
    import pyarrow as pa

    rows = [{"customer_hmac": name, "erased_at": now} for name in subjects.hmacs]
    draft = Draft(ERASURES, pa.Table.from_pylist(rows, schema=arrow_schema(ERASURES)))
    before = lake.snapshot(ERASURES).count()
    with ExitStack() as stack:
        # An ingestion that has read the CRM already ends first; the next one knows the list.
        for bronze in (BRONZE_CUSTOMERS, BRONZE_TRANSACTIONS):
            stack.enter_context(lake.exclusive(bronze))
        lake.publish(draft)
    return lake.snapshot(ERASURES).count() - before


def _delete_orphans(lake: Lake, now: datetime) -> None:
    """Deletes old files that no snapshot names: a writer that died may have left the customers' rows in one."""
    tables = own_tables(lake.catalog)
    for name in tables:
        others = {other: found.location() for other, found in tables.items() if other != name}
        with table_lock(lake.settings, name):
            table = lake.catalog.load_table(name)
            orphans, _ = table_orphans(table, others, now=now, days=ORPHAN_DAYS)
            delete(table.io, table.location(), orphans)
