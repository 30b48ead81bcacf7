"""What the exporter reads from the record of alerts: what became of messages, and how many alerts are open.

Does not belong here: the record (`alerts/`), alerts that Prometheus itself raises (deploy/prometheus/rules.yml).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.monitoring.alerts import alert_counts, recorded_alerts
from mlops_platform.monitoring.alerts.message import SEVERITIES
from mlops_platform.monitoring.metrics import Family, Figure

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

MOST_OPEN = 1000

DELIVERIES = Family(
    "mlops_alert_deliveries_total",
    "Messages that were sent, suppressed as told already, or failed.",
    ("channel", "alert_type", "result"),
    "counter",
)
OPEN = Family("mlops_alerts_open", "Alerts of the platform's own that are not over.", ("severity",))
FAMILIES = (DELIVERIES, OPEN)


@dataclass(frozen=True)
class AlertsSource:
    """The record of a home's alerts as a source of figures: a few rows of SQLite, read each time.

    Args:
        settings: The home.
    """

    settings: Settings

    @property
    def name(self) -> str:
        """The record, in a word."""
        return "alerts"

    def read(self) -> tuple[Figure, ...]:
        """The present figures; no delivery where none was tried."""
        opened = Counter(each.notice.alert.severity for each in recorded_alerts(self.settings, most=MOST_OPEN))
        return (
            *(DELIVERIES.figure(total, *labels) for labels, total in alert_counts(self.settings).items()),
            *(OPEN.figure(opened[severity], severity) for severity in SEVERITIES),
        )
