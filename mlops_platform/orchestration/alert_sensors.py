"""Sensors that tell people: runs that failed, checks that failed, assets that are late; and drift that starts training.

One sensor reads the runs that ended, in the order they ended, and of each its checks: what fails opens an alert, what
passes the next time resolves it. Dagster's own failure sensor would see no failed check that did not block, no run that
the command line started, and a success before the failure it follows. Does not belong here: the channels and when an
alert is repeated (`monitoring/alerts/`).
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import dagster as dg
from dagster import DagsterEventType as EventType

from mlops_platform.monitoring.alerts import AlertManager
from mlops_platform.monitoring.tick import NO_DRIFT_CHECK
from mlops_platform.orchestration.freshness import deadlines
from mlops_platform.orchestration.jobs import TRAINING, scheduled_key
from mlops_platform.orchestration.markdown import text_of
from mlops_platform.orchestration.partitions import Partitions

RUN_FAILED, CHECK_FAILED, DRIFT, LATE = "run_failure", "check_failed", "drift", "late"
DRIFT_REPORT = dg.AssetKey(["monitoring", "drift_report"])
# Marks the runs that drift started: the cooldown counts from the last one.
REASON_TAG = "mlops/reason"
# Dagster's mark of a failed run that its daemon starts again.
_WILL_RETRY_TAG = "dagster/will_retry"

_End = Literal[EventType.RUN_FAILURE, EventType.RUN_SUCCESS]
_ENDS: tuple[_End, ...] = get_args(_End)
_RUNS_A_TICK = 50
# Dagster gives a tick a minute; one alert takes up to half of it while a mail server does not answer.
_LONGEST_SECONDS = 20
_AD_HOC = "__ASSET_JOB"


def alert_sensors(partitions: Partitions) -> list[dg.SensorDefinition]:
    """Every sensor of this module."""
    return [_run_alerts(partitions), _late_alerts(partitions), _drift_retraining(partitions)]


def _run_alerts(partitions: Partitions) -> dg.SensorDefinition:
    @dg.sensor(
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of runs and checks that failed, and that they pass again; sends again what could not be.",
    )
    def run_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        manager = AlertManager(settings=partitions.settings)
        if context.cursor is None:
            # What happened before anybody asked for alerts is no news.
            context.update_cursor(str(_newest_end(context.instance)))
            return dg.SkipReason("from now on")
        ended, started = _ended_runs(context.instance, int(context.cursor)), time.monotonic()
        for number, record in enumerate(ended):
            if time.monotonic() - started > _LONGEST_SECONDS:
                return dg.SkipReason(f"{number} of {len(ended)} runs told; the others at the next tick")
            _tell_run(manager, context.instance, record)
            context.update_cursor(str(record.storage_id))
        manager.retry()
        return dg.SkipReason(f"{len(ended)} runs ended")

    return run_alerts


def _newest_end(instance: dg.DagsterInstance) -> int:
    found = [instance.fetch_run_status_changes(kind, limit=1).records for kind in _ENDS]
    return max((records[0].storage_id for records in found if records), default=0)


def _ended_runs(instance: dg.DagsterInstance, after: int) -> list[dg.EventLogRecord]:
    """The next ends of runs after a storage id, in their order."""
    found: list[dg.EventLogRecord] = []
    for kind in _ENDS:
        later = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after)
        found += instance.fetch_run_status_changes(later, limit=_RUNS_A_TICK, ascending=True).records
    return sorted(found, key=lambda record: record.storage_id)[:_RUNS_A_TICK]


def _tell_run(manager: AlertManager, instance: dg.DagsterInstance, record: dg.EventLogRecord) -> None:
    """Alerts of one run that ended: its checks in their order, then the run itself."""
    for entry in instance.all_logs(record.run_id, of_type=EventType.ASSET_CHECK_EVALUATION):
        if entry.dagster_event is not None:
            _tell_check(manager, record.run_id, entry.dagster_event.asset_check_evaluation_data)
    run = instance.get_run_by_id(record.run_id)
    if run is None:
        # It was deleted since.
        return
    if record.event_log_entry.dagster_event_type is EventType.RUN_SUCCESS:
        manager.resolve(RUN_FAILED, subject=_about(run), model="")
        return
    is_retried = run.tags.get(_WILL_RETRY_TAG) == "true"
    what_next = ". Dagster starts it again by itself" if is_retried else ""
    manager.send_alert(
        RUN_FAILED,
        f"{_about(run)} failed: {_cause(instance, record)}{what_next}",
        # The last failure is worse, and so is told although this one was.
        "warning" if is_retried else "error",
        {"run_id": run.run_id, "job": run.job_name, "partition": run.tags.get("dagster/partition", "")},
        subject=_about(run),
        model="",
    )


def _tell_check(manager: AlertManager, run_id: str, check: dg.AssetCheckEvaluation) -> None:
    subject = check_subject(check.asset_key, check.check_name)
    is_drift = check.check_name == NO_DRIFT_CHECK
    alert_type, model = (DRIFT, None) if is_drift else (CHECK_FAILED, "")
    if check.passed:
        manager.resolve(alert_type, subject=subject, model=model)
        return
    why = text_of(check.description) if check.description else "it gives no reason"
    figures = {name: each.value for name, each in check.metadata.items() if isinstance(each.value, str | int | float)}
    manager.send_alert(
        alert_type,
        f"The check {check.check_name} of {check.asset_key.to_user_string()} failed: {why}",
        "error" if check.severity is dg.AssetCheckSeverity.ERROR else "warning",
        {"run_id": run_id, "partition": check.partition or "", **figures},
        subject=subject,
        model=model,
    )


def check_subject(asset: dg.AssetKey, check: str) -> str:
    """The subject of a check's alerts."""
    return f"{asset.to_user_string()}: {check}"


