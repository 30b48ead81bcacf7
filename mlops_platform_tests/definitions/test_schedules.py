"""When each job runs, and for which partition: at every instant, in every time zone, the last one that has ended.

Does not belong here: the calendar arithmetic itself (`unit/`), what the jobs do.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from mlops_platform.definitions import build_definitions
from mlops_platform.settings import Settings, load_settings

DAILY_JOBS = ("ingest_and_features", "ml_training_pipeline")
TICK_JOB = "ml_batch_inference_pipeline"
CRONS = {
    "ingest_and_features": "30 0 * * *",
    "ml_training_pipeline": "0 2 * * *",
    "ml_batch_inference_pipeline": "0 */6 * * *",
    "table_maintenance": "0 4 * * 0",
}


def schedules(definitions: dg.Definitions) -> dict[str, Any]:
    return {schedule.job_name: schedule for schedule in definitions.get_repository_def().schedule_defs}


def key_at(definitions: dg.Definitions, job: str, instant: datetime) -> str:
    """The partition a job's schedule asks for at an instant."""
    context = dg.build_schedule_context(
        scheduled_execution_time=instant, repository_def=definitions.get_repository_def()
    )
    (request,) = schedules(definitions)[job].evaluate_tick(context).run_requests
    assert request.run_key == request.partition_key
    return str(request.partition_key)


ZONES = ("UTC", "America/Sao_Paulo", "America/New_York", "Asia/Kolkata")


