"""The documented Airflow tasks that materialize nothing: small commands, each run as one Dagster run of its own.

They are ops of a job, so that an orchestrator can start them here or on a Dagster webserver, and find a finished one
again. Does not belong here: which task of which DAG is which command (`airflow_pack/tasks.py`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.contracts import PREDICTIONS
from mlops_platform.data_pipeline.processing import HAS_ROWS
from mlops_platform.errors import InputError, StorageError
from mlops_platform.monitoring.tick import NO_DRIFT_CHECK
from mlops_platform.orchestration.executor import in_tagged_process
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake

COMMAND_JOB = "platform_command"
# A run's tags: the DAG, its run and its task, and what a command returned, as JSON.
DAG_TAG, DAG_RUN_TAG, TASK_TAG, TRY_TAG = "airflow/dag_id", "airflow/run_id", "airflow/task_id", "airflow/try_number"
RESULT_TAG = "mlops/result"

TRANSACTIONS = dg.AssetKey(["silver", "transactions"])
PRODUCTION_MODEL = dg.AssetKey(["ml", "production_model"])
PREDICTED = dg.AssetKey(["ml", "predictions"])
DRIFT_REPORT = dg.AssetKey(["monitoring", "drift_report"])


@dataclass(frozen=True)
class CommandCall:
    """What a command works on.

    Args:
        instance: The home's Dagster instance.
        lake: The home's tables.
        partition: Key of the day or tick.
        siblings: Tags that the runs of the same DAG run share; empty outside Airflow.
    """

    instance: dg.DagsterInstance
    lake: Lake
    partition: str
    siblings: dict[str, str]

    @property
    def partitions(self) -> Partitions:
        """The home's partitions."""
        return Partitions(self.lake.settings)

    def made(self, asset: dg.AssetKey) -> dict[str, Any]:
        """Metadata of an asset's last materialization by this DAG run, and its `run_id`; outside Airflow, of the last.

        Raises:
            StorageError: There is none.
        """
        ours = {run.run_id for run in self.instance.get_runs(dg.RunsFilter(tags=self.siblings))}
        for record in self.instance.fetch_materializations(asset, limit=100).records:
            if not self.siblings or record.run_id in ours:
                found = record.asset_materialization
                metadata = {k: v.value for k, v in found.metadata.items()} if found is not None else {}
                return {**metadata, "run_id": record.run_id}
        raise StorageError(
            f"{asset.to_user_string()} was not materialized by this run",
            hint="run the task before this one again; its log names the Dagster run.",
        )


def data_ready(call: CommandCall) -> dict[str, Any]:
    """Whether silver holds the whole day: it was made after the day was over, and its data-ready check passed."""
    day = call.partitions.day(call.partition)
    made = call.instance.get_latest_materialization_event(TRANSACTIONS)
    if made is None:
        return {"ready": False, "why": "nothing was ingested yet; Dagster's job ingest_and_features does that"}
    if made.timestamp < clock.end_of_day(day, call.lake.settings.zone).timestamp():
        return {"ready": False, "why": f"nothing was ingested since {day} was over"}
    key = dg.AssetCheckKey(TRANSACTIONS, HAS_ROWS)
    checked = call.instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    evaluated = checked.event.dagster_event if checked is not None and checked.event is not None else None
    if evaluated is not None and not evaluated.asset_check_evaluation_data.passed:
        return {"ready": False, "why": "the last ingestion found no transactions"}
    return {"ready": True, "why": f"transactions were ingested after {day} was over"}


