"""The gate: the decision Staging → Production, on the held-out evaluation of a trained model.

A model is promoted only if, on the same held-out rows, it beats recency-only (lower 95 % bound of the paired difference
in ROC-AUC above 0), is not significantly worse than `churn_score` alone, and, where a champion exists, is not
significantly worse than it and at most 0.005 below it. F1 alone is no gate: "everyone churns" scores .66 and more.
Does not belong here: the evaluation itself (`held_out.py`), people's decisions (`stages.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlops_platform.contracts.ml import PROMOTED, REFUSED
from mlops_platform.training_pipeline.held_out import Evaluation
from mlops_platform.training_pipeline.history import draft
from mlops_platform.training_pipeline.model_digest import FILES_DIGEST_TAG
from mlops_platform.training_pipeline.registry import PRODUCTION, STAGING, RegisteredModel
from mlops_platform.training_pipeline.stages import change_production, changing, move
from mlops_platform.training_pipeline.train import (
    MODEL_TYPE_TAG,
    THRESHOLD_TAG,
    TRAINING_SNAPSHOT_TAG,
    TrainedModel,
)

if TYPE_CHECKING:
    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.publish import Draft
    from mlops_platform.training_pipeline.history import PromotionHistory, Row
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
    model = _register(settings, manager, trained)
    with changing(manager, lake, model.name, at=decided_at) as history:
        model = manager.version(model.name, model.version)
        was_champion = history.production == model.version
        refusal = gate(evaluation)
        objection = None if was_champion or refusal is not None else _objection(evaluation, model, history)
        is_promoted = was_champion or (refusal or objection) is None
        reason = refusal or objection or _passed(evaluation, model)
        row = {
            "decision_id": _decision_id(trained, evaluation, history, objection),
            "decided_at": decided_at,
            "model_name": model.name,
            "model_version": model.version,
            "decision": PROMOTED if is_promoted else REFUSED,
            "reason": reason,
            "change_number": history.number + is_promoted,
            **_figures(evaluation),
        }
        if is_promoted and not was_champion:
            model = change_production(manager, model, PRODUCTION, row)
        elif not is_promoted and model.stage != STAGING:
            model = move(manager, model, STAGING)
        is_known = was_champion or history.holds(row)
    return Decision(is_promoted, reason, model, evaluation), draft(*([] if is_known else [row]))


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
    run_tags = manager.client.get_run(trained.run_id).data.tags
    if FILES_DIGEST_TAG in run_tags:
        tags[FILES_DIGEST_TAG] = run_tags[FILES_DIGEST_TAG]
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


def _objection(evaluation: Evaluation, model: RegisteredModel, history: PromotionHistory) -> str | None:
    """Why a model that passes must not enter Production all the same; None: it may."""
    if history.production not in {None, evaluation.champion_version}:
        return f"was not compared with version {history.production}, which went into Production after its evaluation"
    if history.was_taken_back(model.version):
        return f"was taken out of Production by hand: `mlops models promote {model.version}` puts it back"
    return None


def _rival(evaluation: Evaluation) -> str | None:
    return evaluation.champion_version if evaluation.champion is not None else None


def _decision_id(
    trained: TrainedModel, evaluation: Evaluation, history: PromotionHistory, objection: str | None
) -> str:
    """A decision after another change of Production is another decision."""
    what = [trained.identity, evaluation.rows_digest, str(_rival(evaluation)), str(history.last_id)]
    return hashlib.sha256("/".join([*what, *filter(None, [objection])]).encode()).hexdigest()[:32]


def _figures(evaluation: Evaluation) -> Row:
    return {
        "run_id": evaluation.run_id,
        "champion_version": _rival(evaluation),
        "evaluation_date": evaluation.evaluation_date,
        "rows": evaluation.rows,
        "roc_auc": evaluation.metrics.roc_auc,
        "roc_auc_recency_only": evaluation.recency.theirs,
        "roc_auc_churn_score": evaluation.churn_score.theirs,
        "roc_auc_champion": evaluation.champion.theirs if evaluation.champion is not None else None,
    }
