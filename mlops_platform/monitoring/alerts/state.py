"""What is remembered of alerts: which are open, what each channel was told, and counts; one SQLite file in the home.

A message is claimed in a transaction before it is sent and its outcome written afterwards. Two processes never claim
the same one; one whose sender was killed is claimed again when its lease is over, so that it is told at least once.
Does not belong here: sending (`channels.py`), reading the record (`record.py`), the clock: instants come in
as arguments.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops_platform.monitoring.alerts.message import SEVERITIES, Alert, Delivery, Kind, Notice

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_platform.monitoring.alerts.channels import ChannelName
    from mlops_platform.settings import Settings

# Longer than any delivery takes with all its retries.
LEASE_SECONDS = 600
# A channel that failed is tried again after so long, then after twice, four times … as long.
BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 60, 3_600
KEEP_SECONDS = 90 * 86_400
_HOUR = 3_600
_UNLIMITED = "log"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS alerts (
    alert_id TEXT PRIMARY KEY, key TEXT NOT NULL, alert_type TEXT NOT NULL, model TEXT NOT NULL, subject TEXT NOT NULL,
    severity TEXT NOT NULL, message TEXT NOT NULL, details TEXT NOT NULL, run_url TEXT NOT NULL,
    occurrences INTEGER NOT NULL, first_at REAL NOT NULL, last_at REAL NOT NULL, resolved_at REAL);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_alert ON alerts (key) WHERE resolved_at IS NULL;
CREATE TABLE IF NOT EXISTS deliveries (
    alert_id TEXT NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL, attempts INTEGER NOT NULL, changed_at REAL NOT NULL, sent_at REAL,
    PRIMARY KEY (alert_id, channel, kind));
CREATE TABLE IF NOT EXISTS counts (
    channel TEXT NOT NULL, alert_type TEXT NOT NULL, result TEXT NOT NULL, total INTEGER NOT NULL,
    PRIMARY KEY (channel, alert_type, result));
"""
_OPEN = "SELECT * FROM alerts WHERE key = ? AND resolved_at IS NULL"
_DELIVERY = "SELECT * FROM deliveries WHERE alert_id = ? AND channel = ? AND kind = ?"

# Open, and a channel was not told; over, and a channel that was told of it was not told so.
_OVERDUE: tuple[tuple[str, Kind], ...] = (
    (
        "SELECT alerts.*, channel FROM alerts JOIN deliveries USING (alert_id) "
        "WHERE resolved_at IS NULL AND kind = 'alert' AND status <> 'sent'",
        "alert",
    ),
    (
        "SELECT alerts.*, channel FROM alerts JOIN deliveries told USING (alert_id) "
        "WHERE resolved_at IS NOT NULL AND kind = 'alert' AND sent_at IS NOT NULL AND NOT EXISTS ("
        "SELECT 1 FROM deliveries later WHERE later.alert_id = told.alert_id AND later.channel = told.channel "
        "AND later.kind = 'resolved' AND later.status = 'sent')",
        "resolved",
    ),
)


