"""The model registry: MLflow runs, versions and stages, with every call explicit about where it goes.

No global tracking state is touched. Stage and alias are always set together. Does not belong here: deciding which
version deserves which stage (`promotion.py`).
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError, StorageError
from mlops_platform.settings import mask_secrets
from mlops_platform.training_pipeline.models import TRUSTED_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from mlops_platform.settings import Settings

PRODUCTION, STAGING, ARCHIVED = "Production", "Staging", "Archived"
MODEL_PATH = "model"
MODEL_FILE = "model.skops"
IDENTITY_TAG = "mlops.identity"


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One version in the registry."""

    name: str
    version: str
    stage: str
    run_id: str
    tags: dict[str, str]


class MLflowManager:
    """MLflow tracking and registry of one home.

    Args:
        settings: The home; None: the environment's.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        from mlops_platform.settings import load_settings

        self.settings = settings or load_settings()
        self._client: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """The MLflow client, connected on first use.

        Raises:
            StorageError: MLflow can't be reached or its database can't be written.
        """
        if self._client is None:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException

            uri = self.settings.tracking_uri
            try:
                self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                self._client.search_experiments(max_results=1)
            except (MlflowException, OSError) as error:
                raise StorageError(
                    f"MLflow at {mask_secrets(uri)} can't be reached: {str(error).splitlines()[0]}",
                    hint="check MLFLOW_TRACKING_URI, or unset it to use the home's own database.",
                ) from error
        return self._client

    def experiment_id(self, name: str) -> str:
        """The experiment's id, created on first use; artifacts of the embedded default go into the home."""
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        embedded = self.settings.mlflow_tracking_uri is None
        location = (self.settings.mlflow_artifacts / name).as_uri() if embedded else None
        return str(self.client.create_experiment(name, artifact_location=location))

    def finished_run(self, experiment: str, identity: str) -> Any | None:
        """The latest finished run that trained this very model; None if there is none."""
        found = self.client.search_runs(
            [self.experiment_id(experiment)],
            filter_string=f"tags.`{IDENTITY_TAG}` = '{identity}' and attributes.status = 'FINISHED'",
            max_results=1,
        )
        return found[0] if found else None

    @contextmanager
    def run(self, experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[str]:
        """A run that ends FINISHED, or FAILED when the body raises; yields its id."""
        run = self.client.create_run(self.experiment_id(experiment), run_name=name, tags=dict(tags))
        run_id = str(run.info.run_id)
        try:
            yield run_id
        except BaseException:
            self.client.set_terminated(run_id, status="FAILED")
            raise
        self.client.set_terminated(run_id, status="FINISHED")

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Logs metrics that differ from what the run already has."""
        known = self.client.get_run(run_id).data.metrics
        for key, value in metrics.items():
            if known.get(key) != value:
                self.client.log_metric(run_id, key, value)

    def log_model(self, run_id: str, model: Any, example: Any) -> None:
        """Saves a fitted Pipeline with skops (no pickle) under the run.

        Args:
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
            self.client.log_artifacts(run_id, str(target), MODEL_PATH)

    def load_model(self, run_id: str) -> Any:
        """Loads a run's Pipeline, trusting the types fixed in our code only.

        Raises:
            ModelError: The run has no model, or it holds a type we don't trust.
        """
        from zipfile import BadZipFile

        import skops.io
        from mlflow.exceptions import MlflowException
        from sklearn.pipeline import Pipeline
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            path = Path(self.client.download_artifacts(run_id, f"{MODEL_PATH}/{MODEL_FILE}"))
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
            raise ModelError(
                f"the model of run {run_id} is no pipeline of features and classifier", hint="train again."
            )
        return model

    def register_model(
        self, model_uri: str, name: str, tags: Mapping[str, str] | None = None, description: str | None = None
    ) -> RegisteredModel:
        """Registers `runs:/<run id>/model` as a version; the version a run already has is returned as it is."""
        run_id = model_uri.removeprefix("runs:/").split("/")[0]
        if not self.client.search_registered_models(filter_string=f"name = '{name}'"):
            self.client.create_registered_model(name, description=description)
        for version in self.client.search_model_versions(f"name = '{name}'"):
            if version.run_id == run_id:
                return _registered(version)
        made = self.client.create_model_version(
            name, source=model_uri, run_id=run_id, tags=dict(tags or {}), description=description
        )
        return _registered(made)

    def transition_model_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool = False
    ) -> RegisteredModel:
        """Moves a version to a stage, and the alias of that name with it."""
        with warnings.catch_warnings():
            # Stages are what the documented workflow uses; MLflow warns in favour of aliases, which are set beside.
            warnings.simplefilter("ignore", FutureWarning)
            moved = self.client.transition_model_version_stage(
                name, version, stage, archive_existing_versions=archive_existing_versions
            )
        aliases = self.client.get_registered_model(name).aliases
        for alias in (PRODUCTION.lower(), STAGING.lower()):
            if alias == stage.lower():
                self.client.set_registered_model_alias(name, alias, version)
            elif str(aliases.get(alias)) == version:
                self.client.delete_registered_model_alias(name, alias)
        return _registered(moved)

    def in_stage(self, name: str, stage: str) -> RegisteredModel | None:
        """The newest version in a stage; None if there is none."""
        found = [_registered(v) for v in self.client.search_model_versions(f"name = '{name}'")]
        staged = [version for version in found if version.stage == stage]
        return max(staged, key=lambda version: int(version.version), default=None)

    def production(self, name: str) -> RegisteredModel:
        """The Production version.

        Raises:
            ModelError: No version is in Production.
        """
        found = self.in_stage(name, PRODUCTION)
        if found is None:
            raise ModelError(
                f"no version of {name} is in Production",
                expected="one version that passed the promotion gate",
                hint="train one with `mlops train`, or look at the gate's reasons: "
                'mlops query "SELECT decision, reason FROM ml.promotions"',
            )
        return found


def _registered(version: ModelVersion) -> RegisteredModel:
    return RegisteredModel(
        name=str(version.name),
        version=str(version.version),
        stage=str(version.current_stage),
        run_id=str(version.run_id),
        tags=dict(version.tags or {}),
    )


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("scikit-learn", "xgboost", "numpy", "skops", "pandas", "pyarrow")]
