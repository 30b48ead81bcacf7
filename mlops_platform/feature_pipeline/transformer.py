"""`FeatureTransformer`: rows of features to the numeric matrix a model sees, the same in training, batch and serving.

It travels inside the model (first step of the saved Pipeline). Does not belong here: computing features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin  # a base class must exist when the class is made

from mlops_platform.contracts.features import FEATURE_KINDS
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Rows: TypeAlias = pd.DataFrame | pa.Table | Sequence[Mapping[str, Any]]


class FeatureTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Numbers pass through (missing ones become the training median), categories become one 0/1 column a value.

    A category not seen in training has 0 in all of its columns. Rows may be a DataFrame, an Arrow table or a sequence
    of dictionaries; columns that are no features are ignored.

    Args:
        features: Features to use, in order; None: every declared feature that the fitted rows have.
        max_categories: Most frequent values kept of each category.
    """

    def __init__(self, features: Sequence[str] | None = None, max_categories: int = 50) -> None:
        self.features = features
        self.max_categories = max_categories

    def fit(self, X: Rows, y: Any = None) -> FeatureTransformer:
        """Learns medians and categories from the rows.

        Raises:
            InputError: A requested feature is missing from the rows.
        """
        present = _names(X)
        wanted = list(self.features) if self.features is not None else [n for n in FEATURE_KINDS if n in present]
        if not wanted:
            raise InputError(
                "the rows hold no feature", expected=f"columns such as {', '.join(list(FEATURE_KINDS)[:3])}"
            )
        self.feature_names_in_ = np.array(wanted, dtype=object)
        self.n_features_in_ = len(wanted)
        self.medians_: dict[str, float] = {}
        self.categories_: dict[str, list[str]] = {}
        for name in wanted:
            values = _column(X, name)
            if FEATURE_KINDS.get(name, "numeric") == "categorical":
                self.categories_[name] = _most_frequent(values, self.max_categories)
            else:
                numbers = _numbers(name, values)
                known = numbers[~np.isnan(numbers)]
                self.medians_[name] = float(np.median(known)) if known.size else 0.0
        return self

    def transform(self, X: Rows) -> NDArray[np.float64]:
        """The matrix: one row a row, one column a name of `get_feature_names_out`.

        Raises:
            InputError: A feature the transformer was fitted on is missing or no number.
        """
        columns: list[NDArray[np.float64]] = []
        for name in self.feature_names_in_:
            values = _column(X, name)
            if name in self.categories_:
                texts = np.asarray(values, dtype=object)
                columns += [(texts == category).astype(np.float64) for category in self.categories_[name]]
            else:
                numbers = _numbers(name, values)
                columns.append(np.where(np.isnan(numbers), self.medians_[name], numbers))
        return np.column_stack(columns)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the matrix's columns."""
        names: list[str] = []
        for name in self.feature_names_in_:
            known = self.categories_.get(name)
            names += [name] if known is None else [f"{name}={category}" for category in known]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


def _names(rows: Any) -> set[str]:
    if hasattr(rows, "column_names"):
        return set(rows.column_names)
    if hasattr(rows, "columns"):
        return set(rows.columns)
    return {name for row in rows for name in row}


def _column(rows: Any, name: str) -> Any:
    """One column as a NumPy array."""
    try:
        if hasattr(rows, "column_names"):
            return rows.column(name).to_numpy(zero_copy_only=False)
        if hasattr(rows, "columns"):
            return rows[name].to_numpy()
        return np.array([row[name] for row in rows], dtype=object)
    except KeyError as error:
        raise InputError(f"feature {name} is missing", expected="every feature the model was trained on") from error


def _numbers(name: str, values: Any) -> NDArray[np.float64]:
    try:
        if values.dtype == object:
            values = np.array([np.nan if value is None else value for value in values], dtype=object)
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"feature {name} holds a value that is no number: {error}") from error


def _most_frequent(values: Any, limit: int) -> list[str]:
    """The most frequent texts, sorted by code point, so that the matrix does not depend on row order."""
    texts, counts = np.unique([value for value in values if isinstance(value, str)], return_counts=True)
    order = np.lexsort((texts, -counts))[:limit]
    return sorted(str(text) for text in texts[order])
