"""Training whole on the bash runner where the gate refuses the model.

A file of its own, so that it runs beside the others. Does not belong here: DAGs that end as wished
(`test_bash_runner.py`).
"""

from __future__ import annotations

from pathlib import Path

from mlops_platform_tests.airflow.conftest import made
from mlops_platform_tests.airflow.homes import NIGHT, prepare

TRAINING = "ml_training_pipeline"


def test_a_refused_model_is_no_failure(migrated: Path, tmp_path: Path) -> None:
    airflow = made(migrated, tmp_path)
    small = prepare(tmp_path, customers=400, days=245, generator=11)
    airflow.variables["MLOPS_HOME"] = str(small.settings.home)
    run = airflow.test(TRAINING, NIGHT)
    assert run.state == "success", run.log[-8_000:]
    states = run.states
    assert (states.pop("promote_model"), set(states.values())) == ("skipped", {"success"})
    decision = small.made("ml/production_model")
    assert f"version {decision['version']} was not promoted: {decision['reason']}" in run.log
