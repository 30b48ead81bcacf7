"""A DAG that a running scheduler runs: triggered by hand, so without a logical date, and with a task tried twice.

Does not belong here: DAGs run by `airflow dags test`.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform_tests.airflow.airflows import MLOPS, Airflow, Run, eventually
from mlops_platform_tests.airflow.conftest import made
from mlops_platform_tests.airflow.homes import UNTIL, Prepared

INFERENCE = "ml_batch_inference_pipeline"
EVALUATED = UNTIL - timedelta(days=90)

# Runs the platform; a first try of these two tasks ends badly all the same, one after its work was done and one before.
UNLUCKY = """#!/bin/sh
case "$4 $*" in
    *"generate_predictions "*"--try 1 "*) "{mlops}" "$@"; exit 1;;
    *"load_production_model "*"--try 1 "*) "{mlops}" "$@" & sleep 2; kill -9 $!; exit 1;;
esac
exec "{mlops}" "$@"
"""


@pytest.fixture(scope="module")
def airflow(migrated: Path, small: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    folder = tmp_path_factory.mktemp("scheduler")
    unlucky = folder / "mlops"
    unlucky.write_text(UNLUCKY.format(mlops=MLOPS))
    unlucky.chmod(0o700)
    found = made(migrated, folder)
    found.variables["MLOPS_BIN"] = str(unlucky)
    found.variables["MLOPS_HOME"] = str(small.settings.home)
    # The data ends long before now, which a triggered run stands for. No other test scores this day's customers.
    found.variables["MLOPS_AS_OF"] = EVALUATED.isoformat()
    return found


@pytest.fixture(scope="module")
def triggered(airflow: Airflow) -> Run:
    with airflow.serving():
        eventually(lambda: airflow.rows("SELECT dag_id FROM dag WHERE dag_id = ?", INFERENCE))
        airflow.run("dags", "unpause", INFERENCE, "--yes")
        airflow.run("dags", "trigger", INFERENCE, "--run-id", "by-hand")
        (run,) = eventually(lambda: [r for r in airflow.runs(INFERENCE) if r["state"] in {"success", "failed"}])
    return Run(airflow, INFERENCE, "by-hand", run["state"])


def test_a_triggered_run_ends_well(triggered: Run) -> None:
    logs = sorted((triggered.airflow.home / "logs").rglob("*.log"))
    assert triggered.state == "success", "\n".join(log.read_text()[-2_000:] for log in logs)
    states = triggered.states
    assert {states.pop("handle_drift"), states.pop("complete_pipeline")} == {"success", "skipped"}
    assert (len(states), set(states.values())) == (6, {"success"})


def test_what_was_done_is_found_by_the_next_try(triggered: Run, small: Prepared) -> None:
    assert triggered.state == "success"
    (run,) = small.task_runs(INFERENCE, "by-hand")["generate_predictions"]
    assert (run.status, run.tags["airflow/try_number"]) == (dg.DagsterRunStatus.SUCCESS, "1")
    assert run.tags["dagster/partition"] == "2025-01-01-00:00"
    table = small.lake.snapshot(small.lake.contracts["ml.predictions"]).table
    assert table is not None
    writers = [s.summary.additional_properties.get("mlops.run-id") for s in table.snapshots() if s.summary is not None]
    assert writers.count(run.run_id) == 1


def test_what_was_killed_is_done_by_the_next_try(triggered: Run, small: Prepared) -> None:
    assert triggered.state == "success"
    runs = small.task_runs(INFERENCE, "by-hand")["load_production_model"]
    assert runs[0].status is dg.DagsterRunStatus.SUCCESS
    assert runs[0].tags["airflow/try_number"] == "2"
    assert {run.status for run in runs[1:]} <= {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.NOT_STARTED}
