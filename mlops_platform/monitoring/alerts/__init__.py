"""Alerts: telling people once, through e-mail, Slack or the log, and keeping a record of what was told.

`manager.py` decides and sends, `state.py` remembers, `record.py` reads that, `channels.py` delivers, `message.py` has
the words and `text.py` makes text safe to show. Does not belong here: what an alert is about; whoever notices something
calls `send` or `AlertManager`.
"""

from mlops_platform.monitoring.alerts.manager import AlertManager, send
from mlops_platform.monitoring.alerts.message import Delivery
from mlops_platform.monitoring.alerts.record import alert_counts, open_alert, recorded_alerts

__all__ = ["AlertManager", "Delivery", "alert_counts", "open_alert", "recorded_alerts", "send"]
