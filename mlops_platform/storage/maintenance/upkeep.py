"""One pass of maintenance over all tables: planned first, so that a dry run says exactly what a run would do.

Every step leaves each table readable: what is deleted was unreachable before the deletion began. Does not belong here:
the steps (`expiry.py`, `compaction.py`, `orphans.py`).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.storage.branch import remove_leftovers
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.maintenance.compaction import compact, small_files
from mlops_platform.storage.maintenance.expiry import KEEP_DAYS, expire, old_snapshots
from mlops_platform.storage.maintenance.orphans import (
    ORPHAN_DAYS,
    delete,
    stale_scratch,
    table_orphans,
    unknown_folders,
)
from mlops_platform.storage.maintenance.tables import own_tables, table_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from pyiceberg.table import Table

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake


@dataclass(frozen=True, slots=True)
class TableUpkeep:
    """What maintenance did to one table, or would do.

    Args:
        table: The table; or a folder of the home or warehouse.
        snapshots_expired: Old snapshots taken away.
        files_before: Small files rewritten.
        files_after: Files they became; of a dry run, the fewest possible.
        orphans: Files deleted.
        bytes_freed: Their size.
        note: What a person should know.
    """

    table: str
    snapshots_expired: int = 0
    files_before: int = 0
    files_after: int = 0
    orphans: int = 0
    bytes_freed: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Pass:
    """The arguments of one pass, and where the catalog's tables lie."""

    settings: Settings
    instant: datetime
    keep: Collection[int]
    keep_days: int
    orphan_days: int
    dry_run: bool
    locations: Mapping[str, str]


def maintain(
    lake: Lake,
    *,
    now: datetime,
    keep: Collection[int],
    keep_days: int = KEEP_DAYS,
    orphan_days: int = ORPHAN_DAYS,
    dry_run: bool = False,
) -> list[TableUpkeep]:
    """Expires old snapshots, compacts small files and deletes orphans, table by table under its lock.

    Args:
        lake: The home's tables.
        now: The present instant of the machine that wrote the files.
        keep: Snapshot ids that models, predictions or training sets refer to; see `referenced_snapshots`.
        keep_days: Age below which every snapshot stays.
        orphan_days: Age below which every file stays; rows on their way into a table lie in files no snapshot names.
        dry_run: Change nothing, and return what would be done.

    Returns:
        One entry a table; then the scratch folder, if anything stale is in it, and folders that belong to no table.

    Raises:
        StorageError: A table is locked by another writer for too long, or a commit failed; running it again goes on.
    """
    tables = own_tables(lake.catalog)
    locations = {name: lake.catalog.load_table(name).location() for name in table_names(lake.catalog)}
    plan = _Pass(lake.settings, now, keep, keep_days, orphan_days, dry_run, locations)
    done = []
    for name in tables:
        # A dry run makes not even a lock's file.
        with nullcontext() if dry_run else table_lock(lake.settings, name):
            done.append(_upkeep(plan, name, lake.catalog.load_table(name)))
    done += _scratch(plan)
    unknown = unknown_folders(lake.settings, lake.catalog, locations.values())
    return done + [
        TableUpkeep(folder, note=f"{size:,} bytes of no table in the catalog; left alone")
        for folder, size in unknown.items()
    ]


def _upkeep(plan: _Pass, name: str, table: Table) -> TableUpkeep:
    if not plan.dry_run:
        remove_leftovers(table, now=plan.instant, days=plan.orphan_days)
    old = old_snapshots(table, now=plan.instant, keep=plan.keep, keep_days=plan.keep_days)
    others = {other: location for other, location in plan.locations.items() if other != name}
    orphans, note = table_orphans(table, others, now=plan.instant, days=plan.orphan_days, without=old)
    groups = small_files(table)
    before, after = sum(map(len, groups)), len(groups)
    if not plan.dry_run:
        expire(table, old)
        before, after = compact(plan.settings, table, groups)
        delete(table.io, table.location(), orphans)
    return TableUpkeep(
        table=name,
        snapshots_expired=len(old),
        files_before=before,
        files_after=after,
        orphans=len(orphans),
        bytes_freed=sum(file.size for file in orphans),
        note=note,
    )


def _scratch(plan: _Pass) -> list[TableUpkeep]:
    folder = plan.settings.home / "tmp"
    stale = stale_scratch(folder, now=plan.instant, days=plan.orphan_days)
    size = sum(path.stat().st_size for path in stale)
    if not plan.dry_run:
        for path in stale:
            path.unlink(missing_ok=True)
    return [TableUpkeep(str(folder), orphans=len(stale), bytes_freed=size)] if stale else []
