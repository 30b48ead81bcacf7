"""Reading the record of alerts: how often what became of them, and which are open.

Does not belong here: writing it (`state.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError, StorageError
from mlops_platform.monitoring.alerts.message import Alert, Delivery, Notice
from mlops_platform.monitoring.alerts.state import instant_of, notice_of
from mlops_platform.monitoring.alerts.text import line

if TYPE_CHECKING:
    from datetime import datetime

    from mlops_platform.settings import Settings


@dataclass(frozen=True, slots=True)
class RecordedAlert:
    """An alert as it stands in the record.

    Args:
        notice: What was noticed, how often and when.
        resolved_at: When it was over; None while it is open.
        deliveries: Channel → what became of its last message; None while that is being sent.
    """

    notice: Notice
    resolved_at: datetime | None
    deliveries: dict[str, Delivery | None]


def alert_counts(settings: Settings) -> dict[tuple[str, str, str], int]:
    """(channel, alert type, result: sent, suppressed or failed) → how often since the home was made.

    Raises:
        StorageError: The record can't be read.
    """
    with _reading(settings) as db:
        rows = db.execute("SELECT channel, alert_type, result, total FROM counts").fetchall() if db else []
        return {(row["channel"], row["alert_type"], row["result"]): row["total"] for row in rows}


def recorded_alerts(settings: Settings, *, is_open: bool = True, most: int = 100) -> list[RecordedAlert]:
    """The latest alerts, newest first.

    Args:
        settings: The home.
        is_open: Only those that are open.
        most: How many at most.

    Raises:
        StorageError: The record can't be read.
    """
    where = "WHERE resolved_at IS NULL" if is_open else ""
    latest = f"SELECT * FROM alerts {where} ORDER BY last_at DESC, alert_id LIMIT ?"
    with _reading(settings) as db:
        return [_recorded(db, row) for row in db.execute(latest, (most,)).fetchall()] if db else []


def open_alert(settings: Settings, alert_id: str) -> Alert:
    """The open alert whose id starts so.

    Raises:
        InputError: None does, or several.
        StorageError: The record can't be read.
    """
    with _reading(settings) as db:
        rows = db.execute("SELECT * FROM alerts WHERE resolved_at IS NULL").fetchall() if db else []
    found = [row for row in rows if row["alert_id"].startswith(alert_id)]
    if len(found) != 1:
        problem = f"{len(found)} open alerts have an id that starts with {line(alert_id)!r}"
        raise InputError(problem, expected="one", hint="`mlops alerts list` shows the ids.")
    return notice_of(found[0], "alert").alert


@contextmanager
def _reading(settings: Settings) -> Iterator[sqlite3.Connection | None]:
    """The record; None where nothing was ever recorded."""
    path = settings.alert_state
    if not path.exists():
        yield None
        return
    try:
        # Not mode=ro: what a killed writer left behind has to be rolled back by whoever comes next.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=30)) as db:
            db.row_factory = sqlite3.Row
            yield db
    except sqlite3.Error as error:
        problem = f"the record of alerts {path} can't be read: {error}"
        raise StorageError(problem, hint=f"move {path} away; a new one is made.") from error


def _recorded(db: sqlite3.Connection, row: sqlite3.Row) -> RecordedAlert:
    messages = "SELECT * FROM deliveries WHERE alert_id = ? ORDER BY channel, kind"
    return RecordedAlert(
        notice=notice_of(row, "alert"),
        resolved_at=instant_of(row["resolved_at"]) if row["resolved_at"] is not None else None,
        # "resolved" comes after "alert" and replaces it.
        deliveries={
            each["channel"]: None if each["status"] == "sending" else Delivery(each["status"], each["reason"])
            for each in db.execute(messages, (row["alert_id"],)).fetchall()
        },
    )
