"""Held-out evaluation: a trained model on the test rows, beside its baselines and the champion.

Does not belong here: metrics of scores (`evaluation.py`), deciding what follows (`promotion.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.ml import TARGET
from mlops_platform.training_pipeline.dataset import data_digest, split_rows
from mlops_platform.training_pipeline.evaluation import AucDifference, Metrics, auc_difference, evaluate, interval_rows
from mlops_platform.training_pipeline.registry import PRODUCTION

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.train import TrainedModel


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
    champion_version: str | None = None
    champion: AucDifference | None = None

    def figures(self) -> dict[str, float]:
        """Metrics by their MLflow names."""
        found = {f"test_{key}": value for key, value in self.metrics.as_dict().items()}
        found |= {"test_rows": float(self.rows), "test_roc_auc_recency_only": self.recency.theirs}
        found["test_roc_auc_churn_score"] = self.churn_score.theirs
        if self.champion is not None:
            found["test_roc_auc_champion"] = self.champion.theirs
        return found


def evaluate_held_out(
    settings: Settings, manager: MLflowManager, training: TableSnapshot, trained: TrainedModel
) -> Evaluation:
    """Scores the test rows with the model, its baselines and the champion; logs the figures to the model's run."""
    rows = split_rows(training.to_arrow(order_by=("feature_date", "customer_id")), "test")
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
        rows_digest=data_digest(settings, training),
        metrics=evaluate(labels, scores, trained.threshold),
        recency=against(rows.column("days_since_last_transaction").to_numpy()),
        churn_score=against(rows.column("churn_score").to_numpy()),
        champion_version=champion.version if champion is not None else None,
        champion=against(theirs) if theirs is not None else None,
    )
    manager.log_metrics(trained.run_id, found.figures())
    return found


def _scores(manager: MLflowManager, run_id: str, rows: pa.Table) -> Any:
    return manager.load_model(run_id).predict_proba(rows)[:, 1]


def _rival_scores(manager: MLflowManager, run_id: str, rows: pa.Table) -> Any | None:
    """The champion's scores; None where it needs a feature that is declared no longer: it can't score anybody then."""
    pipeline = manager.load_model(run_id)
    if set(pipeline["features"].feature_names_in_) - set(rows.column_names):
        return None
    return pipeline.predict_proba(rows)[:, 1]
