"""The versions of a model as a person looks at them: what they are, how they scored, two of them side by side.

Does not belong here: printing them (`console_models.py`), changing their stage (`stages.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.training_pipeline.train import MODEL_TYPE_TAG, TRAINING_SNAPSHOT_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version with its run's metrics.

    Args:
        model: Its registry entry.
        metrics: Metrics by name; none where the run is gone.
    """

    model: RegisteredModel
    metrics: Mapping[str, float]

    @property
    def model_type(self) -> str | None:
        """Name of the model type, where it was registered with it."""
        return self.model.tags.get(MODEL_TYPE_TAG)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions side by side."""

    one: Version
    other: Version

    @property
    def metrics(self) -> list[tuple[str, float | None, float | None]]:
        """Metric and both values, those of the test rows first; None: that run has no such metric."""
        names = sorted({*self.one.metrics, *self.other.metrics}, key=lambda name: (not name.startswith("test_"), name))
        return [(name, self.one.metrics.get(name), self.other.metrics.get(name)) for name in names]

    @property
    def is_on_equal_rows(self) -> bool:
        """Whether both were trained and tested on the same snapshot of ml.training_set."""
        one, other = (version.model.tags.get(TRAINING_SNAPSHOT_TAG) for version in (self.one, self.other))
        return one is not None and one == other


def list_versions(manager: MLflowManager, name: str) -> list[Version]:
    """Every version, oldest first.

    Raises:
        InputError: There is none.
    """
    return [Version(model, _metrics(manager, model.run_id)) for model in manager.require_versions(name)]


def compare_versions(manager: MLflowManager, name: str, one: str, other: str) -> Comparison:
    """Two versions.

    Raises:
        InputError: There is no such model or version.
    """
    models = [manager.version(name, version) for version in (one, other)]
    return Comparison(*(Version(model, _metrics(manager, model.run_id)) for model in models))


def _metrics(manager: MLflowManager, run_id: str) -> dict[str, float]:
    from mlflow.exceptions import MlflowException

    try:
        return dict(manager.client.get_run(run_id).data.metrics)
    except MlflowException as error:
        # A run may be deleted for good, and a version of another tool may have none.
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        return {}
