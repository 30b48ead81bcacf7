"""The gate: the decision Staging → Production, on the held-out evaluation of a trained model.

A model is promoted only if, on the same held-out rows, it beats recency-only (lower 95 % bound of the paired difference
in ROC-AUC above 0), is not significantly worse than `churn_score` alone, and, where a champion exists, is not
significantly worse than it and at most 0.005 below it. F1 alone is no gate: "everyone churns" scores .66 and more.
Does not belong here: the evaluation itself (`held_out.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import PROMOTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import scalar
from mlops_platform.training_pipeline.registry import PRODUCTION, STAGING, RegisteredModel
from mlops_platform.training_pipeline.train import (
    MODEL_TYPE_TAG,
    THRESHOLD_TAG,
    TRAINING_SNAPSHOT_TAG,
    TrainedModel,
)

if TYPE_CHECKING:
    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.training_pipeline.held_out import Evaluation
    from mlops_platform.training_pipeline.registry import MLflowManager

CHAMPION_TOLERANCE = 0.005


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's answer.

    Args:
        promoted: Whether the model is (now, or already) in Production.
        reason: Why.
        model: The registered version.
        evaluation: What it rests on.
    """

    promoted: bool
    reason: str
    model: RegisteredModel
    evaluation: Evaluation


def decide(
    settings: Settings, manager: MLflowManager, lake: Lake, trained: TrainedModel, evaluation: Evaluation,
    *, decided_at: datetime,
) -> tuple[Decision, Draft]:  # fmt: skip
    """Registers the model in Staging, and promotes it to Production if it passes the gate.

    Returns:
        The decision, and its row for ml.promotions (none when the same decision stands there already).
    """
    import pyarrow as pa

    model = _register(settings, manager, trained)
    refusal = gate(evaluation)
    was_champion = model.stage == PRODUCTION
    if refusal is None and model.stage != PRODUCTION:
        model = manager.transition_model_stage(model.name, model.version, PRODUCTION, archive_existing_versions=True)
    elif refusal is not None and model.stage not in {PRODUCTION, STAGING}:
        model = manager.transition_model_stage(model.name, model.version, STAGING)
    decision = Decision(model.stage == PRODUCTION, refusal or _passed(evaluation, model), model, evaluation)
    row = _promotion_row(trained, decision, decided_at, after=_last_promotion(lake, model.name))
    is_known = was_champion or lake.snapshot(PROMOTIONS).count([Condition("decision_id", "=", row["decision_id"])])
    schema = arrow_schema(PROMOTIONS)
    rows = schema.empty_table() if is_known else pa.Table.from_pylist([row], schema=schema)
    return decision, Draft(PROMOTIONS, rows, figures={"decision": str(row["decision"]), "reason": decision.reason})


def register_in_staging(settings: Settings, manager: MLflowManager, trained: TrainedModel) -> RegisteredModel:
    """Registers a model that the gate can't judge: it was not fitted on ml.training_set."""
    model = _register(settings, manager, trained)
    if model.stage in {PRODUCTION, STAGING}:
        return model
    return manager.transition_model_stage(model.name, model.version, STAGING)


def _register(settings: Settings, manager: MLflowManager, trained: TrainedModel) -> RegisteredModel:
    tags = {MODEL_TYPE_TAG: trained.model_type, THRESHOLD_TAG: repr(trained.threshold)}
    if trained.training_snapshot_id is not None:
        tags[TRAINING_SNAPSHOT_TAG] = str(trained.training_snapshot_id)
    return manager.register_model(
        trained.model_uri,
        settings.model_name,
        tags=tags,
        description="Chance that a customer makes no purchase in the horizon.",
    )


def gate(evaluation: Evaluation) -> str | None:
    """Why the model is refused; None if it passes."""
    recency, score, champion = evaluation.recency, evaluation.churn_score, evaluation.champion
    # Written so that an interval that is no number (one row of a class has no variance) is no evidence.
    if not recency.lower > 0:
        return (
            f"does not beat recency-only: ROC-AUC {recency.ours:.4f} against {recency.theirs:.4f}, lower 95 % bound of "
            f"the difference {recency.lower:+.4f}"
        )
    if not score.upper >= 0:
        return f"is significantly worse than churn_score alone: ROC-AUC {score.ours:.4f} against {score.theirs:.4f}"
    if champion is not None and not (champion.upper >= 0 and champion.difference >= -CHAMPION_TOLERANCE):
        return (
            f"is worse than the champion, version {evaluation.champion_version}: ROC-AUC {champion.ours:.4f} against "
            f"{champion.theirs:.4f}"
        )
    return None


def _passed(evaluation: Evaluation, model: RegisteredModel) -> str:
    rival = evaluation.champion_version
    if evaluation.champion is None and rival not in {None, model.version}:
        return f"passed every condition; version {rival} is no rival: it needs a feature that is no longer declared"
    return "passed every condition"


def _last_promotion(lake: Lake, model_name: str) -> str | None:
    """The decision that made the present champion: a decision after another one is another decision."""
    name = Condition("model_name", "=", model_name)
    with lake.snapshot(PROMOTIONS).relation(["decision_id", "decided_at", "decision", "model_name"], [name]) as found:
        duck, view = found
        last: str | None = scalar(
            duck, f"SELECT arg_max(decision_id, decided_at) FROM {view} WHERE decision = 'promoted'"
        )
    return last


def _promotion_row(
    trained: TrainedModel, decision: Decision, decided_at: datetime, *, after: str | None
) -> dict[str, Any]:
    found = decision.evaluation
    rival = found.champion_version if found.champion is not None else None
    what = f"{trained.identity}/{found.rows_digest}/{rival}/{after}"
    return {
        "decision_id": hashlib.sha256(what.encode()).hexdigest()[:32],
        "decided_at": decided_at,
        "model_name": decision.model.name,
        "model_version": decision.model.version,
        "decision": "promoted" if decision.promoted else "refused",
        "reason": decision.reason,
        "champion_version": rival,
        "run_id": trained.run_id,
        "evaluation_date": found.evaluation_date,
        "rows": found.rows,
        "roc_auc": found.metrics.roc_auc,
        "roc_auc_recency_only": found.recency.theirs,
        "roc_auc_churn_score": found.churn_score.theirs,
        "roc_auc_champion": found.champion.theirs if found.champion is not None else None,
    }


def as_record(decision: Decision) -> dict[str, Any]:
    """The decision as a flat record for logs and references."""
    return {
        "promoted": decision.promoted,
        "reason": decision.reason,
        "name": decision.model.name,
        "version": decision.model.version,
        "stage": decision.model.stage,
        "run_id": decision.model.run_id,
        **asdict(decision.evaluation.metrics),
        "roc_auc_recency_only": decision.evaluation.recency.theirs,
        "roc_auc_churn_score": decision.evaluation.churn_score.theirs,
    }