class TestSchedules:
    @pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo"])
    def test_crons_run_in_the_business_time_zone(self, home: Settings, zone: str) -> None:
        found = schedules(build_definitions(home.model_copy(update={"timezone": zone})))
        assert {job: schedule.cron_schedule for job, schedule in found.items()} == CRONS
        assert {schedule.execution_timezone for schedule in found.values()} == {zone}

    def test_airflow_starts_training_and_inference_where_it_is_the_orchestrator(self, home: Settings) -> None:
        found = schedules(build_definitions(home.model_copy(update={"orchestrator": "airflow"})))
        assert set(found) == {"ingest_and_features", "table_maintenance"}

    @pytest.mark.parametrize(
        ("zone", "job", "instant", "key"),
        [
            ("UTC", "ingest_and_features", "2024-03-01T00:30+00:00", "2024-02-29"),
            ("UTC", "ml_training_pipeline", "2024-03-01T02:00+00:00", "2024-02-29"),
            ("UTC", "ml_batch_inference_pipeline", "2024-03-01T00:00+00:00", "2024-02-29-18:00"),
            ("UTC", "ml_batch_inference_pipeline", "2024-03-01T06:00+00:00", "2024-03-01-00:00"),
            ("UTC", "ml_batch_inference_pipeline", "2024-03-01T11:59+00:00", "2024-03-01-00:00"),
            # Half past midnight in São Paulo is half past three in UTC.
            ("America/Sao_Paulo", "ingest_and_features", "2024-03-01T03:30+00:00", "2024-02-29"),
            ("America/Sao_Paulo", "ml_training_pipeline", "2024-03-01T05:00+00:00", "2024-02-29"),
            ("America/Sao_Paulo", "ml_training_pipeline", "2024-03-01T02:00+00:00", "2024-02-28"),
            ("America/Sao_Paulo", "ml_batch_inference_pipeline", "2024-03-01T03:00+00:00", "2024-02-29-18:00"),
            ("America/Sao_Paulo", "ml_batch_inference_pipeline", "2024-03-01T09:00+00:00", "2024-03-01-00:00"),
            # The night New York loses an hour (2 o'clock does not occur), and the one it gains one.
            ("America/New_York", "ml_training_pipeline", "2024-03-10T07:00+00:00", "2024-03-09"),
            ("America/New_York", "ml_batch_inference_pipeline", "2024-03-10T10:00+00:00", "2024-03-10-00:00"),
            ("America/New_York", "ml_batch_inference_pipeline", "2024-11-03T11:00+00:00", "2024-11-03-00:00"),
            ("America/New_York", "ml_batch_inference_pipeline", "2024-11-03T10:59+00:00", "2024-11-02-18:00"),
            # Midnight itself does not occur: São Paulo's clocks went from 0 to 1 o'clock.
            ("America/Sao_Paulo", "ml_batch_inference_pipeline", "2018-11-04T03:00+00:00", "2018-11-03-18:00"),
        ],
    )
    def test_keys_at_chosen_instants(self, home: Settings, zone: str, job: str, instant: str, key: str) -> None:
        settings = home.model_copy(update={"timezone": zone, "history_start": date(2018, 1, 1)})
        at = datetime.fromisoformat(instant).astimezone(ZoneInfo(zone))
        assert key_at(build_definitions(settings), job, at) == key

    @pytest.mark.parametrize("zone", ZONES)
    @pytest.mark.parametrize("start", ["2018-02-16", "2018-11-02", "2024-03-09", "2024-11-02"])
    def test_the_key_is_the_last_partition_that_has_ended(self, home: Settings, zone: str, start: str) -> None:
        first = datetime.fromisoformat(start).replace(tzinfo=UTC)
        history = first.date() - timedelta(days=3)
        definitions = build_definitions(home.model_copy(update={"timezone": zone, "history_start": history}))
        for hours in range(3, 75, 6):
            at = (first + timedelta(hours=hours, minutes=20)).astimezone(ZoneInfo(zone))
            for job in (*DAILY_JOBS, TICK_JOB):
                partitions = definitions.resolve_job_def(job).partitions_def
                assert partitions is not None
                assert key_at(definitions, job, at) == partitions.get_partition_keys(current_time=at)[-1], at

    def test_as_of_overrides_the_clock(self, tmp_path: Path) -> None:
        definitions = build_definitions(load_settings(home=tmp_path / "home", as_of=date(2024, 1, 31)))
        at = datetime(2026, 7, 1, 2, tzinfo=UTC)
        assert [key_at(definitions, job, at) for job in DAILY_JOBS] == ["2024-01-31", "2024-01-31"]
        assert key_at(definitions, TICK_JOB, at) == "2024-02-01-00:00"

    def test_a_tick_scores_the_day_before_its_own(self, home: Settings) -> None:
        for zone in ZONES:
            settings = home.model_copy(update={"timezone": zone, "history_start": date(2018, 1, 1)})
            definitions = build_definitions(settings)
            for day in (date(2024, 2, 29), date(2024, 3, 9), date(2024, 3, 10), date(2024, 11, 2), date(2024, 11, 3)):
                for hour in (0, 6, 12, 18):
                    tick = f"{day + timedelta(days=1)}-{hour:02}:00"
                    for reader in ("inference_input", "predictions"):
                        assert upstream_days(definitions, ["ml", reader], tick) == [day.isoformat()], (zone, tick)


def upstream_days(definitions: dg.Definitions, asset: list[str], tick: str) -> list[str]:
    """The feature_dates that Dagster takes a tick of an asset to read."""
    graph = definitions.resolve_asset_graph()
    features = dg.AssetKey(["feature_store", "customer_features"])
    ticks, days = graph.get(dg.AssetKey(asset)).partitions_def, graph.get(features).partitions_def
    assert ticks is not None
    assert days is not None
    mapped = graph.get_partition_mapping(
        dg.AssetKey(asset), features
    ).get_upstream_mapped_partitions_result_for_partitions(
        downstream_partitions_subset=ticks.subset_with_partition_keys([tick]),
        downstream_partitions_def=ticks,
        upstream_partitions_def=days,
        current_time=datetime(2025, 1, 1, tzinfo=UTC),
    )
    assert not mapped.required_but_nonexistent_subset.get_partition_keys()
    return sorted(mapped.partitions_subset.get_partition_keys())
