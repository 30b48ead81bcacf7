"""Fitting: train rows to a calibrated Pipeline with its threshold, and the model's hash. No MLflow.

The classifier sees train rows only; the calibration and the threshold come from the customers held back, the
validation rows. Does not belong here: the test rows (`held_out.py`), keeping what was fitted (`train.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.evaluation import best_threshold, evaluate

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mlops_platform.training_pipeline.evaluation import Metrics


@dataclass(frozen=True, slots=True)
class FittedModel:
    """What a fit gives.

    Args:
        pipeline: FeatureTransformer and CalibratedClassifier.
        threshold: A customer is predicted to churn at or above this probability: the highest F1 on validation rows.
        validation: Quality on the validation rows, which calibration and threshold come from.
        train_rows: Rows the classifier was fitted on.
        validation_rows: Rows held back.
    """

    pipeline: Any
    threshold: float
    validation: Metrics
    train_rows: int
    validation_rows: int

    @property
    def hash(self) -> str:
        """Hash of everything fitted: equal rows, parameters, code and libraries give it again, in any process.

        Only of a Pipeline as it was fitted: one that was read from a file holds the same numbers in other arrays.
        """
        import joblib

        return str(joblib.hash(self.pipeline))


class FitParts(NamedTuple):
    """The rows a classifier is fitted on, and those of the customers held back; each has the features and `churned`."""

    train: pa.Table
    validation: pa.Table


def split_for_fit(rows: pa.Table) -> FitParts:
    """The train and validation rows among rows with `split`."""
    return FitParts(split_rows(rows, "train"), split_rows(rows, "validation"))


def fit(model: Any, rows: pa.Table) -> FittedModel:
    """Fits a model on rows with features, `churned` and `split`; see `fit_parts`."""
    return fit_parts(model, split_for_fit(rows))


def fit_parts(model: Any, parts: FitParts) -> FittedModel:
    """Fits a model.

    Args:
        model: Unfitted Pipeline of `make_model`; it is fitted in place.
        parts: The rows.

    Raises:
        InputError: The classifier refuses a hyperparameter's value.
    """
    train, validation = parts
    pipeline = calibrate(fit_pipeline(model, train, labels_of(train)), validation)
    probabilities = pipeline.predict_proba(validation)[:, 1]
    threshold = best_threshold(labels_of(validation), probabilities)
    quality = evaluate(labels_of(validation), probabilities, threshold)
    return FittedModel(pipeline, threshold, quality, train.num_rows, validation.num_rows)


def fit_pipeline(model: Any, rows: pa.Table | pd.DataFrame, labels: Any) -> Any:
    """Fits a model on all rows given, in place; it is not calibrated.

    Raises:
        InputError: The classifier refuses a hyperparameter's value.
    """
    try:
        return model.fit(rows, labels)
    except ValueError as error:
        # The rows passed their contract: what a classifier refuses is a value of its parameters.
        raise InputError(
            f"the model refuses its hyperparameters: {str(error).strip().splitlines()[0]}",
            expected="values of the types its documentation names",
        ) from error


def calibrate(model: Any, validation: pa.Table) -> Any:
    """A Pipeline with the fitted model's steps, the probabilities corrected on rows it was not fitted on.

    Where the rows have a feature_date, the newest one's churn rate is the one to match.
    """
    from sklearn.pipeline import Pipeline

    from mlops_platform.training_pipeline.calibration import CalibratedClassifier

    features = model["features"]
    corrected = CalibratedClassifier(model["classifier"]).fit(
        features.transform(validation), labels_of(validation), _newest(validation)
    )
    return Pipeline([("features", features), ("classifier", corrected)])


def _newest(rows: pa.Table) -> Any:
    import pyarrow.compute as pc

    if "feature_date" not in rows.column_names:
        return None
    days = rows.column("feature_date")
    newest = rows.filter(pc.equal(days, pc.max(days)))
    if len(newest.column(TARGET).unique()) < 2:
        return None  # One class has no level.
    return pc.equal(days, pc.max(days)).to_numpy()


def labels_of(rows: pa.Table) -> Any:
    """`churned` as an array, shape (n,)."""
    return rows.column(TARGET).to_numpy()
