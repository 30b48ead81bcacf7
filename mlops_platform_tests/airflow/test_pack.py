"""Every variant of the pack as Airflow reads it: no import error, and the tasks, edges and rules that are documented.

Does not belong here: running the DAGs, the text of the files (`unit/airflow_pack/`).
"""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.definitions import build_definitions
from mlops_platform.settings import load_settings
from mlops_platform_tests.airflow.airflows import MLOPS, ROOT, Airflow
from mlops_platform_tests.airflow.conftest import made
from mlops_platform_tests.definitions.test_schedules import key_at

TRAINING, INFERENCE = "ml_training_pipeline", "ml_batch_inference_pipeline"
VARIANTS = [("bash", "cli"), ("bash", "s3"), ("graphql", "cli"), ("graphql", "s3")]
CHAINS = {
    TRAINING: "wait_for_data extract_features prepare_training_data train_model evaluate_model promote_model "
    "send_notification",
    INFERENCE: "load_inference_data load_production_model generate_predictions save_to_iceberg monitor_predictions "
    "check_drift_status",
}

READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dags = {
    dag.dag_id: {
        "cron": dag.timetable.expression,
        "timezone": str(dag.timetable.timezone),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tags": sorted(dag.tags),
        "tasks": {
            task.task_id: {
                "down": sorted(task.downstream_task_ids),
                "rule": str(task.trigger_rule.value),
                "retries": task.retries,
                "owner": task.owner,
                "doc": task.doc_md or "",
            }
            for task in dag.tasks
        },
    }
    for dag in bag.dags.values()
}
print(json.dumps({"errors": bag.import_errors, "dags": dags}))
"""


@pytest.fixture(params=VARIANTS, ids="-".join)
def variant(request: pytest.FixtureRequest, migrated: Path, tmp_path: Path) -> Airflow:
    runner, sensor = request.param
    return made(migrated, tmp_path, runner=runner, sensor=sensor)


def test_airflow_reads_what_is_documented(variant: Airflow) -> None:
    read = variant.python(READ, str(variant.dags))
    assert read["errors"] == {}
    dags: dict[str, Any] = read["dags"]
    assert {name: dag["cron"] for name, dag in dags.items()} == {TRAINING: "0 2 * * *", INFERENCE: "0 */6 * * *"}
    for name, dag in dags.items():
        assert (dag["timezone"], dag["catchup"], dag["max_active_runs"]) == ("UTC", False, 1)
        assert dag["tags"]
        tasks, chain = dag["tasks"], CHAINS[name].split()
        ends = {"handle_drift", "complete_pipeline"} if name == INFERENCE else set()
        assert set(tasks) == {*chain, *ends}
        for task, after in pairwise(chain):
            assert tasks[task]["down"] == [after]
        assert tasks[chain[-1]]["down"] == sorted(ends)
        assert {task["owner"] for task in tasks.values()} <= {"data-science", "data-platform"}
        assert {task["retries"] for task in tasks.values()} == {2}
        rules = {task: found["rule"] for task, found in tasks.items() if found["rule"] != "all_success"}
        assert rules == ({"send_notification": "none_failed"} if name == TRAINING else {})
    assert "ml/churn_model" in dags[TRAINING]["tasks"]["train_model"]["doc"]


def test_the_committed_pack_has_no_import_error(migrated: Path) -> None:
    airflow = Airflow(migrated, ROOT / "deploy/airflow/dags")
    assert airflow.listed("dags", "list-import-errors", "--local") == []
    assert airflow.python(READ, str(airflow.dags))["errors"] == {}


@pytest.mark.parametrize("sensor", ["cli", "s3"])
def test_the_same_bytes_whatever_the_process(tmp_path: Path, sensor: str) -> None:
    found = []
    for number in ("0", "1"):
        folder = tmp_path / number
        folder.mkdir()
        command = [str(MLOPS), "airflow", "generate", "--out", "dags", "--home", str(folder / "home")]
        subprocess.run(
            [*command, "--sensor", sensor, "--runner", "graphql" if sensor == "s3" else "bash"],
            cwd=folder,
            env=os.environ | {"PYTHONHASHSEED": number},
            check=True,
            capture_output=True,
            timeout=900,
        )
        found.append({path.name: path.read_bytes() for path in (folder / "dags").iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {f"{TRAINING}.py", f"{INFERENCE}.py"}


def test_the_schedules_keys_in_airflows_python(migrated: Path, tmp_path: Path) -> None:
    airflow = made(migrated, tmp_path, runner="graphql")
    definitions = build_definitions(load_settings(home=tmp_path / "none"))
    instants = [
        datetime(2024, 2, 28, 0, 0, tzinfo=UTC).replace(day=d, hour=h) for d in (28, 29) for h in range(0, 24, 3)
    ]
    code = (
        "import json, runpy, sys; from datetime import datetime; dag = runpy.run_path(sys.argv[1]);"
        "print(json.dumps([dag['partition_at'](datetime.fromisoformat(at)) for at in sys.argv[2:]]))"
    )
    for job in (TRAINING, INFERENCE):
        keys = airflow.python(code, str(airflow.dags / f"{job}.py"), *(at.isoformat() for at in instants))
        assert keys == [key_at(definitions, job, at) for at in instants]
