"""Data pipeline: the CRM as a source (real, imported or synthetic), CRM to bronze, bronze to silver.

Does not belong here: features, labels, models.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_platform.data_pipeline.ingestion_pipeline import DataIngestionPipeline
    from mlops_platform.data_pipeline.processing_pipeline import DataProcessingPipeline
    from mlops_platform.data_pipeline.transformations import transformation

__all__ = ["DataIngestionPipeline", "DataProcessingPipeline", "transformation"]

_MODULES = {
    "DataIngestionPipeline": "ingestion_pipeline",
    "DataProcessingPipeline": "processing_pipeline",
    "transformation": "transformations",
}


def __getattr__(name: str) -> Any:
    """Loads a documented name when it is first asked for: the contracts' libraries take a while to import."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
