"""The model types: one small registry from a name to an estimator with its defaults.

Every model is one scikit-learn Pipeline, FeatureTransformer first, so that what was fitted is what is served. Does not
belong here: fitting, saving.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mlops_platform.errors import InputError

RANDOM_STATE = 42

# Types a saved model may hold beside scikit-learn's and NumPy's own; fixed here, never read from the model.
TRUSTED_TYPES = (
    "mlops_platform.feature_pipeline.transformer.FeatureTransformer",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)


def _xgboost(parameters: Mapping[str, Any]) -> Any:
    from xgboost import XGBClassifier

    # Shallow and regularised: 100 trees of depth 10 overfit churn data (CDNOW .810 against .838 ROC-AUC).
    defaults: dict[str, Any] = {
        "n_estimators": 300,
        "max_depth": 3,
        "learning_rate": 0.05,
        "subsample": 0.8,
        "colsample_bytree": 0.7,
        "min_child_weight": 20,
        "random_state": RANDOM_STATE,
        "n_jobs": 2,
        "tree_method": "hist",
        "eval_metric": "logloss",
    }
    return XGBClassifier(**(defaults | dict(parameters)))


MODEL_TYPES: dict[str, Callable[[Mapping[str, Any]], Any]] = {"xgboost": _xgboost}
DEFAULT_MODEL_TYPE = "xgboost"


def make_model(model_type: str = DEFAULT_MODEL_TYPE, hyperparameters: Mapping[str, Any] | None = None) -> Any:
    """An unfitted Pipeline of FeatureTransformer and classifier.

    Raises:
        InputError: Unknown model type or hyperparameter.
    """
    from sklearn.pipeline import Pipeline

    from mlops_platform.feature_pipeline import FeatureTransformer

    if model_type not in MODEL_TYPES:
        raise InputError(f"{model_type!r} is no model type", expected=f"one of {', '.join(sorted(MODEL_TYPES))}")
    known = set(MODEL_TYPES[model_type]({}).get_params())
    unknown = set(hyperparameters or {}) - known
    if unknown:
        raise InputError(
            f"{model_type} has no hyperparameter {', '.join(sorted(unknown))}",
            expected=f"some of {', '.join(sorted(known))}",
        )
    classifier = MODEL_TYPES[model_type](hyperparameters or {})
    return Pipeline([("features", FeatureTransformer()), ("classifier", classifier)])


def code_digest() -> str:
    """Digest of the source that shapes a model: part of its identity."""
    import hashlib

    from mlops_platform.feature_pipeline import columns, transformer
    from mlops_platform.training_pipeline import train

    found = hashlib.sha256()
    for module in (columns, transformer, train, inspect.getmodule(make_model)):
        found.update(inspect.getsource(module).encode())  # type: ignore[arg-type]
    return found.hexdigest()[:16]
