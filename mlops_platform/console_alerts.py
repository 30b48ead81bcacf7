"""What `mlops alerts …` prints. Does not belong here: deciding or sending anything; other commands."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

from mlops_platform.console import out
from mlops_platform.monitoring.alerts.text import line
from mlops_platform.storage.csv_cells import csv_cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from mlops_platform.monitoring.alerts.message import Delivery
    from mlops_platform.monitoring.alerts.record import RecordedAlert

_CSV_HEAD = (
    "alert_id", "severity", "alert_type", "model", "subject", "message", "details", "occurrences",
    "first_at", "last_at", "resolved_at", "deliveries",
)  # fmt: skip


def print_alerts(found: Sequence[RecordedAlert], zone: ZoneInfo, *, is_open: bool) -> None:
    """Each alert on a few lines, the latest first."""
    if not found:
        _say("No alert is open." if is_open else "No alert was ever sent.")
    for recorded in found:
        notice = recorded.notice
        alert = notice.alert
        over = "" if recorded.resolved_at is None else f", over since {_moment(recorded.resolved_at, zone)}"
        about = " – ".join(part for part in (alert.model, alert.subject) if part)
        times = "once" if notice.occurrences == 1 else f"{notice.occurrences} times"
        _say(f"{alert.alert_id[:8]}  {alert.severity:<8}  {alert.alert_type}: {about}")
        if alert.message != alert.subject:
            _say(f"          {line(alert.message)}")
        _say(f"          noticed {times}, last {_moment(notice.last_at, zone)}{over}; {_told(recorded)}")


def print_alerts_csv(found: Sequence[RecordedAlert]) -> None:
    """The same as CSV with every field, on stdout; no cell is a formula."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    for recorded in found:
        notice = recorded.notice
        alert = notice.alert
        cells = (
            alert.alert_id,
            alert.severity,
            alert.alert_type,
            alert.model,
            alert.subject,
            alert.message,
            "; ".join(f"{name}={value}" for name, value in alert.details.items()),
            str(notice.occurrences),
            notice.first_at.isoformat(),
            notice.last_at.isoformat(),
            recorded.resolved_at.isoformat() if recorded.resolved_at is not None else "",
            _told(recorded),
        )
        writer.writerow(map(csv_cell, cells))


def print_deliveries(told: Mapping[str, Delivery]) -> None:
    """One line a channel."""
    for channel, delivery in told.items():
        reason = f": {delivery.reason}" if delivery.reason else ""
        _say(f"{channel:<6} {delivery.status}{reason}")
    if not told:
        _say("Nobody had been told of it.")


def _told(recorded: RecordedAlert) -> str:
    shown = {
        channel: "being sent" if delivery is None else ": ".join(filter(None, (delivery.status, delivery.reason)))
        for channel, delivery in recorded.deliveries.items()
    }
    return "; ".join(f"{channel} {words}" for channel, words in shown.items())


def _moment(instant: datetime, zone: ZoneInfo) -> str:
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M}"


def _say(words: str) -> None:
    out.print(words, markup=False, highlight=False, soft_wrap=True)
