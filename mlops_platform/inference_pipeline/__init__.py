"""Inference pipeline: one scoring path for batch and online, batch predictions, the prediction log.

Belongs here: using a Production model. Does not belong here: making one, HTTP. What is public loads when it is first
asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_platform.inference_pipeline.batch_pipeline import BatchInferencePipeline

_PLACES = {"BatchInferencePipeline": "batch_pipeline"}

__all__ = ["BatchInferencePipeline"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
