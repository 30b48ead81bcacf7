"""Freshness: which feature_dates were made from silver rows that have changed since.

The feature store's snapshots carry, as a mark, from which snapshot of silver.transactions each feature_date was made.
A row of day t that is new, gone or other since then touches the feature_dates from t on, for tenure and scores look at
all history. Does not belong here: computing features anew (`load.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops_platform.errors import StorageError
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.read import register_difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlops_platform.contracts import TableContract
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

_MARK = "made-from"
# Older runs beyond this many are forgotten, and their days made anew: the mark is part of every snapshot.
_MOST_RUNS = 32


@dataclass(frozen=True, slots=True)
class Run:
    """Feature_dates, one after the other, that were made from one snapshot of silver.transactions."""

    first: date
    last: date
    snapshot_id: int


def made_from(
    lake: Lake, contract: TableContract, transactions: TableSnapshot, feature_dates: Iterable[date]
) -> dict[str, str]:
    """The mark of a publish of these feature_dates, made from that snapshot of silver.

    Args:
        lake: The home's tables.
        contract: Of the feature store.
        transactions: What the rows are made from.
        feature_dates: Their days; none: only what is there already is written anew.
    """
    if transactions.snapshot_id is None:
        return {}
    made = {day: run.snapshot_id for run in _runs(lake, contract) for day in _days(run)}
    made |= dict.fromkeys(feature_dates, transactions.snapshot_id)
    return {_MARK: _text(_joined(made))}


def stale_dates(lake: Lake, contract: TableContract, silver: TableSnapshot) -> list[date]:
    """The feature_dates in the table whose silver rows have changed since they were made, in order.

    Those whose silver snapshot is unknown or has been expired count as changed.

    Args:
        lake: The home's tables.
        contract: Of the feature store.
        silver: The present silver.transactions.
    """
    made = {day: run.snapshot_id for run in _runs(lake, contract) for day in _days(run)}
    changed = {snapshot_id: first_changed_day(silver, snapshot_id) for snapshot_id in set(made.values())}
    return [
        day
        for day in held_dates(lake, contract)
        if day not in made or ((first := changed[made[day]]) is not None and first <= day)
    ]


def held_dates(lake: Lake, contract: TableContract) -> list[date]:
    """The feature_dates that the table holds, in order."""
    with lake.snapshot(contract).relation(["feature_date"]) as (duck, view):
        return [row[0] for row in duck.sql(f"SELECT DISTINCT feature_date FROM {view} ORDER BY 1").fetchall()]


def first_changed_day(silver: TableSnapshot, snapshot_id: int) -> date | None:
    """The first local day whose purchases differ between a former snapshot and this one; None: none does.

    Only files that are in one of the two are read. Of a snapshot that has been expired every day counts as changed.
    """
    try:
        before = silver.at(snapshot_id)
    except StorageError:
        return date.min
    cells = ", ".join(map(quoted, SOURCE_TYPES))
    with session(silver.settings) as duck:
        views = register_difference(duck, before, silver, tuple(SOURCE_TYPES))
        digests = [
            f"SELECT transaction_date AS day, count(*) AS n, sum(hash({cells})::HUGEINT) AS digest "
            f"FROM {view} WHERE amount > 0 GROUP BY day"
            for view in views
        ]
        found = duck.sql(
            f"SELECT min(day) FROM ({digests[0]}) AS a FULL JOIN ({digests[1]}) AS b USING (day) "
            "WHERE (a.n, a.digest) IS DISTINCT FROM (b.n, b.digest)"
        ).fetchall()
    first: date | None = found[0][0]
    return first


def _runs(lake: Lake, contract: TableContract) -> list[Run]:
    text = lake.marks(contract).get(_MARK, "[]")
    return [Run(date.fromisoformat(a), date.fromisoformat(b), int(c)) for a, b, c in json.loads(text)]


def _days(run: Run) -> list[date]:
    return [run.first + timedelta(days=n) for n in range((run.last - run.first).days + 1)]


def _joined(made: dict[date, int]) -> list[Run]:
    """Runs of days without a gap and of one snapshot; of too many the first ones are forgotten, to be made anew."""
    runs: list[Run] = []
    for day, snapshot_id in sorted(made.items()):
        if runs and runs[-1].snapshot_id == snapshot_id and runs[-1].last + timedelta(days=1) == day:
            runs[-1] = Run(runs[-1].first, day, snapshot_id)
        else:
            runs.append(Run(day, day, snapshot_id))
    return runs[-_MOST_RUNS:]


def _text(runs: Sequence[Run]) -> str:
    return json.dumps([[run.first.isoformat(), run.last.isoformat(), str(run.snapshot_id)] for run in runs])