def verify_predictions(call: CommandCall) -> dict[str, Any]:
    """Reads the tick's predictions back from the table that the run published.

    Raises:
        StorageError: The published snapshot is gone, or holds other rows than were published.
    """
    made = call.made(PREDICTED)
    tick = [Condition("tick", "=", call.partitions.tick(call.partition))]
    wanted, snapshot = int(made["dagster/partition_row_count"]), int(made["snapshot_id"])
    current = call.lake.snapshot(PREDICTIONS)
    for state in (current.at(snapshot), current):
        found = state.count(tick)
        if found != wanted:
            raise StorageError(
                f"{PREDICTIONS.name} holds {found:,} rows of tick {call.partition} in snapshot {state.snapshot_id}",
                expected=f"the {wanted:,} rows that were published",
                hint="run generate_predictions again.",
            )
    return {"table": PREDICTIONS.name, "snapshot_id": str(snapshot), "rows": wanted}


def notify_training(call: CommandCall) -> dict[str, Any]:
    """Tells the team what the gate decided, and why."""
    made = call.made(PRODUCTION_MODEL)
    name, version = call.lake.settings.model_name, made["version"]
    is_promoted = made["decision"] == "promoted"
    verb = "is in Production" if is_promoted else "was not promoted"
    message = f"{name} version {version} {verb}: {made['reason']}"
    severity = "info" if is_promoted else "warning"
    return _tell(call, "training", message, severity, subject=f"version {version}", made=made)


def handle_drift(call: CommandCall) -> dict[str, Any]:
    """Tells the team which columns drifted and where the report is."""
    from mlops_platform.orchestration.alert_sensors import DRIFT, check_subject

    made = call.made(DRIFT_REPORT)
    message = f"Drift in {made['drifted']} at tick {call.partition}; report: {made['report']}"
    # As Dagster's sensor tells of the same check: whichever is first, people are told once, and once when it is over.
    subject = check_subject(DRIFT_REPORT, NO_DRIFT_CHECK)
    return _tell(call, DRIFT, message, "warning", subject=subject, made=made)


def complete_inference(call: CommandCall) -> dict[str, Any]:
    """Sums up a tick without drift."""
    predicted, drift = call.made(PREDICTED), call.made(DRIFT_REPORT)
    return {"rows": predicted["dagster/partition_row_count"], "drift": drift["status"]}


COMMANDS: dict[str, Callable[[CommandCall], dict[str, Any]]] = {
    command.__name__: command
    for command in (data_ready, verify_predictions, notify_training, handle_drift, complete_inference)
}


class CommandConfig(dg.Config):
    """Which command, for which day or tick."""

    command: str
    partition: str


@dg.op(description="One small command; what it returns is a tag of the run, as JSON.")
def run_command(context: dg.OpExecutionContext, config: CommandConfig, lake: dg.ResourceParam[Lake]) -> None:
    """Runs it."""
    if config.command not in COMMANDS:
        raise InputError(f"there is no command {config.command!r}", expected=f"one of {', '.join(COMMANDS)}")
    siblings = {tag: context.run.tags[tag] for tag in (DAG_TAG, DAG_RUN_TAG) if tag in context.run.tags}
    found = COMMANDS[config.command](CommandCall(context.instance, lake, config.partition, siblings))
    context.instance.add_run_tags(context.run_id, {RESULT_TAG: json.dumps(found)})


@dg.job(
    name=COMMAND_JOB,
    description="The documented Airflow tasks that make no asset: waiting, verifying, notifying.",
    executor_def=in_tagged_process,
)
def platform_command() -> None:
    """One command."""
    run_command()


def _tell(
    call: CommandCall, alert_type: str, message: str, severity: str, *, subject: str, made: dict[str, Any]
) -> dict[str, Any]:
    """Through the home's alert channels; what became of it on each is part of the result, never a failure."""
    from mlops_platform.monitoring.alerts import AlertManager

    manager = AlertManager(settings=call.lake.settings)
    # Pictures and tables stay in Dagster.
    details = {name: value for name, value in made.items() if isinstance(value, (str, int)) and len(str(value)) <= 300}
    told = manager.send_alert(alert_type, message, severity, details, subject=subject)
    return {"message": message, "told": {channel: delivery.status for channel, delivery in told.items()}}
