"""`AlertManager`, the documented way to tell people, and `send`, the same in one call.

Belongs here: claim, deliver, record. Does not belong here: when two alerts are the same (`state.py`), the channels.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from mlops_platform.errors import InputError
from mlops_platform.monitoring.alerts.channels import CHANNELS, ChannelName, deliver
from mlops_platform.monitoring.alerts.message import Alert, Delivery, Notice, key_of, make_alert
from mlops_platform.monitoring.alerts.state import AlertState

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

_log = logging.getLogger("mlops_platform.alerts")


class AlertManager:
    """Tells people that something happened, once, and that it is over, once.

    What goes wrong on the way to them is recorded and returned, never raised: an alert fails no pipeline.

    Args:
        alert_channels: Some of email, slack, log; None: those of `MLOPS_ALERT_CHANNELS`, and the log if there are none.
        settings: The home; None: the environment's.

    Raises:
        InputError: A channel is unknown.
    """

    def __init__(self, alert_channels: Sequence[str] | None = None, settings: Settings | None = None) -> None:
        from mlops_platform.settings import load_settings

        self.settings = settings or load_settings()
        wanted = self.settings.alert_channels if alert_channels is None else alert_channels
        unknown = [channel for channel in wanted if channel not in CHANNELS]
        if unknown or isinstance(wanted, str):
            named = ", ".join(map(repr, unknown)) or repr(wanted)
            raise InputError(f"Unknown alert channel: {named}", expected=f"a list of {', '.join(CHANNELS)}")
        self.channels = cast("tuple[ChannelName, ...]", tuple(dict.fromkeys(wanted)) or ("log",))
        self._state = AlertState(self.settings)

    def send_alert(
        self,
        alert_type: str,
        message: str,
        severity: str = "warning",
        metadata: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        subject: str | None = None,
        now: datetime | None = None,
    ) -> dict[str, Delivery]:
        """Tells of something, unless the same was told within `MLOPS_ALERT_REMINDER_HOURS` at no lower severity.

        Args:
            alert_type: Such as drift, run_failure, check_failed.
            message: What happened, for people.
            severity: info, warning, error or critical.
            metadata: Shown below the message, such as what `ModelMonitor.detect_data_drift` returns; a `run_id` becomes
                a link to the Dagster run.
            model: Name of the model it is about; None: the metadata's model_name, or the home's model.
            subject: What of that type and model it is about; None: the message. Alerts with the same type, model and
                subject are one.
            now: The instant it was noticed; None: the present one.

        Returns:
            Channel → sent, suppressed, or failed with the reason.

        Raises:
            InputError: The severity is unknown, the type is empty, or the metadata is no mapping.
        """
        alert = make_alert(
            uuid.uuid4().hex,
            alert_type,
            message,
            severity,
            metadata,
            model=model,
            default_model=self.settings.model_name,
            subject=subject,
            dagster_url=self.settings.dagster_url,
        )
        at = now or datetime.now(UTC)
        try:
            due, held = self._state.claim(alert, self.channels, at)
        except (sqlite3.Error, OSError) as error:
            return self._send_unrecorded(alert, at, error)
        told = {**held, **{channel: self._tell(channel, notice, now) for channel, notice in due.items()}}
        return {channel: told[channel] for channel in self.channels}

    def resolve(
        self, alert_type: str, *, subject: str, model: str | None = None, now: datetime | None = None
    ) -> dict[str, Delivery]:
        """Tells that what `send_alert` told of is over; of what is not open, nothing.

        Args:
            alert_type: As it was given to `send_alert`.
            subject: As it was given, or the message where none was.
            model: As it was given; None: the home's model.
            now: The instant it was over; None: the present one.

        Returns:
            Channel → result, of the channels that had been told; empty if no such alert is open.
        """
        return self.resolve_key(
            key_of(alert_type, self.settings.model_name if model is None else model, subject), now=now
        )

    def resolve_key(self, key: str, *, now: datetime | None = None) -> dict[str, Delivery]:
        """The same by the alert's key, as `record.recorded_alerts` gives it."""
        try:
            due = self._state.resolve(key, now or datetime.now(UTC), CHANNELS)
        except (sqlite3.Error, OSError) as error:
            self._say_unrecorded(error)
            return {}
        return {channel: self._tell(channel, notice, now) for channel, notice in due.items()}

    def retry(self, *, now: datetime | None = None) -> dict[str, Delivery]:
        """Sends again what failed, after a pause that doubles with every attempt, and what a killed process left.

        Returns:
            The last result by channel.
        """
        at, channels = now or datetime.now(UTC), list(self.channels)
        told: dict[str, Delivery] = {}
        try:
            while (due := self._state.overdue(at, channels)) is not None:
                channel, notice = due
                told[channel] = self._tell(channel, notice, now)
                if told[channel].status == "failed":
                    # It is not back yet; what else waits for it is tried the next time.
                    channels.remove(channel)
        except (sqlite3.Error, OSError) as error:
            self._say_unrecorded(error)
        return told

    def _tell(self, channel: ChannelName, notice: Notice, now: datetime | None) -> Delivery:
        delivery = deliver(self.settings, channel, notice)
        if delivery.status == "failed":
            _log.warning("no alert by %s: %s", channel, delivery.reason)
        try:
            self._state.finish(channel, notice, delivery, now or datetime.now(UTC))
        except (sqlite3.Error, OSError) as error:
            self._say_unrecorded(error)
        return delivery

    def _send_unrecorded(self, alert: Alert, at: datetime, error: Exception) -> dict[str, Delivery]:
        # A full disk is what people want to hear of: rather twice than never.
        self._say_unrecorded(error)
        notice = Notice(alert, "alert", occurrences=1, first_at=at, last_at=at)
        return {channel: deliver(self.settings, channel, notice) for channel in self.channels}

    def _say_unrecorded(self, error: Exception) -> None:
        _log.warning("the record of alerts %s can't be used: %s", self.settings.alert_state, error)


def send(
    settings: Settings,
    alert_type: str,
    message: str,
    severity: str = "warning",
    metadata: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    subject: str | None = None,
) -> dict[str, Delivery]:
    """Tells of something through the home's channels; see `AlertManager.send_alert`.

    It waits for mail servers and Slack, a minute at worst as a rule: a service calls it outside its event loop.
    """
    return AlertManager(settings=settings).send_alert(
        alert_type, message, severity, metadata, model=model, subject=subject
    )
