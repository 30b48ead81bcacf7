"""The model registry: MLflow runs, versions and stages, with every call explicit about where it goes.

No global tracking state is touched. Does not belong here: how a stage is changed (`stages.py`), deciding which version
deserves which (`promotion.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops_platform import clock
from mlops_platform.errors import InputError, ModelError, StorageError
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.locks import table_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException

    from mlops_platform.settings import Settings

PRODUCTION, STAGING, ARCHIVED, NO_STAGE = "Production", "Staging", "Archived", "None"
MODEL_PATH = "model"
MODEL_FILE = "model.skops"
IDENTITY_TAG = "mlops.identity"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One version in the registry."""

    name: str
    version: str
    stage: str
    run_id: str
    tags: dict[str, str]
    created_at: datetime | None = None


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

    def log_model(self, run_id: str, model: Any, sample: Any) -> None:
        """Saves a fitted Pipeline under the run; see `model_files.py`."""
        from mlops_platform.training_pipeline.model_files import save_model

        save_model(self.client, run_id, model, sample)

    def load_model(self, run_id: str) -> Any:
        """Loads a run's Pipeline, trusting the types fixed in our code only.

        Raises:
            ModelError: The run has no model, or it holds a type we don't trust.
        """
        from mlops_platform.training_pipeline.model_files import load_model

        return load_model(self.client, run_id)

    def register_model(
        self, model_uri: str, name: str, tags: Mapping[str, str] | None = None, description: str | None = None
    ) -> RegisteredModel:
        """Registers a run's model as a version; a run that has one already keeps it, and the tags are set on it.

        Args:
            model_uri: `runs:/<run id>/model`.
            name: The model's name; it is made where it is new.
            tags: Tags of the version.
            description: Of the version, and of a model that is new.

        Raises:
            InputError: There is no such run, or the name can't be one.
        """
        from mlflow.exceptions import MlflowException

        run_id = model_uri.removeprefix("runs:/").split("/")[0]
        try:
            if not model_uri.startswith("runs:/"):
                raise InputError(f"{model_uri!r} names no model of a run", expected="runs:/RUN_ID/model")
            self.client.get_run(run_id)
            self._ensure_model(name, description)
        except MlflowException as error:
            raise _refused(error, f"{model_uri} can't be registered as {name!r}") from error
        # Two processes that register one run would make two versions of it.
        with table_lock(self.settings, f"model.{name}"):
            for version in self.versions(name):
                if version.run_id == run_id:
                    return self._tag(version, tags or {})
            made = self.client.create_model_version(
                name, source=model_uri, run_id=run_id, tags=dict(tags or {}), description=description
            )
        return _registered(made)

    def _ensure_model(self, name: str, description: str | None) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _tag(self, version: RegisteredModel, tags: Mapping[str, str]) -> RegisteredModel:
        changed = {key: str(value) for key, value in tags.items() if version.tags.get(key) != str(value)}
        for key, value in changed.items():
            self.client.set_model_version_tag(version.name, version.version, key, value)
        return replace(version, tags=version.tags | changed)

    def transition_model_stage(
        self, name: str, version: str | int, stage: str, archive_existing_versions: bool = False
    ) -> RegisteredModel:
        """Moves a version to a stage, and the alias of that name with it.

        Into Production, or out of it, by this call is a person's decision: a row of ml.promotions, marked manual (or
        withdrawn). There is one Production version: the one before is always archived.

        Args:
            name: The model.
            version: Its version.
            stage: None, Staging, Production or Archived.
            archive_existing_versions: Whether the versions that are in Staging are archived.

        Raises:
            InputError: There is no such model, version or stage.
            StorageError: MLflow or ml.promotions can't be written.
        """
        from mlops_platform.training_pipeline.stages import transition

        return transition(
            self,
            Lake(self.settings),
            name,
            version,
            stage,
            archive_existing_versions=archive_existing_versions,
            at=clock.now(self.settings),
        )

    def versions(self, name: str) -> list[RegisteredModel]:
        """Every version, oldest first; none where there is no such model."""
        found = [_registered(version) for version in self.client.search_model_versions(f"name = {_literal(name)}")]
        return sorted(found, key=lambda version: int(version.version))

    def require_versions(self, name: str) -> list[RegisteredModel]:
        """Every version, oldest first.

        Raises:
            InputError: There is none.
        """
        found = self.versions(name)
        if not found:
            known = [str(model.name) for model in self.client.search_registered_models(max_results=_SHOWN)]
            raise InputError(
                f"there is no model {name!r}",
                expected=f"one of {', '.join(known)}" if known else "a registered model; there is none yet",
                hint="`mlops train` trains and registers one.",
            )
        return found

    def version(self, name: str, version: str | int) -> RegisteredModel:
        """One version.

        Raises:
            InputError: There is no such model or version.
        """
        known = {found.version: found for found in self.require_versions(name)}
        if str(version) not in known:
            latest = list(known)[-_SHOWN:]
            raise InputError(
                f"{name} has no version {version}",
                expected=f"one of {', '.join(latest)}" + (" or an earlier one" if len(known) > _SHOWN else ""),
            )
        return known[str(version)]

    def in_stage(self, name: str, stage: str) -> RegisteredModel | None:
        """The newest version in a stage; None if there is none."""
        staged = [version for version in self.versions(name) if version.stage == stage]
        return staged[-1] if staged else None

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
                hint="train one with `mlops train`, or look at the gate's reasons: `mlops models history`.",
            )
        return found


def _registered(version: ModelVersion) -> RegisteredModel:
    return RegisteredModel(
        name=str(version.name),
        version=str(version.version),
        stage=str(version.current_stage),
        run_id=str(version.run_id or ""),
        tags=dict(version.tags or {}),
        created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
    )


def _literal(name: str) -> str:
    """A name in MLflow's filter language, which has no way to write both quotes."""
    return f'"{name}"' if "'" in name else f"'{name}'"


def _refused(error: MlflowException, what: str) -> InputError | StorageError:
    """MLflow's answer to a mistake of the caller's; anything else is its own trouble."""
    message = str(error.message).splitlines()[0]
    if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
        return InputError(f"{what}: {message}", expected="runs:/RUN_ID/model of a run, and a name without / and :")
    return StorageError(f"{what}: {message}")
