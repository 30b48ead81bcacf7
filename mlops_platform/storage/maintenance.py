"""Table maintenance: expires old snapshots, except those that models and predictions refer to.

Does not belong here: when it runs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mlops_platform.contracts import ALL_CONTRACTS, PREDICTIONS, TRAINING_SET
from mlops_platform.storage.catalog import load_table
from mlops_platform.storage.locks import table_lock

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlops_platform.storage.lake import Lake

KEEP_DAYS = 30


def expire_snapshots(lake: Lake, *, now: datetime, keep: Collection[int], keep_days: int = KEEP_DAYS) -> dict[str, int]:
    """Expires snapshots older than `keep_days` that are neither current nor referred to.

    Args:
        lake: The home's tables.
        now: The present instant.
        keep: Snapshot ids that models, predictions or training sets refer to.
        keep_days: Age below which every snapshot stays.

    Returns:
        Table name to the number of snapshots expired.
    """
    before = int((now - timedelta(days=keep_days)).timestamp() * 1000)
    expired: dict[str, int] = {}
    for contract in ALL_CONTRACTS:
        with table_lock(lake.settings, contract.name):
            table = load_table(lake.catalog, contract, lake.settings.timezone)
            if table is None:
                continue
            current = table.metadata.current_snapshot_id
            old = [
                s.snapshot_id
                for s in table.snapshots()
                if s.timestamp_ms < before and s.snapshot_id != current and s.snapshot_id not in keep
            ]
            if old:
                table.maintenance.expire_snapshots().by_ids(old).commit()
            expired[contract.name] = len(old)
    return expired


def referenced_snapshots(lake: Lake) -> set[int]:
    """Snapshots that a prediction's row or a training set names as what it was made from, and all training sets.

    Every training set is kept: it is some model's drift reference, and there are few.
    """
    with lake.snapshot(PREDICTIONS).relation(["feature_snapshot_id"]) as (duck, view):
        found = {int(row[0]) for row in duck.execute(f"SELECT DISTINCT feature_snapshot_id FROM {view}").fetchall()}
    table = load_table(lake.catalog, TRAINING_SET, lake.settings.timezone)
    for snapshot in table.snapshots() if table is not None else []:
        found.add(snapshot.snapshot_id)
        values = snapshot.summary.additional_properties if snapshot.summary is not None else {}
        found |= {int(v) for k, v in values.items() if k.endswith("-snapshot-id") and v.isdigit()}
    return found
