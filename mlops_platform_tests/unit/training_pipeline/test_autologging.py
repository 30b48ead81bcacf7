"""MLflow's autologging of the documented `train_model`: in the run, and nowhere else."""

from __future__ import annotations

import os

import mlflow as tracking
import pytest
from sklearn.linear_model import LogisticRegression

from mlops_platform.training_pipeline.autologging import autologged
from mlops_platform.training_pipeline.registry import MLflowManager

ROWS, LABELS = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]


@pytest.mark.parametrize("known", [None, "sqlite:///elsewhere.db"])
def test_a_fit_is_logged_and_the_process_is_as_before(
    mlflow: MLflowManager, monkeypatch: pytest.MonkeyPatch, known: str | None
) -> None:
    if known is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", known)
    before = (os.environ.get("MLFLOW_TRACKING_URI"), tracking.get_tracking_uri())
    with mlflow.run("autologging", "one", {}) as run_id, autologged(mlflow, run_id):
        LogisticRegression(C=0.5).fit(ROWS, LABELS)
    assert (os.environ.get("MLFLOW_TRACKING_URI"), tracking.get_tracking_uri()) == before
    run = mlflow.client.get_run(run_id)
    assert (run.info.status, run.data.params["C"]) == ("FINISHED", "0.5")
    assert run.data.metrics["training_score"] == 1.0
    LogisticRegression(C=0.25).fit(ROWS, LABELS)
    assert tracking.active_run() is None
    assert mlflow.client.get_run(run_id).data.params["C"] == "0.5"


def test_a_failed_fit_leaves_the_process_as_before(mlflow: MLflowManager) -> None:
    before = os.environ.get("MLFLOW_TRACKING_URI")
    with pytest.raises(ZeroDivisionError), mlflow.run("autologging", "two", {}) as run_id, autologged(mlflow, run_id):
        raise ZeroDivisionError
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    assert mlflow.client.get_run(run_id).info.status == "FAILED"
