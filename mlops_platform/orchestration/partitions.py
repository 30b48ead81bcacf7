"""The two partitionings: local days (feature_date) and 6-hour ticks, and which key belongs to an instant.

Does not belong here: the calendar arithmetic (`clock.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform import clock

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

DAY_FORMAT = "%Y-%m-%d"
TICK_FORMAT = "%Y-%m-%d-%H:%M"
# A range of days is one run: one a day costs the embedded instance more than the work itself.
SINGLE_RUN = dg.BackfillPolicy.single_run()


@dataclass(frozen=True)
class Partitions:
    """Partitions of one home, from the first day of its history, in its business time zone."""

    settings: Settings

    @property
    def days(self) -> dg.DailyPartitionsDefinition:
        """One partition a local day; its key is the feature_date."""
        start = self.settings.first_partition_day.strftime(DAY_FORMAT)
        return dg.DailyPartitionsDefinition(start_date=start, timezone=self.settings.timezone)

    @property
    def ticks(self) -> dg.TimeWindowPartitionsDefinition:
        """One partition a local 6-hour window; its key is the window's start."""
        return dg.TimeWindowPartitionsDefinition(
            start=self.settings.first_partition_day.strftime("%Y-%m-%d-00:00"),
            fmt=TICK_FORMAT,
            cron_schedule="0 */6 * * *",
            timezone=self.settings.timezone,
        )

    def day_key(self, day: date) -> str:
        """Key of a local day."""
        return day.strftime(DAY_FORMAT)

    def day(self, key: str) -> date:
        """Local day of a key."""
        return date.fromisoformat(key)

    def day_span(self, context: dg.AssetExecutionContext) -> tuple[date, date]:
        """First and last local day of a run over one partition or a range of them."""
        keys = context.partition_key_range
        return self.day(keys.start), self.day(keys.end)

    def tick_key(self, tick: datetime) -> str:
        """Key of the window that starts at the instant."""
        return tick.astimezone(self.settings.zone).strftime(TICK_FORMAT)

    def tick(self, key: str) -> datetime:
        """Start of the window of a key."""
        # The key is local time; the zone makes it an instant.
        return datetime.strptime(key, TICK_FORMAT).replace(tzinfo=self.settings.zone)

    def instant(self, scheduled: datetime) -> datetime:
        """The instant a schedule acts for: its own, unless `MLOPS_AS_OF` says otherwise."""
        return clock.now(self.settings) if self.settings.as_of is not None else scheduled


def window_before(offset: int = -4) -> dg.TimeWindowPartitionMapping:
    """Maps a tick to the feature_date before it: four 6-hour windows back lies the day before the tick's own."""
    return dg.TimeWindowPartitionMapping(start_offset=offset, end_offset=offset)
