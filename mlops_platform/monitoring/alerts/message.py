"""An alert, and the words it is told with.

Belongs here: title and body of a notice, as plain text and as Slack's blocks. Does not belong here: how it is sent
(`channels.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from mlops_platform.errors import InputError
from mlops_platform.monitoring.alerts import text

Severity = Literal["info", "warning", "error", "critical"]
Kind = Literal["alert", "resolved"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

_RUN_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_ADDRESS = re.compile(r"https?://[^\s<>|]{1,300}")
_MOST_DETAILS = 30
# Slack refuses longer ones: https://docs.slack.dev/reference/block-kit/blocks/
_SLACK_TITLE, _SLACK_TEXT = 150, 3_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an alert on one channel.

    Args:
        status: `sent`; `suppressed`: it was told already; `failed`: it could not be told yet.
        reason: Why, where it was not sent; which recipients were refused, where it was.
    """

    status: Literal["sent", "suppressed", "failed"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something people should know. All text is safe to show on a terminal; see `text.py` for other places.

    Args:
        alert_id: Names this occasion, from the first notice to the resolved one.
        key: Hash of (type, model, subject): two alerts with the same key are about the same thing.
        alert_type: Such as drift or run_failure.
        model: Name of the model it is about; empty for none.
        subject: What of that type and model it is about.
        severity: How bad.
        message: What happened.
        details: The metadata as text.
        run_url: Page of the Dagster run; empty for none.
    """

    alert_id: str
    key: str
    alert_type: str
    model: str
    subject: str
    severity: Severity
    message: str
    details: Mapping[str, str]
    run_url: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told on one channel: that something happened, or that it is over.

    Args:
        alert: About what.
        kind: Which of the two.
        occurrences: How often it was noticed.
        first_at: When it was first noticed.
        last_at: When it was last noticed; of a resolved notice, when it was over.
        is_reminder: Whether the channel was told before.
    """

    alert: Alert
    kind: Kind
    occurrences: int
    first_at: datetime
    last_at: datetime
    is_reminder: bool = False

    @property
    def title(self) -> str:
        """One line."""
        alert = self.alert
        word = "resolved" if self.kind == "resolved" else alert.severity
        about = [part for part in (alert.model, alert.subject) if part]
        return text.line(f"[{word}] {alert.alert_type}: {' – '.join(about)}", 200)

    @property
    def body(self) -> str:
        """Plain text of several lines."""
        alert = self.alert
        head = f"Resolved: {alert.message}" if self.kind == "resolved" else alert.message
        facts = {
            "Type": alert.alert_type,
            "Severity": alert.severity,
            "Model": alert.model,
            "Subject": alert.subject if alert.subject != alert.message else "",
            "First noticed": _time(self.first_at),
            "Resolved" if self.kind == "resolved" else "Last noticed": _time(self.last_at),
            "Times noticed": str(self.occurrences),
            "Dagster run": alert.run_url,
        }
        told = [f"{name}: {found}" for name, found in facts.items() if found]
        details = [f"  {name}: {found}" for name, found in alert.details.items()]
        return "\n".join([head, "", *told, *(["", "Details", *details] if details else [])])

    def slack(self) -> dict[str, Any]:
        """The body of a Slack webhook request. Data stands in plain_text and escaped: no markup, link or mention."""
        blocks: list[dict[str, Any]] = [
            {"type": "header", "text": _plain(self.title, _SLACK_TITLE)},
            {"type": "section", "text": _plain(self.body, _SLACK_TEXT)},
        ]
        if self.alert.run_url:
            link = {"type": "mrkdwn", "text": f"<{self.alert.run_url}|Dagster run>", "verbatim": True}
            blocks.append({"type": "context", "elements": [link]})
        return {"text": text.for_slack(self.title, _SLACK_TEXT), "blocks": blocks}


def make_alert(
    alert_id: str,
    alert_type: str,
    message: str,
    severity: str,
    metadata: Mapping[str, Any] | None,
    *,
    model: str | None,
    default_model: str,
    subject: str | None,
    dagster_url: str,
) -> Alert:
    """An alert from what a caller gave.

    Raises:
        InputError: The severity is unknown, the type is empty, or the metadata is no mapping.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InputError(
            f"The alert's metadata is of type {type(metadata).__name__}",
            expected="a mapping, such as what ModelMonitor.detect_data_drift returns",
        )
    if severity not in SEVERITIES:
        raise InputError(f"The alert's severity is {severity!r}", expected=" or ".join(SEVERITIES))
    if not text.line(alert_type):
        raise InputError("The alert has no type", expected="a word such as drift")
    found = dict(metadata or {})
    of_model = str(found.get("model_name") or default_model) if model is None else model
    about = message if subject is None else subject
    run_id, page = str(found.get("run_id", "")), dagster_url.rstrip("/")
    has_page = _RUN_ID.fullmatch(run_id) and _ADDRESS.fullmatch(page)
    return Alert(
        alert_id=alert_id,
        key=key_of(alert_type, of_model, about),
        alert_type=text.line(alert_type, 60),
        model=text.line(of_model, 100),
        subject=text.line(about, 200),
        severity=severity,
        message=text.lines(message),
        details={
            text.line(str(name), 60): text.value(str(name), each) for name, each in list(found.items())[:_MOST_DETAILS]
        },
        run_url=f"{page}/runs/{run_id}" if has_page else "",
    )


def key_of(alert_type: str, model: str, subject: str) -> str:
    """Hash of what makes two alerts the same."""
    return hashlib.sha256(json.dumps([alert_type, model, subject]).encode()).hexdigest()


def _plain(found: str, longest: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": text.for_slack(found, longest), "emoji": False}


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
