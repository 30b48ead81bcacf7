"""`FeatureTransformer`: rows of features to the numeric matrix a model sees, the same in training, batch and serving.

It travels inside the model (first step of the saved Pipeline). Does not belong here: computing features,
reading rows of different kinds (`columns.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin  # a base class must exist when the class is made
from sklearn.exceptions import NotFittedError

from mlops_platform.contracts.features import FEATURE_KINDS
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.columns import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mlops_platform.feature_pipeline.columns import Columns, Rows, Texts


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each feature stands in the matrix.

    Args:
        width: The matrix's columns.
        numeric: Features that are numbers.
        places: Their columns.
        medians: What stands there for a missing one.
        categories: Features that are categories: the column of each known value.
    """

    width: int
    numeric: tuple[str, ...]
    places: NDArray[np.int64]
    medians: NDArray[np.float64]
    categories: dict[str, dict[str, int]]

    def matrix(self, rows: Rows) -> NDArray[np.float64]:
        """The rows as `FeatureTransformer.transform` gives them.

        Raises:
            InputError: A feature is missing, or holds what is no number or text.
        """
        columns = columns_of(rows)
        matrix = np.zeros((columns.size, self.width))
        start = 0
        for block in columns.numbers(self.numeric):
            stop = start + block.shape[1]
            missing = np.isnan(block)
            if missing.any():
                block = np.where(missing, self.medians[start:stop], block)  # noqa: PLW2901 - the same block, filled
            matrix[:, self.places[start:stop]] = block
            start = stop
        for name, column_of in self.categories.items():
            texts = columns.texts(name)
            for place, value in enumerate(texts.values):
                if value in column_of:
                    matrix[texts.rows(place), column_of[value]] = 1.0
        return matrix


class FeatureTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Numbers pass through (missing ones become the training median), categories become one 0/1 column a value.

    A category not seen in training has 0 in all of its columns. Rows may be a DataFrame, an Arrow table, a sequence of
    dictionaries or one dictionary; columns that are no features are ignored. Equal rows give equal bits, whatever holds
    them. Missing is None, NaN, and pandas' NA and NaT.

    Args:
        features: Features to use, in order; None: every declared feature that the fitted rows have. One that is not
            declared is a category where the fitted rows hold texts, else a number.
        max_categories: Most frequent values kept of each category.
    """

    def __init__(self, features: Sequence[str] | None = None, max_categories: int = 50) -> None:
        self.features = features
        self.max_categories = max_categories

    def fit(self, X: Rows, y: Any = None) -> FeatureTransformer:
        """Learns medians and categories from the rows.

        Raises:
            InputError: There is no row, a requested feature is missing, or a value is neither number nor text.
        """
        columns = columns_of(X)
        wanted = self._wanted(columns)
        kinds = {name: FEATURE_KINDS.get(name) or _kind(columns, name) for name in wanted}
        numeric = [name for name in wanted if kinds[name] == "numeric"]
        blocks = columns.numbers(numeric)
        numbers = (block[:, place] for block in blocks for place in range(block.shape[1]))
        self.medians_ = {name: _median(column) for name, column in zip(numeric, numbers, strict=True)}
        self.categories_ = {
            name: _most_frequent(columns.texts(name), self.max_categories)
            for name in wanted
            if kinds[name] == "categorical"
        }
        self.feature_names_in_ = np.array(wanted, dtype=object)
        self.n_features_in_ = len(wanted)
        return self

    def transform(self, X: Rows) -> NDArray[np.float64]:
        """The matrix: one row a row, one column a name of `get_feature_names_out`.

        Raises:
            InputError: A feature the transformer was fitted on is missing, or holds what is no number or text.
            NotFittedError: `fit` has not been called.
        """
        return self.layout().matrix(X)

    def layout(self) -> Layout:
        """Where each feature stands in the matrix: what `transform` needs, for callers with row after row.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        self._require_fitted()
        places: dict[str, int] = {}
        width = 0
        for name in self.feature_names_in_:
            places[name] = width
            width += len(self.categories_[name]) if name in self.categories_ else 1
        return Layout(
            width=width,
            numeric=tuple(self.medians_),
            places=np.array([places[name] for name in self.medians_], dtype=np.int64),
            medians=np.array(list(self.medians_.values()), dtype=np.float64),
            categories={
                name: {category: places[name] + n for n, category in enumerate(known)}
                for name, known in self.categories_.items()
            },
        )

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> NDArray[np.object_]:
        """Names of the matrix's columns.

        Args:
            input_features: As scikit-learn's pipelines pass it; if given, the features the transformer was fitted on.

        Raises:
            InputError: `input_features` are others.
            NotFittedError: `fit` has not been called.
        """
        self._require_fitted()
        if input_features is not None and list(input_features) != self.feature_names_in_.tolist():
            raise InputError(
                f"input_features are {', '.join(map(str, input_features))}",
                expected=f"the fitted ones: {', '.join(self.feature_names_in_)}",
            )
        names: list[str] = []
        for name in self.feature_names_in_:
            known = self.categories_.get(name)
            names += [name] if known is None else [f"{name}={category}" for category in known]
        return np.array(names, dtype=object)

    def _wanted(self, columns: Columns) -> list[str]:
        present = set(columns.names)
        wanted = [name for name in FEATURE_KINDS if name in present] if self.features is None else list(self.features)
        if isinstance(self.features, str) or len(set(wanted)) < len(wanted):
            raise InputError(f"features is {self.features!r}", expected="a list of different names")
        if not wanted:
            raise InputError(
                "the rows hold no feature", expected=f"columns such as {', '.join(list(FEATURE_KINDS)[:3])}"
            )
        if not columns.size:
            raise InputError("there are no rows to fit on", expected="at least one row")
        return wanted

    def _require_fitted(self) -> None:
        # scikit-learn's own check costs as much as transforming a request's row.
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this FeatureTransformer is not fitted yet: call fit or fit_transform with rows first")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "feature_names_in_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


def _kind(columns: Columns, name: str) -> str:
    return "categorical" if columns.is_text(name) else "numeric"


def _median(numbers: NDArray[np.float64]) -> float:
    known = numbers[np.isfinite(numbers)]
    return float(np.median(known)) if known.size else 0.0


def _most_frequent(texts: Texts, limit: int) -> list[str]:
    """The most frequent texts, sorted by code point, so that the matrix does not depend on row order."""
    counts: Counter[str] = Counter()
    for value, rows in zip(texts.values, texts.counts(), strict=True):
        if value is not None and rows:
            counts[str(value)] += rows
    return sorted(sorted(counts, key=lambda text: (-counts[text], text))[:limit])
