"""Where the platform speaks to others: the alerts' channels and the online store.

Does not belong here: sending anything.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from mlops_platform.data_pipeline.crm import find_source, span
from mlops_platform.orchestration.doctor.finding import Finding
from mlops_platform.orchestration.doctor.servers import postgres
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from mlops_platform.settings import Settings


def crm(settings: Settings) -> Finding:
    """The CRM can be read, and from when to when it holds transactions."""
    if settings.crm_url is None and not settings.sources:
        return Finding("CRM", is_ok=False, message="none is set", mend="set MLOPS_CRM_URL, or run: mlops demo")
    source = find_source(settings)
    if source.url.startswith("postgresql://"):
        # Whose own way of connecting waits for a host that is gone for minutes.
        with postgres(source.url, "MLOPS_CRM_URL"):
            pass
    found = span(settings, source.url, source.tables)
    where = mask_secrets(source.url)
    return Finding("CRM", True, f"{where}, {found.rows:,} transactions from {found.first_day} to {found.last_day}")


def alerts(settings: Settings) -> Finding:
    """The channels are set, with what each needs."""
    channels = settings.alert_channels or ("log",)
    needed: dict[str, dict[str, object]] = {
        "email": {"MLOPS_SMTP_URL": settings.smtp_url, "MLOPS_ALERT_EMAIL_TO": settings.alert_email_to},
        "slack": {"MLOPS_SLACK_WEBHOOK_URL": settings.slack_webhook_url},
    }
    for channel in channels:
        for variable, value in needed.get(channel, {}).items():
            if value is None:
                message = f"the channel {channel} lacks {variable}: its alerts reach nobody"
                return Finding("alerts", is_ok=False, message=message, mend=f"export {variable}=…")
    if set(channels) == {"log"}:
        mend = "export MLOPS_ALERT_CHANNELS=log,email,slack, with MLOPS_SMTP_URL or MLOPS_SLACK_WEBHOOK_URL"
        return Finding("alerts", is_ok=True, message="told to the log alone: nobody is called", mend=mend)
    return Finding("alerts", is_ok=True, message=f"told to {', '.join(channels)}")


def online_store(settings: Settings) -> Finding:
    """The service's copy of the features is there, and not too old."""
    from mlops_platform.inference_pipeline.online_store import open_store

    store = open_store(settings)
    make = "python -m mlops_platform.inference_pipeline.online_store"
    try:
        state = store.state()
    finally:
        store.close()
    if state is None:
        message = "there is none: the service answers no request that names a customer"
        return Finding("online", is_ok=True, message=message, mend=make)
    age = state.age_days(datetime.now(settings.zone).date() if settings.as_of is None else settings.as_of)
    message = f"{store.kind}: {state.customers:,} customers of {state.feature_date}, {age} days behind"
    return Finding("online", is_ok=True, message=message, mend=make if age >= settings.online_store_days else "")
