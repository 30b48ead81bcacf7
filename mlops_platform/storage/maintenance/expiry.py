"""Expiring snapshots: which ones something refers to, which are old enough to go.

Does not belong here: the files of an expired snapshot (`orphans.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mlops_platform.contracts import PREDICTIONS, STANDARD
from mlops_platform.storage.maintenance.tables import own_tables

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from mlops_platform.storage.lake import Lake

KEEP_DAYS = 30


def old_snapshots(table: Table, *, now: datetime, keep: Collection[int], keep_days: int) -> list[int]:
    """Snapshots older than `keep_days` that are neither current, nor in `keep`, nor named by a tag or branch."""
    before = int((now - timedelta(days=keep_days)).timestamp() * 1000)
    kept = {*keep, table.metadata.current_snapshot_id, *(ref.snapshot_id for ref in table.metadata.refs.values())}
    return [s.snapshot_id for s in table.snapshots() if s.timestamp_ms < before and s.snapshot_id not in kept]


def expire(table: Table, snapshot_ids: Collection[int]) -> None:
    """Takes snapshots out of the table in one commit; no file is deleted."""
    if snapshot_ids:
        table.maintenance.expire_snapshots().by_ids(list(snapshot_ids)).commit()
        table.refresh()


def referenced_snapshots(lake: Lake) -> set[int]:
    """Snapshots that something of today was made from, and all training sets.

    A prediction's row names the features it was made from; a table's current snapshot names, in properties that end in
    `-snapshot-id`, what it was made from. Every training set is kept, with what it names: it is some model's drift
    reference, and there are few.
    """
    with lake.snapshot(PREDICTIONS).relation(["feature_snapshot_id"]) as (duck, view):
        found = {int(row[0]) for row in duck.execute(f"SELECT DISTINCT feature_snapshot_id FROM {view}").fetchall()}
    for name, table in own_tables(lake.catalog).items():
        current = table.current_snapshot()
        is_training_set = name == STANDARD.training_set.name
        snapshots = table.snapshots() if is_training_set else [current] if current is not None else []
        if is_training_set:
            found |= {snapshot.snapshot_id for snapshot in snapshots}
        found |= {snapshot_id for snapshot in snapshots for snapshot_id in _named(snapshot)}
    return found


def _named(snapshot: Snapshot) -> list[int]:
    values = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    return [int(value) for key, value in values.items() if key.endswith("-snapshot-id") and value.isdigit()]
