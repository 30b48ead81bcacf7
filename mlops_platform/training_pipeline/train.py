"""Training: fits a model on the training set and keeps it in an MLflow run, once for each identity.

A model's identity is (data digest, parameters, code): training again on equal rows with equal parameters and code
returns the run that already holds the model. Does not belong here: held-out metrics and stages (`promotion.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import load_feature_set
from mlops_platform.errors import NotEnoughDataError, PlatformError
from mlops_platform.storage.publish import PROPERTY_PREFIX, recorded_in
from mlops_platform.training_pipeline.autologging import autologged
from mlops_platform.training_pipeline.dataset import data_digest
from mlops_platform.training_pipeline.dataset_input import log_dataset
from mlops_platform.training_pipeline.fitting import fit_parts, fit_pipeline, split_for_fit
from mlops_platform.training_pipeline.leakage import require_no_leak
from mlops_platform.training_pipeline.model_files import ENVIRONMENT_FILE, environment
from mlops_platform.training_pipeline.models import DEFAULT_MODEL_TYPE, code_digest, hyperparameters_of, make_model
from mlops_platform.training_pipeline.registry import IDENTITY_TAG, MODEL_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.fitting import FitParts
    from mlops_platform.training_pipeline.registry import MLflowManager

THRESHOLD_TAG = "mlops.threshold"
TRAINING_SNAPSHOT_TAG = "mlops.training-snapshot-id"
MODEL_TYPE_TAG = "model_type"
MODEL_HASH_TAG = "mlops.model-hash"
DATA_DIGEST_TAG = "mlops.data-digest"
CODE_DIGEST_TAG = "mlops.code-digest"

_SAMPLE_ROWS = 1000
# What the training set says about its days; the service tells them to whoever asks.
_WINDOW = ("as-of", "evaluation-date", "training-dates")


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A reference to a trained model, handed from step to step.

    Args:
        run_id: MLflow run that holds it.
        model_uri: `runs:/…` address.
        identity: Hash of data, parameters and code.
        model_type: Name in `MODEL_TYPES`.
        threshold: A customer is predicted to churn at or above this probability.
        training_snapshot_id: Snapshot of ml.training_set it was fitted on; None: on other rows.
        data_digest: Digest of all rows of the training set, the held-out ones among them.
        is_new: False when an equal model had been trained before.
    """

    run_id: str
    model_uri: str
    identity: str
    model_type: str
    threshold: float
    training_snapshot_id: int | None
    data_digest: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class FitRows:
    """The rows a model is fitted on, read when it is not known yet.

    Args:
        read: Gives the features, `churned` and `split`, in an order that equal rows always have.
        features: The features the model sees, in order.
        digest: Of the rows, whatever their order.
        tags: Where they come from, as tags of the MLflow run.
        training: Snapshot of ml.training_set that holds them; None: none does.
    """

    read: Callable[[], pa.Table]
    features: tuple[str, ...]
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict)
    training: TableSnapshot | None = None


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
    rows = line_rows(settings, training, tags)
    return train_on(settings, manager, rows, model_type=model_type, hyperparameters=hyperparameters)


def line_rows(settings: Settings, training: TableSnapshot, tags: Mapping[str, str] | None = None) -> FitRows:
    """The rows of ml.training_set; `tags` are more tags of the MLflow run."""
    features = load_feature_set(settings.features_module)
    snapshot_id = str(training.snapshot_id)
    made = recorded_in(training)
    known = {"feature_version": features.version, "data_version": snapshot_id, TRAINING_SNAPSHOT_TAG: snapshot_id}
    known |= {PROPERTY_PREFIX + name: made[name] for name in _WINDOW if name in made}
    return FitRows(
        read=lambda: training.to_arrow(order_by=("feature_date", "customer_id")),
        features=tuple(features.names),
        digest=data_digest(settings, training),
        tags=known | dict(tags or {}),
        training=training,
    )


