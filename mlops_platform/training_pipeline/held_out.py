"""Held-out evaluation: a trained model on the test rows, beside its baselines and the champion.

Does not belong here: metrics of scores (`evaluation.py`), deciding what follows (`promotion.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.ml import TARGET
from mlops_platform.storage.conditions import Condition
from mlops_platform.training_pipeline.dataset import data_digest
from mlops_platform.training_pipeline.dataset_input import log_dataset
from mlops_platform.training_pipeline.evaluation import AucDifference, Metrics, auc_difference, evaluate, interval_rows
from mlops_platform.training_pipeline.intervals import bootstrap_intervals, ece
from mlops_platform.training_pipeline.registry import PRODUCTION

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.train import TrainedModel

    Floats = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out quality of a model beside its baselines and the champion.

    Args:
        run_id: MLflow run of the model.
        evaluation_date: feature_date of the held-out rows.
        rows: Held-out rows.
        rows_digest: Digest of the training set they belong to.
        metrics: The model's metrics.
        recency: Difference to days_since_last_transaction alone.
        churn_score: Difference to churn_score alone.
        intervals: 95 % intervals of the metrics, by `{metric}_lower` and `{metric}_upper`.
        calibration_error: Expected calibration error in 10 bins.
        champion_version: Production version at the time.
        champion: Difference to it; None where it can't be had, since it needs a feature that is no longer declared.
    """

    run_id: str
    evaluation_date: date
    rows: int
    rows_digest: str
    metrics: Metrics
    recency: AucDifference
    churn_score: AucDifference
    intervals: dict[str, float]
    calibration_error: float
    champion_version: str | None = None
    champion: AucDifference | None = None

    def results(self) -> dict[str, float]:
        """Every figure by its name."""
        found = self.metrics.as_dict() | self.intervals | {"ece": self.calibration_error, "rows": float(self.rows)}
        found |= lift("recency_only", self.recency) | lift("churn_score", self.churn_score)
        return found if self.champion is None else found | lift("champion", self.champion)

    def figures(self) -> dict[str, float]:
        """Every figure by its name in MLflow."""
        return {f"test_{name}": value for name, value in self.results().items()}


def lift(baseline: str, difference: AucDifference) -> dict[str, float]:
    """ROC-AUC of a baseline, and how far the model is ahead of it, by name."""
    return {
        f"roc_auc_{baseline}": difference.theirs,
        f"lift_over_{baseline}": difference.difference,
        f"lift_over_{baseline}_lower": difference.lower,
        f"lift_over_{baseline}_upper": difference.upper,
    }


def evaluate_held_out(
    settings: Settings,
    manager: MLflowManager,
    training: TableSnapshot,
    trained: TrainedModel,
    *,
    with_intervals: bool = True,
) -> Evaluation:
    """Scores the test rows with the model, its baselines and the champion; logs the figures to the model's run."""
    rows = test_rows(training)
    labels = rows.column(TARGET).to_numpy()
    scores = _scores(manager, trained.run_id, rows)
    sample = interval_rows(len(labels))

    def against(theirs: Any) -> AucDifference:
        return auc_difference(labels[sample], scores[sample], theirs[sample])

    champion = manager.in_stage(settings.model_name, PRODUCTION)
    rival = champion if champion is not None and champion.run_id != trained.run_id else None
    theirs = _rival_scores(manager, rival.run_id, rows) if rival is not None else None
    found = Evaluation(
        run_id=trained.run_id,
        evaluation_date=rows.column("feature_date")[0].as_py(),
        rows=rows.num_rows,
        rows_digest=_digest(settings, training, trained),
        metrics=evaluate(labels, scores, trained.threshold),
        recency=against(rows.column("days_since_last_transaction").to_numpy()),
        churn_score=against(rows.column("churn_score").to_numpy()),
        intervals=bootstrap_intervals(labels, scores, trained.threshold) if with_intervals else {},
        calibration_error=ece(labels, scores),
        champion_version=champion.version if champion is not None else None,
        champion=against(theirs) if theirs is not None else None,
    )
    manager.log_metrics(trained.run_id, found.figures())
    log_dataset(manager, trained.run_id, training, digest=found.rows_digest, rows=rows.num_rows, context="test")
    return found


def held_out_results(
    labels: Floats, probabilities: Floats, threshold: float, recency: Floats | None
) -> dict[str, float]:
    """Figures of rows of any origin that no model was fitted on.

    Args:
        labels: 0 or 1, shape (n,), both present.
        probabilities: Probability of 1, shape (n,).
        threshold: A row is predicted 1 at or above it.
        recency: Days since the last purchase, shape (n,); None: not known.
    """
    sample = interval_rows(len(labels))
    found = evaluate(labels, probabilities, threshold).as_dict()
    found |= bootstrap_intervals(labels, probabilities, threshold) | {"ece": ece(labels, probabilities)}
    if recency is None:
        return found
    return found | lift("recency_only", auc_difference(labels[sample], probabilities[sample], recency[sample]))


def test_rows(training: TableSnapshot) -> pa.Table:
    """The rows held out, in the order that equal rows always have."""
    return training.to_arrow(where=[Condition("split", "=", "test")], order_by=("feature_date", "customer_id"))


def _digest(settings: Settings, training: TableSnapshot, trained: TrainedModel) -> str:
    if training.snapshot_id == trained.training_snapshot_id:
        return trained.data_digest  # It reads every cell, and training has it.
    return data_digest(settings, training)


def _scores(manager: MLflowManager, run_id: str, rows: pa.Table) -> Any:
    return manager.load_model(run_id).predict_proba(rows)[:, 1]


def _rival_scores(manager: MLflowManager, run_id: str, rows: pa.Table) -> Any | None:
    """The champion's scores; None where it needs a feature that is declared no longer: it can't score anybody then."""
    pipeline = manager.load_model(run_id)
    if set(pipeline["features"].feature_names_in_) - set(rows.column_names):
        return None
    return pipeline.predict_proba(rows)[:, 1]
