"""Feature pipeline: silver transactions to the feature store, one state per customer and feature_date.

Belongs here: extract, transform, load, and the transformer that travels inside the model. Does not belong here: labels,
models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_platform.feature_pipeline.transformer import FeatureTransformer

__all__ = ["FeatureTransformer"]


def __getattr__(name: str) -> Any:
    """Loads `FeatureTransformer` when it is first asked for: scikit-learn costs 1.8 s of CPU to import."""
    if name == "FeatureTransformer":
        from mlops_platform.feature_pipeline.transformer import FeatureTransformer

        return FeatureTransformer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
