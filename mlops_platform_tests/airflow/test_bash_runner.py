"""Both DAGs whole on the bash runner: a real home, real Airflow, every task of them.

Does not belong here: a model that is refused (`test_refusal.py`), retries and the scheduler (`test_scheduler.py`).
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform_tests.airflow.airflows import Airflow, Run
from mlops_platform_tests.airflow.homes import MORNING, NIGHT, UNTIL, Prepared, prepare

TRAINING, INFERENCE = "ml_training_pipeline", "ml_batch_inference_pipeline"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("shop"), customers=1_200, days=900, generator=11)


@pytest.fixture(scope="module")
def at_home(airflow: Airflow, prepared: Prepared) -> Airflow:
    airflow.variables["MLOPS_HOME"] = str(prepared.settings.home)
    return airflow


@pytest.fixture(scope="module")
def trained(at_home: Airflow) -> Run:
    return at_home.test(TRAINING, NIGHT)


@pytest.fixture(scope="module")
def scored(at_home: Airflow, trained: Run) -> Run:
    assert trained.state == "success", trained.log[-8_000:]
    return at_home.test(INFERENCE, MORNING)


def test_training_runs_to_its_end(trained: Run, prepared: Prepared) -> None:
    assert trained.state == "success", trained.log[-8_000:]
    assert set(trained.states.values()) == {"success"}
    made = prepared.made("ml/production_model")
    assert (made["decision"], made["stage"]) == ("promoted", "Production")
    assert MLflowManager(prepared.settings).production(prepared.settings.model_name).version == made["version"]
    assert f"version {made['version']} is in Production: {made['reason']}" in trained.log


def test_each_task_is_a_dagster_run_that_names_it(trained: Run, prepared: Prepared) -> None:
    runs = prepared.task_runs(TRAINING, trained.run_id)
    assert set(runs) == set(trained.states)
    for task, (run,) in runs.items():
        assert run.tags["airflow/try_number"] == "1"
        assert f"{prepared.settings.dagster_url}/runs/{run.run_id}" in trained.log
        partition = run.tags.get("dagster/partition", UNTIL.isoformat())
        assert partition == UNTIL.isoformat(), task


def test_inference_with_drift_takes_that_branch(scored: Run, prepared: Prepared) -> None:
    assert scored.state == "success", scored.log[-8_000:]
    states = scored.states
    assert prepared.made("monitoring/drift_report")["status"] == "drift"
    assert states.pop("complete_pipeline") == "skipped"
    assert set(states.values()) == {"success"}
    assert len(states) == 7
    rows = prepared.lake.snapshot(prepared.lake.contracts["ml.predictions"]).count()
    assert rows == prepared.made("ml/predictions")["dagster/partition_row_count"] > 500


def test_inference_without_drift_takes_the_other(at_home: Airflow, scored: Run, prepared: Prepared) -> None:
    # In the middle of the days that the model was trained on.
    run = at_home.test(INFERENCE, MORNING - timedelta(days=330))
    assert run.state == "success", run.log[-8_000:]
    states = run.states
    assert prepared.made("monitoring/drift_report")["status"] == "ok"
    assert states.pop("handle_drift") == "skipped"
    assert set(states.values()) == {"success"}
    assert states.keys() == scored.states.keys() - {"handle_drift"}
