"""One Airflow task as one Dagster run in this process: found again where it already ran, else executed.

Belongs here: what an external orchestrator needs of Dagster. Does not belong here: what the tasks are
(`airflow_pack/`), the commands among them (`task_commands.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from mlops_platform.errors import InputError, StorageError
from mlops_platform.orchestration.instance import open_instance, reap
from mlops_platform.orchestration.jobs import scheduled_key
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.orchestration.runner import Progress, Runner
from mlops_platform.orchestration.task_commands import (
    COMMAND_JOB,
    DAG_RUN_TAG,
    DAG_TAG,
    RESULT_TAG,
    TASK_TAG,
    TRY_TAG,
)

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

POLL_SECONDS = 1.0
# Longer values, such as tables and pictures, are looked at in Dagster, and figures in MLflow.
LONGEST_REFERENCE = 300
# Of these the reaper knows whether their process is still there.
_RUNNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


@dataclass(frozen=True)
class TaskCall:
    """What Airflow says of the task instance it starts.

    Args:
        job: The Dagster job, and the DAG, of this name.
        task: The task's name.
        dag_run: Id of the DAG run.
        attempt: Number of the try, from 1.
        at: The instant the DAG run stands for: its logical date, or when it was triggered.
    """

    job: str
    task: str
    dag_run: str
    attempt: int
    at: datetime

    @property
    def identity(self) -> dict[str, str]:
        """Tags by which a run of this task, in whatever try, is found again."""
        return {DAG_TAG: self.job, DAG_RUN_TAG: self.dag_run, TASK_TAG: self.task}


@dataclass(frozen=True)
class TaskResult:
    """What a task did.

    Args:
        run_id: The Dagster run.
        partition: Key of the day or tick.
        found: By asset, or the command's: snapshot ids, run ids, versions.
    """

    run_id: str
    partition: str
    found: Mapping[str, Any]


def run_task(
    settings: Settings,
    build: Callable[[Settings], dg.Definitions],
    call: TaskCall,
    *,
    assets: Sequence[str] = (),
    command: str | None = None,
    is_repeated: bool = False,
    say: Progress,
) -> TaskResult:
    """Runs a task, or takes the result of the run that did it in an earlier try.

    Args:
        settings: The home.
        build: Makes the Definitions of settings.
        call: Which task of which DAG run.
        assets: What it materializes, such as ml/predictions.
        command: Which command it runs instead.
        is_repeated: Whether a finished run may be followed by another, as a sensor's are.
        say: Called with a line whenever something starts.

    Raises:
        InputError: A schedule of the same job is running in Dagster.
        PlatformError: The task failed for a reason the user can mend.
    """
    with open_instance(settings) as instance:
        reap(instance)
        stand_alone(settings, instance, call.job, say)
        partition = scheduled_key(Partitions(settings), call.job, call.at)
        run = None if is_repeated else earlier_run(instance, call, say)
        if run is not None:
            say(f"{call.task} was done before, Dagster run: {run_link(settings, run.run_id)}")
            return TaskResult(run.run_id, partition, references(instance, run.run_id))
        runner = Runner(build(settings), instance, say)
        # Airflow retries: a daemon that did too would run the task twice.
        tags = {**call.identity, TRY_TAG: str(call.attempt), "dagster/max_retries": "0"}
        if command is not None:
            config = {"run_command": {"config": {"command": command, "partition": partition}}}
            run_id = runner.run(COMMAND_JOB, None, config=config, tags=tags).run_id
        else:
            keys = [dg.AssetKey(asset.split("/")) for asset in assets]
            run_id = runner.run(call.job, partition, only=keys, tags=tags).run_id
        say(f"Dagster run: {run_link(settings, run_id)}")
        return TaskResult(run_id, partition, references(instance, run_id))


def stand_alone(settings: Settings, instance: dg.DagsterInstance, job: str, say: Progress) -> None:
    """Makes sure that Dagster does not start the same job on its own: with Airflow as the orchestrator, by stopping it.

    Raises:
        InputError: A schedule of the job is running, and Dagster is the orchestrator.
    """
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    for state in states:
        if state.instigator_name != f"{job}_schedule" or state.status is not InstigatorStatus.RUNNING:
            continue
        if settings.orchestrator == "airflow":
            instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))
            say(f"stopped Dagster's {state.instigator_name}: MLOPS_ORCHESTRATOR is airflow")
            continue
        raise InputError(
            f"Dagster's {state.instigator_name} is running, so {job} would run twice",
            expected="one orchestrator for a job",
            hint="set MLOPS_ORCHESTRATOR=airflow for Dagster and Airflow alike, or stop the schedule in Dagster's UI.",
        )


def earlier_run(instance: dg.DagsterInstance, call: TaskCall, say: Progress) -> dg.DagsterRun | None:
    """The run that did the same task of the same DAG run, waited for where it still runs; None: there is none."""
    filters = dg.RunsFilter(tags=call.identity, statuses=[dg.DagsterRunStatus.SUCCESS, *_RUNNING])
    found = next(iter(instance.get_runs(filters, limit=1)), None)
    if found is not None and found.status in _RUNNING:
        # A try that Airflow gave up may live on.
        say(f"waiting for Dagster run {found.run_id} of an earlier try")
    while found is not None and found.status in _RUNNING:
        time.sleep(POLL_SECONDS)
        reap(instance)
        found = instance.get_run_by_id(found.run_id)
    return found if found is not None and found.status is dg.DagsterRunStatus.SUCCESS else None


def references(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What a run made: by asset its short metadata, or what its command returned.

    Raises:
        StorageError: The run is gone.
    """
    run = instance.get_run_by_id(run_id)
    if run is None:
        raise StorageError(f"Dagster has no run {run_id} any more", hint="trigger the DAG again.")
    if RESULT_TAG in run.tags:
        result: dict[str, Any] = json.loads(run.tags[RESULT_TAG])
        return result
    found: dict[str, Any] = {}
    for record in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        made = record.asset_materialization
        if made is not None:
            found[made.asset_key.to_user_string()] = {
                name: entry.value for name, entry in made.metadata.items() if _is_short(entry.value)
            }
    return found


def run_link(settings: Settings, run_id: str) -> str:
    """Where Dagster shows a run."""
    return f"{settings.dagster_url.rstrip('/')}/runs/{run_id}"


def _is_short(value: Any) -> bool:
    return isinstance(value, (bool, int)) or (isinstance(value, str) and len(value) <= LONGEST_REFERENCE)