def train_on(
    settings: Settings,
    manager: MLflowManager,
    rows: FitRows,
    *,
    model_type: str = DEFAULT_MODEL_TYPE,
    hyperparameters: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Fits a model on rows of any origin, or finds the run that holds the equal one; see `train`.

    Raises:
        InputError: Unknown model type or hyperparameter, or a column that can only come from the future.
    """
    model = make_model(model_type, hyperparameters).set_params(features__features=list(rows.features))
    parameters = _parameters(model_type, model)
    identity = identity_of(rows.digest, parameters)
    known = manager.finished_run(settings.experiment_name, identity)
    if known is not None:
        found = known.data.tags
        snapshot_id = int(found[TRAINING_SNAPSHOT_TAG]) if TRAINING_SNAPSHOT_TAG in found else None
        threshold = float(found[THRESHOLD_TAG])
        run_id = str(known.info.run_id)
        return TrainedModel(
            run_id, _uri(run_id), identity, model_type, threshold, snapshot_id, rows.digest, is_new=False
        )

    parts = split_for_fit(rows.read())
    require_no_leak(parts.train, rows.features)
    tags = {
        IDENTITY_TAG: identity,
        MODEL_TYPE_TAG: model_type,
        DATA_DIGEST_TAG: rows.digest,
        CODE_DIGEST_TAG: code_digest(model_type),
        **rows.tags,
    }
    with manager.run(settings.experiment_name, f"{settings.model_name}-{model_type}", tags) as run_id:
        _log_parameters(manager, run_id, parameters)
        threshold = _fit(manager, run_id, model, rows, parts)
    snapshot_id = rows.training.snapshot_id if rows.training is not None else None
    return TrainedModel(run_id, _uri(run_id), identity, model_type, threshold, snapshot_id, rows.digest, is_new=True)


def fit_frame(
    settings: Settings,
    manager: MLflowManager,
    features: pd.DataFrame,
    labels: Any,
    *,
    model_type: str = DEFAULT_MODEL_TYPE,
    hyperparameters: Mapping[str, Any] | None = None,
) -> tuple[str, Any]:
    """Fits a model on all rows given and keeps it in a run of its own, without a threshold.

    Args:
        settings: Experiment and model name.
        manager: MLflow.
        features: n rows, each column a feature.
        labels: 0 or 1, shape (n,).
        model_type: Name in `MODEL_TYPES`.
        hyperparameters: Override the model type's defaults.

    Returns:
        The run's id, and the fitted Pipeline.

    Raises:
        InputError: Unknown model type or hyperparameter, or a value it refuses.
        NotEnoughDataError: There is one class only.
    """
    classes = sorted(set(labels.tolist()))
    if classes != [0, 1]:
        raise NotEnoughDataError(
            f"the {len(labels)} rows hold the class(es) {classes}",
            expected="0 for customers that stayed and 1 for those that churned, both",
        )
    model = make_model(model_type, hyperparameters).set_params(features__features=list(features.columns))
    tags = {MODEL_TYPE_TAG: model_type}
    with manager.run(settings.experiment_name, f"{settings.model_name}-{model_type}", tags) as run_id:
        _log_parameters(manager, run_id, _parameters(model_type, model))
        with autologged(manager, run_id):
            fit_pipeline(model, features, labels)
        manager.log_metrics(run_id, {"train_rows": len(features)})
        manager.log_model(run_id, model, features)
    return run_id, model


def _parameters(model_type: str, model: Any) -> dict[str, Any]:
    return {"model_type": model_type, **hyperparameters_of(model["classifier"])}


def _log_parameters(manager: MLflowManager, run_id: str, parameters: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    given = [Param(key, str(value)) for key, value in parameters.items() if value is not None]
    manager.client.log_batch(run_id, params=given)


def _fit(manager: MLflowManager, run_id: str, model: Any, given: FitRows, parts: FitParts) -> float:
    fitted = fit_parts(model, parts)
    if given.training is not None:
        for context, count in (("training", fitted.train_rows), ("validation", fitted.validation_rows)):
            log_dataset(manager, run_id, given.training, digest=given.digest, rows=count, context=context)
    metrics = {f"validation_{key}": value for key, value in fitted.validation.as_dict().items()}
    counts = {"train_rows": float(fitted.train_rows), "validation_rows": float(fitted.validation_rows)}
    manager.log_metrics(run_id, metrics | counts)
    names = list(fitted.pipeline["features"].feature_names_in_)
    sample = parts.validation.slice(0, _SAMPLE_ROWS).select(names)
    manager.log_model(run_id, fitted.pipeline, sample)
    manager.client.log_text(run_id, environment(), ENVIRONMENT_FILE)
    manager.client.set_tag(run_id, MODEL_HASH_TAG, fitted.hash)
    manager.client.set_tag(run_id, THRESHOLD_TAG, repr(fitted.threshold))
    return fitted.threshold


def identity_of(digest: str, parameters: dict[str, Any]) -> str:
    """A model's identity: hash of its rows' digest, its parameters and the code."""
    code = code_digest(parameters["model_type"])
    what = json.dumps([digest, {k: repr(v) for k, v in sorted(parameters.items())}, code])
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _uri(run_id: str) -> str:
    return f"runs:/{run_id}/{MODEL_PATH}"


def main(arguments: list[str] | None = None) -> int:
    """`python -m mlops_platform.training_pipeline.train`: trains on the line's rows, evaluates, lets the gate decide.

    Returns:
        The exit code, 2 for a mistake the user can mend.
    """
    from mlops_platform.settings import apply_exports, load_settings
    from mlops_platform.training_pipeline.pipeline import TrainingPipeline

    parser = argparse.ArgumentParser(
        "python -m mlops_platform.training_pipeline.train", description="Train a model.", allow_abbrev=False
    )
    parser.add_argument("--model-type", metavar="NAME", default=DEFAULT_MODEL_TYPE, help="default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        apply_exports(settings)
        pipeline = TrainingPipeline(settings.experiment_name, settings.model_name, settings)
        results = pipeline.run(model_type=given.model_type)
    except PlatformError as error:
        sys.stderr.write(f"train: {error}\n")
        return 2
    sys.stdout.write(
        f"{results['model_name']} version {results['model_version']}: {results['stage']}, held-out ROC-AUC "
        f"{results['metrics']['roc_auc']:.4f}\nGate: {results['reason']}.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
