"""One Airflow task as one Dagster run: found again where it was done, done again where it failed, alone in its job.

The assets are small ones under the real names; does not belong here: the real ones, Airflow itself.
"""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.errors import InputError, StorageError
from mlops_platform.orchestration.instance import open_instance, process_tags
from mlops_platform.orchestration.jobs import INFERENCE, scheduled_key
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.orchestration.task_commands import COMMAND_JOB, CommandCall, data_ready, platform_command
from mlops_platform.orchestration.task_runs import TaskCall, run_task
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.integration.commands import mlops

AT = datetime(2024, 3, 1, 6, tzinfo=UTC)
KEY = "2024-03-01-00:00"
CALL = TaskCall(INFERENCE, "generate_predictions", "run-1", 1, AT)


class World:
    """Definitions whose one asset counts how often it was made, and fails when it is told to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.made: list[str] = []
        self.fails: list[Exception] = []

    def build(self, settings: Settings) -> dg.Definitions:
        @dg.asset(key=["ml", "predictions"], partitions_def=Partitions(settings).ticks)
        def predictions(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            if self.fails:
                raise self.fails.pop()
            self.made.append(context.partition_key)
            facts = {
                "snapshot_id": "9007199254740993",
                "rows": 3,
                "roc_auc": 0.5,
                "picture": dg.MetadataValue.md("x" * 999),
            }
            return dg.MaterializeResult(metadata=facts)

        job = dg.define_asset_job(INFERENCE, selection=[predictions], executor_def=dg.in_process_executor)
        return dg.Definitions(assets=[predictions], jobs=[job, platform_command], resources={"lake": Lake(settings)})

    def run(self, call: TaskCall = CALL, **more: Any) -> Any:
        arguments: dict[str, Any] = {"assets": ["ml/predictions"], "say": lambda line: None, **more}
        return run_task(self.settings, self.build, call, **arguments)


@pytest.fixture
def world(home: Settings) -> World:
    return World(home.model_copy(update={"history_start": date(2024, 1, 1)}))


@pytest.fixture
def instance(world: World) -> Iterator[dg.DagsterInstance]:
    with open_instance(world.settings) as found:
        yield found


def test_a_task_is_a_run_that_names_it(world: World, instance: dg.DagsterInstance) -> None:
    done = world.run()
    assert world.made == [KEY]
    assert done.partition == KEY
    (made,) = done.found.values()
    assert (made["snapshot_id"], made["rows"]) == ("9007199254740993", 3)
    assert not {"roc_auc", "picture"} & set(made)
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    assert {name.partition("/")[2]: v for name, v in run.tags.items() if name.startswith("airflow/")} == {
        "dag_id": INFERENCE,
        "run_id": "run-1",
        "task_id": "generate_predictions",
        "try_number": "1",
    }
    assert run.tags["dagster/max_retries"] == "0"


def test_the_next_try_takes_what_was_done(world: World) -> None:
    first = world.run()
    said: list[str] = []
    again = world.run(TaskCall(INFERENCE, "generate_predictions", "run-1", 2, AT), say=said.append)
    assert again == first
    assert world.made == [KEY]
    assert any(first.run_id in line for line in said)


@pytest.mark.parametrize(
    "other",
    [
        TaskCall(INFERENCE, "generate_predictions", "run-2", 1, AT),
        TaskCall(INFERENCE, "another_task", "run-1", 1, AT),
    ],
)
def test_another_task_or_run_is_done_anew(world: World, other: TaskCall) -> None:
    first = world.run()
    assert world.run(other).run_id != first.run_id
    assert world.made == [KEY, KEY]


def test_what_failed_is_done_again(world: World) -> None:
    world.fails = [StorageError("the disk is full")]
    with pytest.raises(StorageError, match="disk is full"):
        world.run()
    assert world.run().found
    assert world.made == [KEY]


def started(world: World, instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    """A run of the task that has started and not ended."""
    job = world.build(world.settings).resolve_job_def(INFERENCE)
    return instance.create_run_for_job(
        job, tags={**CALL.identity, **process_tags(), **tags}, status=dg.DagsterRunStatus.STARTED
    )


def test_what_was_killed_is_done_again(world: World, instance: dg.DagsterInstance) -> None:
    killed = started(world, instance, **{"mlops/process_started": "1.00"})
    assert world.run().run_id != killed.run_id
    gone = instance.get_run_by_id(killed.run_id)
    assert gone is not None
    assert gone.status is dg.DagsterRunStatus.FAILURE
    assert world.made == [KEY]


def test_what_still_runs_is_waited_for(world: World, instance: dg.DagsterInstance) -> None:
    living = started(world, instance)

    def finish() -> None:
        # Not before the other is seen to wait.
        while not said:
            time.sleep(0.01)
        with open_instance(world.settings) as own:
            own.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", INFERENCE), living.run_id)

    said: list[str] = []
    thread = threading.Thread(target=finish)
    thread.start()
    done = world.run(say=said.append)
    thread.join()
    assert done.run_id == living.run_id
    assert world.made == []


def schedule_state(instance: dg.DagsterInstance, name: str) -> None:
    """Notes in the instance that a schedule was started in the UI."""
    from dagster._core.remote_origin import (
        InProcessCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        InstigatorType,
        ScheduleInstigatorData,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="mlops_platform.definitions"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    data = ScheduleInstigatorData("0 */6 * * *", start_timestamp=0.0)
    instance.add_instigator_state(InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, data))


def statuses(instance: dg.DagsterInstance) -> dict[str, str]:
    return {state.instigator_name: state.status.value for state in instance.all_instigator_state()}


def test_a_running_schedule_of_the_job_is_in_the_way(world: World, instance: dg.DagsterInstance) -> None:
    schedule_state(instance, f"{INFERENCE}_schedule")
    with pytest.raises(InputError, match=r"would run twice.*MLOPS_ORCHESTRATOR=airflow"):
        world.run()
    assert world.made == []
    assert statuses(instance) == {f"{INFERENCE}_schedule": "RUNNING"}


def test_airflow_as_the_orchestrator_stops_it(world: World, instance: dg.DagsterInstance) -> None:
    schedule_state(instance, f"{INFERENCE}_schedule")
    schedule_state(instance, "ingest_and_features_schedule")
    world.settings = world.settings.model_copy(update={"orchestrator": "airflow"})
    world.run()
    assert world.made == [KEY]
    assert statuses(instance) == {f"{INFERENCE}_schedule": "STOPPED", "ingest_and_features_schedule": "RUNNING"}


def test_another_jobs_schedule_is_not(world: World, instance: dg.DagsterInstance) -> None:
    schedule_state(instance, "ingest_and_features_schedule")
    world.run()
    assert world.made == [KEY]


class TestCommands:
    def call(self, world: World, instance: dg.DagsterInstance) -> CommandCall:
        return CommandCall(instance, Lake(world.settings), "2024-02-29", {})

    def ingested(self, instance: dg.DagsterInstance) -> None:
        instance.report_runless_asset_event(dg.AssetMaterialization(["silver", "transactions"]))

    def test_data_is_ready_once_the_day_was_ingested(self, world: World, instance: dg.DagsterInstance) -> None:
        assert data_ready(self.call(world, instance))["why"].startswith("nothing was ingested yet")
        self.ingested(instance)
        assert data_ready(self.call(world, instance))["ready"]

    def test_a_day_that_is_not_over_is_not_ready(self, world: World, instance: dg.DagsterInstance) -> None:
        self.ingested(instance)
        later = CommandCall(instance, Lake(world.settings), "2999-12-31", {})
        assert data_ready(later) == {"ready": False, "why": "nothing was ingested since 2999-12-31 was over"}

    def test_an_empty_ingestion_is_not_ready(self, world: World, instance: dg.DagsterInstance) -> None:
        self.ingested(instance)
        check = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(["silver", "transactions"]), check_name="data_ready", passed=False, metadata={}
        )
        instance.report_runless_asset_event(check)
        assert data_ready(self.call(world, instance)) == {
            "ready": False,
            "why": "the last ingestion found no transactions",
        }

    def test_what_was_not_made_by_this_run_is_missed(self, world: World, instance: dg.DagsterInstance) -> None:
        world.run()
        key = dg.AssetKey(["ml", "predictions"])
        ours, other = CALL.identity, {**CALL.identity, "airflow/run_id": "run-2"}
        assert CommandCall(instance, Lake(world.settings), KEY, ours).made(key)["rows"] == 3
        with pytest.raises(StorageError, match="ml/predictions was not materialized by this run"):
            CommandCall(instance, Lake(world.settings), KEY, other).made(key)

    def test_a_sensors_command_is_asked_anew(self, world: World) -> None:
        call = TaskCall("ml_training_pipeline", "wait_for_data", "run-1", 1, AT)
        found = [world.run(call, assets=(), command="data_ready", is_repeated=True) for _ in range(2)]
        assert found[0].run_id != found[1].run_id
        assert found[0].found["ready"] is False

    def test_an_unknown_command_is_refused(self, world: World) -> None:
        with pytest.raises(InputError, match="no command 'nonsense'"):
            world.run(assets=(), command="nonsense")


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("no_dag", "x", "--at", AT.isoformat()), ["no DAG 'no_dag'"]),
            ((INFERENCE, "x", "--at", AT.isoformat()), ["no task 'x'", "generate_predictions"]),
            ((INFERENCE, "check_drift_status", "--at", AT.isoformat()), ["no task 'check_drift_status'"]),
            ((INFERENCE, "generate_predictions", "--at", "yesterday"), ["--at 'yesterday' is no instant"]),
            ((INFERENCE, "generate_predictions", "--at", "2024-03-01T06:00:00"), ["has no offset"]),
        ],
    )
    def test_mistakes_are_told(self, arguments: tuple[str, ...], words: list[str], tmp_path: Path) -> None:
        done = mlops("airflow", "exec", *arguments, "--dag-run", "r", "--home", tmp_path / "home")
        assert done.is_refusal(*words)

    def test_data_that_is_not_there_has_its_own_code(self, tmp_path: Path) -> None:
        options = ("--dag-run", "r", "--at", AT.isoformat(), "--home", tmp_path / "home")
        done = mlops("airflow", "exec", "ml_training_pipeline", "wait_for_data", *options)
        assert done.code == 3
        assert '"ready": false' in done.out.splitlines()[-1]
        assert "http://127.0.0.1:3001/runs/" in done.err


def test_the_job_of_the_commands_is_part_of_the_platform(tmp_path: Path) -> None:
    from mlops_platform.definitions import build_definitions

    settings = load_settings(home=tmp_path / "none")
    assert build_definitions(settings).resolve_job_def(COMMAND_JOB).name == COMMAND_JOB
    assert scheduled_key(Partitions(settings), INFERENCE, AT) == KEY
