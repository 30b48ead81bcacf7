"""A model's files in its MLflow run: saved with skops (no pickle), loaded with the types that our code trusts.

Beside it stand its serving form and the environment it was fitted in.

Does not belong here: runs and versions (`registry.py`), what a model is (`models.py`).
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError
from mlops_platform.training_pipeline.model_digest import FILES_DIGEST_TAG, files_digest
from mlops_platform.training_pipeline.models import TRUSTED_TYPES
from mlops_platform.training_pipeline.registry import MODEL_FILE, MODEL_PATH
from mlops_platform.training_pipeline.serving_form import SERVING_PATH, is_equal, load, save, serving_form

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from mlflow import MlflowClient

ENVIRONMENT_FILE = "environment.txt"
_EXAMPLE_ROWS = 5


def save_model(client: MlflowClient, run_id: str, model: Any, sample: pa.Table | pd.DataFrame) -> None:
    """Saves a fitted Pipeline under a run, its serving form beside it, and records the files' digest.

    Args:
        client: MLflow.
        run_id: The run.
        model: Fitted scikit-learn Pipeline.
        sample: Rows of features: the signature is theirs, and the serving form has to give the Pipeline's bits on them.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        _write_pipeline(model, sample, folder / MODEL_PATH)
        _write_serving_form(model, sample, folder / SERVING_PATH)
        client.log_artifacts(run_id, name)
        client.set_tag(run_id, FILES_DIGEST_TAG, files_digest(folder))


def _write_pipeline(model: Any, sample: pa.Table | pd.DataFrame, target: Path) -> None:
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature

    rows = sample if isinstance(sample, pd.DataFrame) else sample.slice(0, _EXAMPLE_ROWS).to_pandas()
    example = rows.head(_EXAMPLE_ROWS)
    with warnings.catch_warnings():
        # MLflow hints that integer columns can't hold nulls; features have none.
        warnings.filterwarnings("ignore", message=".*integer column.*", category=UserWarning)
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


def _write_serving_form(model: Any, sample: pa.Table | pd.DataFrame, target: Path) -> None:
    form = serving_form(model)
    if form is None:
        return
    target.mkdir()
    save(form, target)
    if not is_equal(load(target), model, sample):
        rmtree(target)


def load_model(client: MlflowClient, run_id: str) -> Any:
    """Loads a run's Pipeline.

    Raises:
        ModelError: The run has no model, or it holds a type we don't trust.
    """
    from mlflow.exceptions import MlflowException

    try:
        path = Path(client.download_artifacts(run_id, f"{MODEL_PATH}/{MODEL_FILE}"))
    except (MlflowException, OSError) as error:
        raise ModelError(f"run {run_id} has no readable model: {error}", hint="train again.") from error
    return read_model(path, run_id)


def read_model(path: Path, run_id: str) -> Any:
    """Reads a Pipeline from a run's file, trusting the types fixed in our code only.

    Raises:
        ModelError: It can't be read, or holds a type we don't trust.
    """
    from zipfile import BadZipFile

    import skops.io
    from sklearn.pipeline import Pipeline
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        model = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ModelError(f"the model of run {run_id} holds types that are not trusted: {error}") from error
    except (OSError, BadZipFile, EOFError, LookupError, ValueError, AttributeError, TypeError) as error:
        # What skops raises for a damaged or foreign file depends on where it stops reading.
        raise ModelError(f"run {run_id} has no readable model: {error}", hint="train again.") from error
    if not isinstance(model, Pipeline) or "features" not in model.named_steps:
        raise ModelError(f"the model of run {run_id} is no pipeline of features and classifier", hint="train again.")
    return model


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("scikit-learn", "xgboost", "numpy", "skops", "pandas", "pyarrow")]


@cache
def environment() -> str:
    """Every installed package with its version, as a requirements file: what the lock pinned."""
    from importlib.metadata import distributions

    described = (each.metadata for each in distributions())  # Each look at it reads the file again.
    found = {(each["Name"].lower(), each["Version"]) for each in described}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found))
