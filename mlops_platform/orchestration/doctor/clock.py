"""This machine's clock beside the database's and the bucket's, and the business time zone.

Does not belong here: what a day is (`mlops_platform.clock`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from mlops_platform.orchestration.doctor.finding import Finding
from mlops_platform.orchestration.doctor.servers import postgres
from mlops_platform.orchestration.doctor.warehouse import bucket_date

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

# A Date header has whole seconds, and an answer takes some time.
TOLERATED_SECONDS = 5.0
SET_THE_CLOCK = "sudo timedatectl set-ntp true"


def clock(settings: Settings) -> Finding:
    """The clocks agree."""
    local = datetime.now(UTC)
    shown = f"{local.astimezone(settings.zone):%Y-%m-%d %H:%M} in {settings.timezone}"
    if settings.as_of is not None:
        shown += f"; MLOPS_AS_OF says {settings.as_of}"
    apart = _apart(settings)
    off = {name: seconds for name, seconds in apart.items() if abs(seconds) > TOLERATED_SECONDS}
    if off:
        said = ", ".join(
            f"{abs(seconds):,.0f} s {'behind' if seconds > 0 else 'ahead of'} {name}" for name, seconds in off.items()
        )
        return Finding("clock", is_ok=False, message=f"{shown}; this machine is {said}", mend=SET_THE_CLOCK)
    agrees = f"; agrees with {' and '.join(apart)}" if apart else ""
    return Finding("clock", is_ok=True, message=shown + agrees)


def _apart(settings: Settings) -> dict[str, float]:
    """Seconds by which each server's clock is ahead of ours."""
    found: dict[str, float] = {}
    if settings.catalog_url is not None:
        with postgres(settings.catalog_url, "MLOPS_CATALOG_URL") as cursor:
            cursor.execute("SELECT clock_timestamp()")
            found["the database"] = (cursor.fetchone()[0] - datetime.now(UTC)).total_seconds()
    if (date := bucket_date(settings)) is not None:
        found["the bucket"] = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    return found
