"""Days and ticks, on ordinary days and where the clock is changed."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mlops_platform.clock import (
    end_of_day,
    feature_date_of,
    first_tick_end,
    last_complete_day,
    last_ended_tick,
    now,
    tick_of,
)
from mlops_platform.settings import load_settings

ZONES = [
    ("UTC", date(2024, 3, 1)),
    ("America/Sao_Paulo", date(2018, 2, 18)),  # 00:00 became 23:00 of the day before
    ("America/Sao_Paulo", date(2018, 11, 4)),  # 00:00 became 01:00: the day has no midnight
    ("Europe/Lisbon", date(2024, 3, 31)),  # 01:00 became 02:00
    ("Europe/Lisbon", date(2024, 10, 27)),  # 02:00 became 01:00
    ("America/Havana", date(2024, 11, 3)),  # 01:00 became 00:00: midnight comes twice
    ("Asia/Kathmandu", date(2024, 3, 1)),  # +05:45
    ("Pacific/Kiritimati", date(2024, 3, 1)),  # +14:00
]
EVERY_ZONE = pytest.mark.parametrize(("zone_name", "day"), ZONES)


def instants(day: date) -> list[datetime]:
    """Every quarter of an hour of the three days around `day`."""
    start = datetime.combine(day, datetime.min.time(), tzinfo=UTC) - timedelta(days=1)
    return [start + timedelta(minutes=15 * n) for n in range(3 * 96)]


@EVERY_ZONE
def test_a_tick_is_the_last_local_six_hours_that_have_ended(zone_name: str, day: date) -> None:
    zone = ZoneInfo(zone_name)
    for instant in instants(day):
        tick = last_ended_tick(instant, zone)
        local = instant.astimezone(zone)
        assert (tick.hour % 6, tick.minute, tick.second) == (0, 0, 0)
        # Wall clock: the window started between 6 and 12 hours ago, whatever the clock did in between.
        age = local.replace(tzinfo=None) - tick.replace(tzinfo=None)
        assert timedelta(hours=6) <= age < timedelta(hours=12)


@EVERY_ZONE
def test_ticks_never_go_back_and_leave_none_out(zone_name: str, day: date) -> None:
    zone = ZoneInfo(zone_name)
    walls = [last_ended_tick(instant, zone).replace(tzinfo=None) for instant in instants(day)]
    steps = {after - before for before, after in itertools.pairwise(walls)}
    assert steps == {timedelta(0), timedelta(hours=6)}


@EVERY_ZONE
def test_feature_date_is_the_local_day_before_the_tick(zone_name: str, day: date) -> None:
    zone = ZoneInfo(zone_name)
    for instant in instants(day):
        tick = last_ended_tick(instant, zone)
        assert feature_date_of(tick, zone) == tick.date() - timedelta(days=1)
        # It is over when it is asked for, also when the tick comes back from a table in UTC.
        assert feature_date_of(tick.astimezone(UTC), zone) == feature_date_of(tick, zone)
        assert feature_date_of(tick, zone) <= last_complete_day(instant, zone)


@EVERY_ZONE
def test_the_first_tick_of_a_day_scores_it(zone_name: str, day: date) -> None:
    zone = ZoneInfo(zone_name)
    for shifted in (day - timedelta(days=1), day):
        tick, end = tick_of(shifted, zone), first_tick_end(shifted, zone)
        assert feature_date_of(tick, zone) == shifted
        assert last_ended_tick(end, zone) == tick
        assert last_ended_tick(end - timedelta(seconds=1), zone) < tick
        assert last_complete_day(end_of_day(shifted, zone), zone) == shifted
        assert last_complete_day(end_of_day(shifted, zone).astimezone(UTC) - timedelta(seconds=1), zone) < shifted


def test_lengths_of_days_where_the_clock_is_changed() -> None:
    zone = ZoneInfo("Europe/Lisbon")

    def hours(day: date) -> float:
        begin, end = end_of_day(day - timedelta(days=1), zone), end_of_day(day, zone)
        return (end.astimezone(UTC) - begin.astimezone(UTC)) / timedelta(hours=1)

    assert [hours(date(2024, 3, 31)), hours(date(2024, 4, 1)), hours(date(2024, 10, 27))] == [23, 24, 25]


@pytest.mark.parametrize(
    ("instant", "zone", "day"),
    [
        ("2024-03-01T00:00:00+00:00", "UTC", "2024-02-29"),
        ("2024-02-29T23:59:59+00:00", "UTC", "2024-02-28"),
        ("2024-03-01T02:59:00+00:00", "America/Sao_Paulo", "2024-02-28"),
        ("2024-03-01T03:00:00+00:00", "America/Sao_Paulo", "2024-02-29"),
    ],
)
def test_the_last_complete_day(instant: str, zone: str, day: str) -> None:
    assert last_complete_day(datetime.fromisoformat(instant), ZoneInfo(zone)) == date.fromisoformat(day)


@pytest.mark.parametrize("zone_name", ["UTC", "America/Sao_Paulo"])
def test_as_of_stands_in_for_the_clock(tmp_path: Path, zone_name: str) -> None:
    settings = load_settings(home=tmp_path, as_of=date(2018, 11, 3), timezone=zone_name)
    present = now(settings)
    assert last_complete_day(present, settings.zone) == date(2018, 11, 3)
    assert feature_date_of(last_ended_tick(present, settings.zone), settings.zone) == date(2018, 11, 3)
    assert now(settings) == present


def test_without_as_of_it_is_the_clock(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    before, present, after = datetime.now(UTC), now(settings), datetime.now(UTC)
    assert before <= present <= after