class AlertState:
    """The record of a home's alerts. Threads and processes may share the file.

    Every method raises `sqlite3.Error` or `OSError` where the file can't be used.

    Args:
        settings: The home; how often a reminder is sent, and how many messages an hour.
    """

    def __init__(self, settings: Settings) -> None:
        self._path: Path = settings.alert_state
        self._reminder = settings.alert_reminder_hours * _HOUR
        self._hourly = settings.alert_hourly_limit

    def claim(
        self, alert: Alert, channels: Sequence[ChannelName], now: datetime
    ) -> tuple[dict[ChannelName, Notice], dict[ChannelName, Delivery]]:
        """Records that an alert was noticed.

        Returns:
            The notices to send now, by channel, and what is already known of the other channels.
        """
        at = now.timestamp()
        with self._writing() as db:
            row = self._noticed(db, alert, at)
            due: dict[ChannelName, Notice] = {}
            held: dict[ChannelName, Delivery] = {}
            for channel in channels:
                found = self._claim(db, row, channel, "alert", at)
                if isinstance(found, Notice):
                    due[channel] = found
                else:
                    held[channel] = found
                    _count(db, channel, row["alert_type"], found.status)
            return due, held

    def resolve(self, key: str, now: datetime, channels: Sequence[ChannelName]) -> dict[ChannelName, Notice]:
        """Records that an alert is over.

        Returns:
            The resolved notices to send now, one for each channel that was told of the alert; none if it was not open.
        """
        at = now.timestamp()
        with self._writing() as db:
            row = db.execute(_OPEN, (key,)).fetchone()
            if row is None:
                return {}
            db.execute("UPDATE alerts SET resolved_at = ? WHERE alert_id = ?", (at, row["alert_id"]))
            # Read again, with the time at which it was over.
            row = db.execute("SELECT * FROM alerts WHERE alert_id = ?", (row["alert_id"],)).fetchone()
            due: dict[ChannelName, Notice] = {}
            for channel in channels:
                told = db.execute(_DELIVERY, (row["alert_id"], channel, "alert")).fetchone()
                if told is not None and told["sent_at"] is not None:
                    notice = self._claim(db, row, channel, "resolved", at)
                    if isinstance(notice, Notice):
                        due[channel] = notice
            return due

    def overdue(self, now: datetime, channels: Sequence[ChannelName]) -> tuple[ChannelName, Notice] | None:
        """Claims the next notice that failed, or whose sender died, and is to be tried again now.

        What was last noticed long ago is forgotten.

        Returns:
            The channel and the notice; None if there is none.
        """
        at = now.timestamp()
        with self._writing() as db:
            for table in ("deliveries", "alerts"):
                db.execute(
                    f"DELETE FROM {table} WHERE alert_id IN (SELECT alert_id FROM alerts WHERE last_at < ?)",
                    (at - KEEP_SECONDS,),
                )
            for query, kind in _OVERDUE:
                for row in db.execute(query).fetchall():
                    if row["channel"] in channels:
                        notice = self._claim(db, row, row["channel"], kind, at)
                        if isinstance(notice, Notice):
                            return row["channel"], notice
            return None

    def finish(self, channel: ChannelName, notice: Notice, delivery: Delivery, now: datetime) -> None:
        """Records what became of a claimed notice."""
        at = now.timestamp()
        with self._writing() as db:
            db.execute(
                "UPDATE deliveries SET status = ?, reason = ?, changed_at = ?, sent_at = coalesce(?, sent_at), "
                "attempts = CASE WHEN ? = 'sent' THEN 0 ELSE attempts END "
                "WHERE alert_id = ? AND channel = ? AND kind = ?",
                (
                    delivery.status, delivery.reason, at, at if delivery.status == "sent" else None, delivery.status,
                    notice.alert.alert_id, channel, notice.kind,
                ),
            )  # fmt: skip
            _count(db, channel, notice.alert.alert_type, delivery.status)

    def _noticed(self, db: sqlite3.Connection, alert: Alert, at: float) -> sqlite3.Row:
        row = db.execute(_OPEN, (alert.key,)).fetchone()
        values = (alert.severity, alert.message, json.dumps(dict(alert.details)), alert.run_url)
        if row is None:
            db.execute(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, NULL)",
                (alert.alert_id, alert.key, alert.alert_type, alert.model, alert.subject, *values, at, at),
            )
        else:
            db.execute(
                "UPDATE alerts SET severity = ?, message = ?, details = ?, run_url = ?, occurrences = occurrences + 1, "
                "last_at = ? WHERE alert_id = ?",
                (*values, at, row["alert_id"]),
            )
        found: sqlite3.Row = db.execute(_OPEN, (alert.key,)).fetchone()
        return found

    def _claim(
        self, db: sqlite3.Connection, row: sqlite3.Row, channel: ChannelName, kind: Kind, at: float
    ) -> Notice | Delivery:
        before = db.execute(_DELIVERY, (row["alert_id"], channel, kind)).fetchone()
        reason = self._reason_to_wait(before, row["severity"], kind, at) if before is not None else None
        if reason is not None:
            return reason
        attempts = 1 + (before["attempts"] if before is not None else 0)
        sent_at = before["sent_at"] if before is not None else None
        if before is not None and before["status"] == "sending":
            _count(db, channel, row["alert_type"], "failed")
        status, why = "sending", ""
        if self._is_over_limit(db, channel, at):
            status, why = "failed", f"over the limit of {self._hourly} messages an hour; it is sent later"
        db.execute(
            "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row["alert_id"], channel, kind, row["severity"], status, why, attempts, at, sent_at),
        )
        return notice_of(row, kind, is_reminder=sent_at is not None) if status == "sending" else Delivery("failed", why)

    def _reason_to_wait(self, before: sqlite3.Row, severity: str, kind: Kind, at: float) -> Delivery | None:
        since = at - before["changed_at"]
        if before["status"] == "sending":
            return Delivery("suppressed", "it is being sent") if since < LEASE_SECONDS else None
        if before["status"] == "sent":
            is_worse = SEVERITIES.index(severity) > SEVERITIES.index(before["severity"])
            if kind == "alert" and (is_worse or since >= self._reminder):
                return None
            return Delivery("suppressed", "it was told already")
        pause = min(BACKOFF_SECONDS * 2 ** min(before["attempts"] - 1, 10), LONGEST_BACKOFF_SECONDS)
        return Delivery("failed", before["reason"]) if since < pause else None

    def _is_over_limit(self, db: sqlite3.Connection, channel: ChannelName, at: float) -> bool:
        # A reminder comes after an hour at the earliest, so that a row is at most one message an hour, or two where
        # the alert grew worse.
        if channel == _UNLIMITED:
            return False
        sent = db.execute(
            "SELECT count(*) FROM deliveries WHERE channel = ? AND changed_at > ? AND status IN ('sending', 'sent')",
            (channel, at - _HOUR),
        ).fetchone()
        return bool(sent[0] >= self._hourly)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.executescript(_SCHEMA)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


def _count(db: sqlite3.Connection, channel: str, alert_type: str, result: str) -> None:
    db.execute(
        "INSERT INTO counts VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET total = total + 1",
        (channel, alert_type, result),
    )


def notice_of(row: sqlite3.Row, kind: Kind, *, is_reminder: bool = False) -> Notice:
    """The notice that a row of `alerts` stands for."""
    names = ("alert_id", "key", "alert_type", "model", "subject", "severity", "message", "run_url")
    fields: dict[str, Any] = {name: row[name] for name in names}
    ended = row["resolved_at"] if kind == "resolved" else None
    last_at = instant_of(ended if ended is not None else row["last_at"])
    alert = Alert(**fields, details=json.loads(row["details"]))
    return Notice(alert, kind, row["occurrences"], instant_of(row["first_at"]), last_at, is_reminder)


def instant_of(seconds: float) -> datetime:
    """The instant that a number in the record stands for."""
    return datetime.fromtimestamp(seconds, UTC)
