"""Now, and the calendar of the business time zone.

Belongs here: the one reading of the clock (used by the CLI, the schedules and the `python -m` entry points) and the
arithmetic from an instant to the last complete day and the last ended tick. Domain functions take days and ticks as
arguments and never call `now`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from mlops_platform.settings import Settings

TICK_HOURS = 6


def now(settings: Settings) -> datetime:
    """The present instant; with `MLOPS_AS_OF` set, the end of the first tick after that day."""
    if settings.as_of is not None:
        return first_tick_end(settings.as_of, settings.zone)
    return datetime.now(UTC)


def last_complete_day(instant: datetime, zone: ZoneInfo) -> date:
    """The local day before the one the instant falls in."""
    return instant.astimezone(zone).date() - timedelta(days=1)


def end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which the local day is over."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)


def tick_of(day: date, zone: ZoneInfo) -> datetime:
    """Start of the first tick that scores the features of local day `day`: midnight after it."""
    return end_of_day(day, zone)


def first_tick_end(day: date, zone: ZoneInfo) -> datetime:
    """End of the first tick that scores the features of `day`."""
    return datetime.combine(day + timedelta(days=1), time(TICK_HOURS), tzinfo=zone)


def last_ended_tick(instant: datetime, zone: ZoneInfo) -> datetime:
    """Start of the last 6-hour window (local 0, 6, 12, 18 h) that has ended at the instant."""
    local = instant.astimezone(zone)
    running = datetime.combine(local.date(), time(local.hour // TICK_HOURS * TICK_HOURS), tzinfo=zone)
    before = running.replace(tzinfo=None) - timedelta(hours=TICK_HOURS)
    return before.replace(tzinfo=zone)


def feature_date_of(tick: datetime, zone: ZoneInfo) -> date:
    """The feature_date a tick scores: the local day before the tick's start."""
    return tick.astimezone(zone).date() - timedelta(days=1)
