"""Training: fits a model on the training set and keeps it in an MLflow run, once for each identity.

A model's identity is (data digest, parameters, code): training again on equal rows with equal parameters and code
returns the run that already holds the model. Does not belong here: held-out metrics and stages (`promotion.py`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import load_feature_set
from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError
from mlops_platform.training_pipeline.dataset import data_digest, split_rows
from mlops_platform.training_pipeline.evaluation import best_threshold, evaluate
from mlops_platform.training_pipeline.models import DEFAULT_MODEL_TYPE, code_digest, make_model
from mlops_platform.training_pipeline.registry import IDENTITY_TAG, MODEL_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.registry import MLflowManager

THRESHOLD_TAG = "mlops.threshold"
TRAINING_SNAPSHOT_TAG = "mlops.training-snapshot-id"
MODEL_TYPE_TAG = "model_type"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A reference to a trained model, handed from step to step.

    Args:
        run_id: MLflow run that holds it.
        model_uri: `runs:/…` address.
        identity: Hash of data, parameters and code.
        model_type: Name in `MODEL_TYPES`.
        threshold: A customer is predicted to churn at or above this probability.
        training_snapshot_id: Snapshot of ml.training_set it was fitted on.
        is_new: False when an equal model had been trained before.
    """

    run_id: str
    model_uri: str
    identity: str
    model_type: str
    threshold: float
    training_snapshot_id: int
    is_new: bool


def train(
    settings: Settings,
    manager: MLflowManager,
    training: TableSnapshot,
    *,
    model_type: str = DEFAULT_MODEL_TYPE,
    hyperparameters: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> TrainedModel:
    """Fits a model on the train rows and chooses its threshold on the validation rows.

    Args:
        settings: Experiment name, memory.
        manager: MLflow.
        training: Snapshot of ml.training_set.
        model_type: Name in `MODEL_TYPES`.
        hyperparameters: Override the model type's defaults.
        tags: More tags of the MLflow run.

    Raises:
        InputError: Unknown model type or hyperparameter.
    """
    features = load_feature_set(settings.features_module)
    model = make_model(model_type, hyperparameters).set_params(features__features=list(features.names))
    parameters = {"model_type": model_type, **model["classifier"].get_params()}
    identity = _identity(data_digest(settings, training), parameters)
    known = manager.finished_run(settings.experiment_name, identity)
    if known is not None:
        threshold, snapshot_id = (float(known.data.tags[THRESHOLD_TAG]), int(known.data.tags[TRAINING_SNAPSHOT_TAG]))
        return _reference(str(known.info.run_id), identity, model_type, threshold, snapshot_id, is_new=False)

    rows = training.to_arrow(order_by=("feature_date", "customer_id"))
    run_tags = {
        IDENTITY_TAG: identity,
        MODEL_TYPE_TAG: model_type,
        "feature_version": features.version,
        "data_version": str(training.snapshot_id),
        TRAINING_SNAPSHOT_TAG: str(training.snapshot_id),
        **(tags or {}),
    }
    with manager.run(settings.experiment_name, f"{settings.model_name}-{model_type}", run_tags) as run_id:
        threshold = _fit(manager, run_id, model, parameters, rows)
    return _reference(run_id, identity, model_type, threshold, int(training.snapshot_id or 0), is_new=True)


def _fit(manager: MLflowManager, run_id: str, model: Any, parameters: dict[str, Any], rows: pa.Table) -> float:
    train_rows, validation = split_rows(rows, "train"), split_rows(rows, "validation")
    for key, value in parameters.items():
        if value is not None:
            manager.client.log_param(run_id, key, value)
    try:
        model.fit(train_rows, _labels(train_rows))
    except ValueError as error:
        # The rows passed their contract: what a classifier refuses is a value of its parameters.
        raise InputError(
            f"{parameters['model_type']} refuses its hyperparameters: {str(error).strip().splitlines()[0]}",
            expected="values of the types its documentation names",
        ) from error
    probabilities = model.predict_proba(validation)[:, 1]
    threshold = best_threshold(_labels(validation), probabilities)
    quality = evaluate(_labels(validation), probabilities, threshold)
    manager.log_metrics(run_id, {f"validation_{key}": value for key, value in quality.as_dict().items()})
    manager.log_metrics(run_id, {"train_rows": train_rows.num_rows, "validation_rows": validation.num_rows})
    names = list(model["features"].feature_names_in_)
    manager.log_model(run_id, model, train_rows.slice(0, 5).select(names).to_pandas())
    manager.client.set_tag(run_id, THRESHOLD_TAG, repr(threshold))
    return threshold


def _labels(rows: pa.Table) -> Any:
    return rows.column(TARGET).to_numpy()


def _identity(digest: str, parameters: dict[str, Any]) -> str:
    what = json.dumps([digest, {k: repr(v) for k, v in sorted(parameters.items())}, code_digest()])
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _reference(
    run_id: str, identity: str, model_type: str, threshold: float, snapshot_id: int, *, is_new: bool
) -> TrainedModel:
    return TrainedModel(run_id, f"runs:/{run_id}/{MODEL_PATH}", identity, model_type, threshold, snapshot_id, is_new)