def _about(run: dg.DagsterRun) -> str:
    """What a run is called: its job, or the assets that somebody chose by hand."""
    if not run.job_name.startswith(_AD_HOC) or not run.asset_selection:
        return run.job_name
    return ", ".join(sorted(key.to_user_string() for key in run.asset_selection))


def _cause(instance: dg.DagsterInstance, record: dg.EventLogRecord) -> str:
    """The first failed step and its first cause; what Dagster says of the run, where no step failed."""
    for entry in instance.all_logs(record.run_id, of_type=EventType.STEP_FAILURE):
        event = entry.dagster_event
        error = event.step_failure_data.error if event is not None else None
        if event is not None and error is not None:
            while error.cause is not None:
                error = error.cause
            return f"{event.step_key}: {error.message}"
    event = record.event_log_entry.dagster_event
    return (event.message if event is not None else None) or "no reason is known"


def _late_alerts(partitions: Partitions) -> dg.SensorDefinition:
    made_by = deadlines()

    @dg.sensor(
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells when what a job makes was not made by its deadline, and when it is there again.",
    )
    def late_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        manager = AlertManager(settings=partitions.settings)
        states = context.instance.get_freshness_state_records(list(made_by))
        late: dict[str, list[str]] = {job: [] for job in made_by.values()}
        for key, record in states.items():
            if record.freshness_state.value == "FAIL":
                late[made_by[key]].append(key.to_user_string())
        for job, assets in late.items():
            if assets:
                message = f"{job} is late: {', '.join(sorted(assets))} not made by the deadline"
                manager.send_alert(LATE, message, "error", {"job": job}, subject=job, model="")
            else:
                manager.resolve(LATE, subject=job, model="")
        return dg.SkipReason(f"late: {', '.join(job for job, assets in late.items() if assets) or 'nothing'}")

    return late_alerts


def _drift_retraining(partitions: Partitions) -> dg.SensorDefinition:
    settings = partitions.settings
    status = dg.DefaultSensorStatus.RUNNING if settings.retrain_on_drift else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        job_name=TRAINING,
        minimum_interval_seconds=300,
        default_status=status,
        description="Starts training when the latest drift report found drift, once in MLOPS_RETRAIN_COOLDOWN_DAYS.",
    )
    def drift_retraining(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        latest = context.instance.fetch_materializations(DRIFT_REPORT, limit=1).records
        if not latest or latest[0].storage_id <= int(context.cursor or 0):
            return dg.SkipReason("no new drift report")
        context.update_cursor(str(latest[0].storage_id))
        report = latest[0].asset_materialization
        if report is None or report.metadata["status"].value != "drift":
            return dg.SkipReason("no drift")
        # When runs were started is the machine's time, whatever day MLOPS_AS_OF says it is.
        now = datetime.now(UTC)
        since = now - timedelta(days=settings.retrain_cooldown_days)
        before = dg.RunsFilter(job_name=TRAINING, tags={REASON_TAG: DRIFT}, created_after=since)
        if context.instance.get_runs(before, limit=1):
            return dg.SkipReason(f"drift started training since {since:%Y-%m-%d %H:%M} UTC already")
        return dg.RunRequest(
            run_key=f"drift-{latest[0].storage_id}",
            partition_key=scheduled_key(partitions, TRAINING, now),
            tags={REASON_TAG: DRIFT},
        )

    return drift_retraining
