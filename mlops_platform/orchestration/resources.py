"""Resources: plain domain objects that assets ask for by name, made for one home.

Does not belong here: the objects themselves; none is opened before a step uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_platform.orchestration.io_managers import IcebergIOManager, ReferenceIOManager
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.registry import MLflowManager

if TYPE_CHECKING:
    from mlops_platform.settings import Settings


def make_resources(settings: Settings) -> dict[str, Any]:
    """The home's tables, its MLflow, and the two IO managers."""
    return {
        "lake": Lake(settings),
        "mlflow": MLflowManager(settings),
        "iceberg": IcebergIOManager(settings),
        "references": ReferenceIOManager(settings.home / "references"),
    }
