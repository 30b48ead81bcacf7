"""Training assets: training_set, churn_model, model_evaluation, production_model."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.contracts import load_feature_set
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.orchestration.tables import propose, reference_asset, table_asset
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.training_pipeline.dataset import training_set as build_training_set
from mlops_platform.training_pipeline.held_out import Evaluation, evaluate_held_out
from mlops_platform.training_pipeline.models import DEFAULT_MODEL_TYPE
from mlops_platform.training_pipeline.promotion import Decision, decide
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.report import report_evaluation
from mlops_platform.training_pipeline.train import TrainedModel, train

_TRAINING_SET = dg.AssetIn(["ml", "training_set"])
_CHURN_MODEL = dg.AssetIn(["ml", "churn_model"])


class ModelConfig(dg.Config):
    """What kind of model is trained."""

    model_type: str = DEFAULT_MODEL_TYPE
    hyperparameters: dict[str, Any] | None = None


def training_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets from labelled rows to a Production model."""

    @table_asset(
        ["ml", "training_set"],
        features=load_feature_set(partitions.settings.features_module),
        ins={
            "features": dg.AssetIn(["feature_store", "customer_features"]),
            "transactions": dg.AssetIn(["silver", "transactions"]),
        },
    )
    def training_set(
        context: dg.AssetExecutionContext,
        features: TableSnapshot,
        transactions: TableSnapshot,
        lake: dg.ResourceParam[Lake],
    ) -> Iterator[Any]:
        as_of = _as_of(context, partitions)
        yield from propose(lake.settings, build_training_set(lake.settings, features, transactions, as_of=as_of))

    return [training_set, churn_model, model_evaluation, production_model]


@reference_asset(
    ["ml", "churn_model"],
    kinds={"mlflow", "xgboost", "scikitlearn"},
    description="The churn model of the last training in an MLflow run: one scikit-learn Pipeline, threshold chosen on "
    "held-back customers. Equal rows, parameters and code give back the run that already holds it.",
    ins={"training_set": _TRAINING_SET},
)
def churn_model(
    context: dg.AssetExecutionContext,
    config: ModelConfig,
    training_set: TableSnapshot,
    lake: dg.ResourceParam[Lake],
    mlflow: dg.ResourceParam[MLflowManager],
) -> dg.Output[TrainedModel]:
    """Trains, or finds the equal model."""
    trained = train(
        lake.settings,
        mlflow,
        training_set,
        model_type=config.model_type,
        hyperparameters=config.hyperparameters,
        tags={"dagster/run_id": context.run.run_id},
    )
    return dg.Output(
        trained,
        metadata={
            "mlflow_run_id": trained.run_id,
            "model_type": trained.model_type,
            "threshold": trained.threshold,
            "identity": trained.identity,
            "is_new": trained.is_new,
        },
    )


@reference_asset(
    ["ml", "model_evaluation"],
    kinds={"mlflow", "scikitlearn"},
    description="The model's quality on held-out rows that lie later in time than every training label, beside "
    "recency-only, churn_score alone and the champion.",
    ins={"training_set": _TRAINING_SET, "churn_model": _CHURN_MODEL},
)
def model_evaluation(
    training_set: TableSnapshot,
    churn_model: TrainedModel,
    lake: dg.ResourceParam[Lake],
    mlflow: dg.ResourceParam[MLflowManager],
) -> dg.Output[Evaluation]:
    """Evaluates on the test rows, and draws what a person looks at."""
    evaluation = evaluate_held_out(lake.settings, mlflow, training_set, churn_model)
    plots = report_evaluation(lake, mlflow, training_set, churn_model, evaluation)
    pictures = {name: dg.MetadataValue.md(_picture(png)) for name, png in plots.items()}
    return dg.Output(evaluation, metadata={"dagster/row_count": evaluation.rows, **evaluation.figures(), **pictures})


@reference_asset(
    ["ml", "production_model"],
    kinds={"mlflow", "iceberg"},
    description="The gate's decision: Staging → Production, the old version Archived, or refused with the reason. "
    "Every decision is a row of ml.promotions.",
    ins={"churn_model": _CHURN_MODEL, "model_evaluation": dg.AssetIn(["ml", "model_evaluation"])},
)
def production_model(
    context: dg.AssetExecutionContext,
    churn_model: TrainedModel,
    model_evaluation: Evaluation,
    lake: dg.ResourceParam[Lake],
    mlflow: dg.ResourceParam[MLflowManager],
) -> dg.Output[Decision]:
    """Decides, and records the decision."""
    decided_at = clock.now(lake.settings)
    decision, row = decide(lake.settings, mlflow, lake, churn_model, model_evaluation, decided_at=decided_at)
    lake.publish(row, properties={"run-id": context.run.run_id})
    return dg.Output(
        decision,
        metadata={
            "decision": "promoted" if decision.promoted else "refused",
            "reason": decision.reason,
            "version": decision.model.version,
            "stage": decision.model.stage,
        },
    )


def _picture(png: bytes) -> str:
    return f"![](data:image/png;base64,{b64encode(png).decode()})"


def _as_of(context: dg.AssetExecutionContext, partitions: Partitions) -> date:
    """The day a run trains as of: the run's partition, or the last complete day of a run without one."""
    key = context.run.tags.get("dagster/partition")
    if key is not None:
        return partitions.day(key)
    return clock.last_complete_day(clock.now(partitions.settings), partitions.settings.zone)
