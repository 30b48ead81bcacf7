"""The DAGs on the graphql runner: a real Dagster webserver does the work, Airflow waits for it.

Does not belong here: the bash runner, which both DAGs run on whole (`test_bash_runner.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.contracts import PREDICTIONS
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.orchestration.processes import WORKSPACE
from mlops_platform.settings import child_environment
from mlops_platform.storage.locks import table_lock
from mlops_platform_tests.airflow.airflows import DAGSTER, Airflow, background, eventually, listens
from mlops_platform_tests.airflow.conftest import made
from mlops_platform_tests.airflow.homes import MORNING, NIGHT, Prepared
from mlops_platform_tests.ports import free_port
from mlops_platform_tests.scale import IS_FULL

TRAINING, INFERENCE = "ml_training_pipeline", "ml_batch_inference_pipeline"

# Two tries of one task, and another that is killed once its run has started, in Airflow's Python.
TRIES = """
import json, runpy, sys, threading, time, types
from datetime import datetime
dag = runpy.run_path(sys.argv[1])
at = datetime.fromisoformat(sys.argv[2])
ids = {"dag_id": "ml_batch_inference_pipeline", "run_id": "by-script"}
dag_run = types.SimpleNamespace(**ids, logical_date=None, run_after=at)
context = [{"dag_run": dag_run, "ti": types.SimpleNamespace(try_number=number)} for number in (1, 2)]
model = dag["DagsterRun"](task_id="load_production_model", assets=["ml/serving_model"])
found = {"first": model.execute(context[0]), "again": model.execute(context[1])}
scoring = dag["DagsterRun"](task_id="generate_predictions", assets=["ml/predictions"])
def run():
    try:
        scoring.execute(context[0])
    except Exception as error:
        found["killed"] = str(error)
thread = threading.Thread(target=run)
thread.start()
while scoring.run_id is None or dag["ask"](dag["LOOK"], runId=scoring.run_id)["status"] != "STARTED":
    time.sleep(0.1)
scoring.on_kill()
thread.join()
print(json.dumps(found))
"""

# What launching says while Dagster's schedule is on.
SCHEDULED = """
import json, runpy, sys
dag = runpy.run_path(sys.argv[1])
start = "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }"
stop = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
find = "query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { ... on Schedule { id } } }"
selector = {**dag["LOCATION"], "scheduleName": sys.argv[3]}
dag["ask"](start, s=selector)
try:
    dag["launch"](sys.argv[2], {}, ["ml/serving_model"], None, "2025-04-01-00:00")
except Exception as error:
    said = str(error)
dag["ask"](stop, id=dag["ask"](find, s=selector)["id"])
print(json.dumps(said))
"""


@dataclass(frozen=True)
class Site:
    """An Airflow with the graphql pack, and the home behind the webserver it asks."""

    airflow: Airflow
    prepared: Prepared


@pytest.fixture(scope="module")
def site(migrated: Path, small: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("graphql")
    workspace, port = folder / "workspace.yaml", free_port()
    workspace.write_text(WORKSPACE, encoding="utf-8")
    command = [str(DAGSTER), "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
    airflow = made(migrated, folder, runner="graphql")
    airflow.variables["MLOPS_DAGSTER_URL"] = f"http://127.0.0.1:{port}"
    with background(command, child_environment(small.settings), folder):
        eventually(lambda: listens(port))
        yield Site(airflow, small)


def test_inference_runs_on_dagster(site: Site) -> None:
    run = site.airflow.test(INFERENCE, MORNING)
    assert run.state == "success", run.log[-8_000:]
    states = run.states
    assert states.pop("complete_pipeline") == "skipped"
    assert (len(states), set(states.values())) == (7, {"success"})
    runs = site.prepared.task_runs(INFERENCE, run.run_id)
    # The branch alone is Airflow's own.
    assert set(runs) == set(states) - {"check_drift_status"}
    for (found,) in runs.values():
        assert found.status is dg.DagsterRunStatus.SUCCESS
        assert f"/runs/{found.run_id}" in run.log
    (scored,) = runs["generate_predictions"]
    assert scored.tags["dagster/partition"] == "2025-04-01-00:00"
    assert site.prepared.lake.snapshot(site.prepared.lake.contracts["ml.predictions"]).count() > 100


def test_the_next_try_finds_what_was_done_and_a_kill_ends_the_run(site: Site) -> None:
    # While another writer has the table, the run can't end before it is killed.
    with table_lock(site.prepared.settings, PREDICTIONS.name):
        found = site.airflow.python(TRIES, str(site.airflow.dags / f"{INFERENCE}.py"), MORNING.isoformat())
    assert found["again"] == found["first"]
    assert found["first"]["ml/serving_model"]["version"] == "1"
    assert "CANCELED" in found["killed"]
    runs = site.prepared.task_runs(INFERENCE, "by-script")
    assert [run.status for run in runs["load_production_model"]] == [dg.DagsterRunStatus.SUCCESS]
    assert [run.status for run in runs["generate_predictions"]] == [dg.DagsterRunStatus.CANCELED]


def test_a_schedule_that_is_running_is_in_the_way(site: Site) -> None:
    schedule = f"{INFERENCE}_schedule"
    assert "MLOPS_ORCHESTRATOR=airflow" in site.airflow.python(
        SCHEDULED, str(site.airflow.dags / f"{INFERENCE}.py"), INFERENCE, schedule
    )
    with open_instance(site.prepared.settings) as instance:
        (state,) = [state for state in instance.all_instigator_state() if state.instigator_name == schedule]
    assert state.status.value == "STOPPED"


@pytest.mark.skipif(not IS_FULL, reason="FULL_PROOFS=1 runs it")
def test_training_runs_on_dagster(site: Site) -> None:
    run = site.airflow.test(TRAINING, NIGHT)
    assert run.state == "success", run.log[-8_000:]
    states = run.states
    decision = site.prepared.made("ml/production_model")["decision"]
    assert states.pop("promote_model") == {"refused": "skipped", "promoted": "success"}[decision]
    assert set(states.values()) == {"success"}
