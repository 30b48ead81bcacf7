"""Jobs, schedules and sensors: what runs when.

A job holds one kind of partition plus unpartitioned assets. Does not belong here: the assets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.inference_pipeline.prediction_log import last_written
from mlops_platform.orchestration.executor import in_tagged_process
from mlops_platform.orchestration.instance import reap
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.orchestration.task_commands import platform_command
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain, referenced_snapshots

INGEST = "ingest_and_features"
TRAINING = "ml_training_pipeline"
INFERENCE = "ml_batch_inference_pipeline"
PREDICTION_LOG = "ingest_prediction_log"
MAINTENANCE = "table_maintenance"

CADENCE = {INGEST: "30 0 * * *", TRAINING: "0 2 * * *", INFERENCE: "0 */6 * * *", MAINTENANCE: "0 4 * * 0"}

# What Airflow starts where it is the orchestrator; ingestion and maintenance are Dagster's on any home.
AIRFLOW_JOBS = frozenset({TRAINING, INFERENCE})

# Twice more for a run whose process died, which the reaper has failed, and for one that lost a server, which its
# executor says; another step that failed would only fail again.
RETRIES = {"dagster/max_retries": "2", "dagster/retry_on_asset_or_op_failure": "false"}

_SELECTION: dict[str, Sequence[Sequence[str]]] = {
    INGEST: (
        ["bronze", "crm_customers"],
        ["bronze", "crm_transactions"],
        ["silver", "customers"],
        ["silver", "transactions"],
        ["feature_store", "customer_features"],
        ["ml", "online_store"],
        ["monitoring", "performance_report"],
    ),
    TRAINING: (
        ["feature_store", "customer_features"],
        ["ml", "training_set"],
        ["ml", "churn_model"],
        ["ml", "model_evaluation"],
        ["ml", "production_model"],
    ),
    INFERENCE: (
        ["ml", "inference_input"],
        ["ml", "serving_model"],
        ["ml", "predictions"],
        ["monitoring", "drift_report"],
    ),
    PREDICTION_LOG: (["ml", "online_predictions"],),
}
_WORDS = {
    INGEST: "CRM → bronze → silver → customer_features of the last complete day; performance of matured predictions.",
    TRAINING: "Features → labelled rows → model → held-out evaluation → Production, if it passes the gate.",
    INFERENCE: "Scores the population for one 6-hour tick and reports drift.",
    PREDICTION_LOG: "Takes the online service's prediction log into ml.online_predictions.",
}


@dg.op(description="Expires snapshots older than 30 days, compacts small files, deletes files nothing refers to.")
def maintain_tables(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
    """One pass over all tables."""
    # Files and snapshots carry the machine's time, whatever day MLOPS_AS_OF says it is.
    done = maintain(lake, now=datetime.now(UTC), keep=referenced_snapshots(lake))
    context.add_output_metadata({entry.table: dg.MetadataValue.json(asdict(entry)) for entry in done})


@dg.job(name=MAINTENANCE, description="Keeps the tables small.", executor_def=in_tagged_process)
def table_maintenance() -> None:
    """Weekly maintenance."""
    maintain_tables()


def asset_keys(job: str) -> list[dg.AssetKey]:
    """The assets that a job makes."""
    return [dg.AssetKey(list(key)) for key in _SELECTION[job]]


def asset_jobs() -> list[Any]:
    """Every job."""
    made = [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*asset_keys(name)),
            executor_def=in_tagged_process,
            description=_WORDS[name],
            tags=RETRIES,
        )
        for name in _SELECTION
    ]
    return [*made, table_maintenance, platform_command]


def schedules(partitions: Partitions) -> list[dg.ScheduleDefinition]:
    """One schedule a job, in the business time zone; none for what Airflow starts where it is the orchestrator."""
    elsewhere = AIRFLOW_JOBS if partitions.settings.orchestrator == "airflow" else frozenset()
    made = [_schedule(partitions, name) for name in (INGEST, TRAINING, INFERENCE) if name not in elsewhere]
    weekly = dg.ScheduleDefinition(
        job_name=MAINTENANCE, cron_schedule=CADENCE[MAINTENANCE], execution_timezone=partitions.settings.timezone
    )
    return [*made, weekly]


def scheduled_key(partitions: Partitions, job: str, instant: datetime) -> str:
    """Key of the partition that a scheduled job works on at an instant: the last day, or tick, that has ended."""
    at, zone = partitions.instant(instant), partitions.settings.zone
    if job == INFERENCE:
        return partitions.tick_key(clock.last_ended_tick(at, zone))
    return partitions.day_key(clock.last_complete_day(at, zone))


def _schedule(partitions: Partitions, name: str) -> dg.ScheduleDefinition:
    def requests(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        key = scheduled_key(partitions, name, context.scheduled_execution_time)
        return dg.RunRequest(run_key=key, partition_key=key)

    return dg.ScheduleDefinition(
        name=f"{name}_schedule",
        job_name=name,
        cron_schedule=CADENCE[name],
        execution_timezone=partitions.settings.timezone,
        execution_fn=requests,
        description=_WORDS[name],
    )


def sensors(partitions: Partitions) -> list[dg.SensorDefinition]:
    """The prediction log's sensor, and the reaper of runs whose process is gone."""
    spool = partitions.settings.prediction_spool

    @dg.sensor(
        job_name=PREDICTION_LOG,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts when the online service has logged predictions since the last run.",
    )
    def prediction_log_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        written = last_written(spool)
        if written <= int(context.cursor or 0):
            yield dg.SkipReason("no new predictions in the log")
            return
        context.update_cursor(str(written))
        yield dg.RunRequest()

    @dg.sensor(
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process is gone: killed, a run would stay STARTED for ever.",
    )
    def reaper(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        gone = reap(context.instance)
        return dg.SkipReason(f"marked as failed: {', '.join(gone)}" if gone else "every started run has its process")

    return [prediction_log_sensor, reaper]
