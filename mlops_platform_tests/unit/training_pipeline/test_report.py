"""The report of an evaluation: the files in the model's run hold the evaluation's own figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.contracts import SILVER_CUSTOMERS
from mlops_platform.training_pipeline.held_out import Evaluation, evaluate_held_out
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.report import REPORT_PATH, report_evaluation
from mlops_platform.training_pipeline.train import TrainedModel, train
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

PLOTS = {"calibration", "confusion_matrix", "cumulative_gain", "feature_effects", "precision_recall", "roc"}
SMALL = {"n_estimators": 9, "min_child_weight": 1}


@pytest.fixture(scope="module")
def trained(shop: Shop, mlflow: MLflowManager) -> TrainedModel:
    return train(shop.settings, mlflow, shop.training, hyperparameters=SMALL)


@pytest.fixture(scope="module")
def evaluation(shop: Shop, mlflow: MLflowManager, trained: TrainedModel) -> Evaluation:
    return evaluate_held_out(shop.settings, mlflow, shop.training, trained)


@pytest.fixture(scope="module")
def files(shop: Shop, mlflow: MLflowManager, trained: TrainedModel, evaluation: Evaluation) -> Path:
    drawn = report_evaluation(shop.lake, mlflow, shop.training, trained, evaluation)
    assert drawn.keys() >= PLOTS
    folder = Path(mlflow.client.download_artifacts(trained.run_id, REPORT_PATH))
    assert {name: (folder / f"{name}.png").read_bytes() for name in drawn} == drawn
    return folder


def test_the_card_says_what_was_measured_on_what(
    files: Path, shop: Shop, trained: TrainedModel, evaluation: Evaluation
) -> None:
    card = (files / "model_card.md").read_text()
    figures = evaluation.results()
    for name in ("roc_auc", "brier", "roc_auc_recency_only", "roc_auc_churn_score", "ece"):
        assert f"{figures[name]:.4f}" in card
    for fact in (trained.identity, trained.run_id, str(trained.training_snapshot_id), str(shop.as_of), "2024-04-01"):
        assert fact in card
    assert "n_estimators" in card
    assert "mlops models rollback" in card
    assert all(column.name in card for column in shop.lake.features.columns)


def test_the_page_holds_its_pictures(files: Path) -> None:
    page = (files / "model_card.html").read_text()
    assert page.count("data:image/png;base64,") >= len(PLOTS)
    assert "<script" not in page


def test_the_run_names_the_rows_it_was_trained_and_tested_on(
    shop: Shop, mlflow: MLflowManager, trained: TrainedModel, evaluation: Evaluation
) -> None:
    inputs = mlflow.client.get_run(trained.run_id).inputs
    assert inputs is not None
    found = {tag.value for entry in inputs.dataset_inputs for tag in entry.tags}
    assert found == {"training", "validation", "test"}
    assert all(str(shop.training.snapshot_id) in entry.dataset.source for entry in inputs.dataset_inputs)


def test_intervals_stand_around_the_figures(evaluation: Evaluation, mlflow: MLflowManager) -> None:
    logged = mlflow.client.get_run(evaluation.run_id).data.metrics
    for name in ("roc_auc", "pr_auc", "brier", "log_loss"):
        assert logged[f"test_{name}_lower"] < logged[f"test_{name}"] < logged[f"test_{name}_upper"]
    assert logged["test_ece"] == evaluation.calibration_error


def test_a_shop_without_customers_has_no_countries(shop: Shop, files: Path) -> None:
    assert shop.lake.snapshot(SILVER_CUSTOMERS).count() == 0
    assert "| country |" not in (files / "model_card.md").read_text()
