"""A model's files in its MLflow run: saved with skops (no pickle), loaded with the types that our code trusts.

Does not belong here: runs and versions (`registry.py`), what a model is (`models.py`).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError
from mlops_platform.training_pipeline.models import TRUSTED_TYPES
from mlops_platform.training_pipeline.registry import MODEL_FILE, MODEL_PATH

if TYPE_CHECKING:
    from mlflow import MlflowClient


def save_model(client: MlflowClient, run_id: str, model: Any, example: Any) -> None:
    """Saves a fitted Pipeline under a run.

    Args:
        client: MLflow.
        run_id: The run.
        model: Fitted scikit-learn Pipeline.
        example: A few rows as DataFrame, for the signature.
    """
    import tempfile

    import mlflow.sklearn
    from mlflow.models import infer_signature

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # MLflow hints that integer columns can't hold nulls; features have none.
        warnings.filterwarnings("ignore", message=".*integer column.*", category=UserWarning)
        target = Path(folder) / MODEL_PATH
        mlflow.sklearn.save_model(
            model,
            str(target),
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED_TYPES),
            signature=infer_signature(example, model.predict_proba(example)),
            # Named here because inferring them imports the model in a new process, 22 s and more.
            pip_requirements=_requirements(),
            pyfunc_predict_fn="predict_proba",
        )
        client.log_artifacts(run_id, str(target), MODEL_PATH)


def load_model(client: MlflowClient, run_id: str) -> Any:
    """Loads a run's Pipeline.

    Raises:
        ModelError: The run has no model, or it holds a type we don't trust.
    """
    from zipfile import BadZipFile

    import skops.io
    from mlflow.exceptions import MlflowException
    from sklearn.pipeline import Pipeline
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        path = Path(client.download_artifacts(run_id, f"{MODEL_PATH}/{MODEL_FILE}"))
        model = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ModelError(f"the model of run {run_id} holds types that are not trusted: {error}") from error
    except (
        MlflowException,
        OSError,
        BadZipFile,
        EOFError,
        LookupError,
        ValueError,
        AttributeError,
        TypeError,
    ) as error:
        # What skops raises for a damaged or foreign file depends on where it stops reading.
        raise ModelError(f"run {run_id} has no readable model: {error}", hint="train again.") from error
    if not isinstance(model, Pipeline) or "features" not in model.named_steps:
        raise ModelError(f"the model of run {run_id} is no pipeline of features and classifier", hint="train again.")
    return model


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("scikit-learn", "xgboost", "numpy", "skops", "pandas", "pyarrow")]
