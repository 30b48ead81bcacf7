"""Feature pipeline: silver transactions to the feature store, one state per customer and feature_date.

Belongs here: extract, transform, validate, load, and the transformer that travels inside the model. Does not belong
here: labels, models. What is public loads when it is first asked for: scikit-learn and Pandera cost seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import Column, ColumnType
from mlops_platform.contracts.features import Aggregate, Derived, Feature, MostFrequent, Score

if TYPE_CHECKING:
    from mlops_platform.feature_pipeline.compute import compute_features
    from mlops_platform.feature_pipeline.extract import extract_transactions
    from mlops_platform.feature_pipeline.load import features_draft
    from mlops_platform.feature_pipeline.pipeline import FeaturePipeline, publish_features, refresh_features
    from mlops_platform.feature_pipeline.point_in_time import features_as_of, features_on
    from mlops_platform.feature_pipeline.transformer import FeatureTransformer
    from mlops_platform.feature_pipeline.validate import feature_schema, validate_features

_PLACES = {
    "FeaturePipeline": "pipeline",
    "FeatureTransformer": "transformer",
    "compute_features": "compute",
    "extract_transactions": "extract",
    "feature_schema": "validate",
    "features_as_of": "point_in_time",
    "features_draft": "load",
    "features_on": "point_in_time",
    "publish_features": "pipeline",
    "refresh_features": "pipeline",
    "validate_features": "validate",
}

__all__ = [
    "Aggregate",
    "Column",
    "ColumnType",
    "Derived",
    "Feature",
    "FeaturePipeline",
    "FeatureTransformer",
    "MostFrequent",
    "Score",
    "compute_features",
    "extract_transactions",
    "feature_schema",
    "features_as_of",
    "features_draft",
    "features_on",
    "publish_features",
    "refresh_features",
    "validate_features",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
