"""Training pipeline: labels, dataset, models, evaluation, registry, promotion.

Belongs here: everything from a labelled row to a Production model. Does not belong here: computing features, scoring.
What is public loads when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_platform.training_pipeline.models import model_type
    from mlops_platform.training_pipeline.pipeline import TrainingPipeline
    from mlops_platform.training_pipeline.registry import MLflowManager

_PLACES = {"MLflowManager": "registry", "TrainingPipeline": "pipeline", "model_type": "models"}

__all__ = ["MLflowManager", "TrainingPipeline", "model_type"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
