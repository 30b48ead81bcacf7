"""Explanations: what each feature adds to a row's log-odds of churning, exactly.

TreeSHAP for XGBoost, coefficient × (value − mean) for a logistic model (`training_pipeline/shap_summary.py` computes
both), brought to the log-odds of the probability that is answered. None of it says what would happen to a customer
whose feature was changed. Does not belong here: averages over many rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_platform.errors import InputError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_platform.inference_pipeline.predictor import ScoredRows


# Rounding of float32, and of a probability near 0 or 1, stays below this share of the contributions' sizes.
_LARGEST_GAP = 1e-5


@dataclass(frozen=True, slots=True)
class Contributions:
    """Explanations of n rows: `base + values.sum(axis=1)` is `margins`.

    Args:
        base: Log-odds before any feature is looked at.
        values: What each feature adds, in log-odds, shape (n, features), in the model's order; the 0/1 columns of a
            category are added up.
        margins: Log-odds of the probability that the model answers, shape (n,).
    """

    base: float
    values: NDArray[np.float64]
    margins: NDArray[np.float64]


def explain(pipeline: Any, rows: ScoredRows) -> Contributions:
    """Explains rows.

    Args:
        pipeline: Fitted Pipeline of FeatureTransformer and classifier, calibrated or not.
        rows: n ≥ 1 rows that hold the model's features; other columns are ignored.

    Raises:
        InputError: There is no row, or a feature is missing or no number.
        ModelError: The model's type has no exact contributions.
    """
    from mlops_platform.training_pipeline.shap_summary import contributions

    if not len(rows):
        raise InputError("there are no rows to explain", expected="at least one")
    given: Any = rows
    found = contributions(pipeline, given)
    if found is None:
        raise ModelError(
            "this type of model has no exact contributions",
            expected="a model of type xgboost or logistic_regression",
            hint="`mlops train --model-type xgboost` trains one.",
        )
    values, base = found
    margins = _margins(pipeline, given)
    # Contributions are sums of float32: what is missing, as a rule some 1e-6, goes to each feature by the size of its
    # contribution.
    sizes = np.abs(values) + np.finfo(np.float64).tiny
    missing = margins - base - values.sum(axis=1)
    if (np.abs(missing) > _LARGEST_GAP * (1.0 + sizes.sum(axis=1))).any():
        raise ModelError(
            f"the contributions do not add up to the model's log-odds: {np.abs(missing).max():.2g} is missing"
        )
    return Contributions(base, values + (missing / sizes.sum(axis=1))[:, None] * sizes, margins)


def _margins(pipeline: Any, rows: Any) -> NDArray[np.float64]:
    """The log-odds that the answered probability is made from: finite where it is 0 or 1."""
    from mlops_platform.training_pipeline.calibration import CalibratedClassifier, margins

    classifier, slope, intercept = pipeline["classifier"], 1.0, 0.0
    if isinstance(classifier, CalibratedClassifier):
        classifier, slope, intercept = classifier.classifier, classifier.slope_, classifier.intercept_
    return slope * margins(classifier, pipeline["features"].transform(rows)) + intercept
