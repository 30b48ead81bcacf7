"""The transformer that travels in the model: the same matrix from every kind of rows, now and after a round trip."""

from __future__ import annotations

import io
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mlops_platform.contracts import FEATURE_NAMES
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline import FeatureTransformer

ROWS: list[dict[str, Any]] = [
    {
        "customer_id": f"c{n}",
        "tenure_days": None if n % 5 == 0 else n,
        "churn_score": n / 7,
        "total_value_365d": 0.1 * n,
        "preferred_category": [None, "books", "", "é", "books"][n % 5],
        "customer_segment": "premium" if n % 2 else "bronze",
    }
    for n in range(20)
]
NAMES = [
    "preferred_category=",
    "preferred_category=books",
    "preferred_category=é",
    "tenure_days",
    "total_value_365d",
    "customer_segment=bronze",
    "customer_segment=premium",
    "churn_score",
]
SHAPES = {"dicts": ROWS, "frame": pd.DataFrame(ROWS), "arrow": pa.Table.from_pylist(ROWS)}
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture
def fitted() -> FeatureTransformer:
    return FeatureTransformer().fit(SHAPES["frame"])


@EVERY_SHAPE
@pytest.mark.parametrize("fitted_on", SHAPES)
def test_every_kind_of_rows_gives_the_same_bits(shape: str, fitted_on: str) -> None:
    expected = FeatureTransformer().fit(SHAPES["frame"]).transform(SHAPES["frame"])
    found = FeatureTransformer().fit(SHAPES[fitted_on]).transform(SHAPES[shape])
    assert found.dtype == np.float64
    assert found.tobytes() == expected.tobytes()


@EVERY_SHAPE
def test_one_row_is_scored_like_many(fitted: FeatureTransformer, shape: str) -> None:
    many = fitted.transform(SHAPES[shape])
    for n in range(len(ROWS)):
        assert fitted.transform([ROWS[n]]).tobytes() == many[n].tobytes()
        assert fitted.transform(SHAPES["arrow"].slice(n, 1)).tobytes() == many[n].tobytes()


def test_columns_follow_the_declarations_not_the_rows(fitted: FeatureTransformer) -> None:
    assert fitted.get_feature_names_out().tolist() == NAMES
    shuffled = pd.DataFrame(ROWS)[sorted(ROWS[0], reverse=True)].assign(extra=1)
    assert FeatureTransformer().fit(shuffled).get_feature_names_out().tolist() == NAMES
    assert fitted.transform(shuffled).tobytes() == fitted.transform(ROWS).tobytes()


def test_row_order_does_not_change_what_is_learned(fitted: FeatureTransformer) -> None:
    assert FeatureTransformer().fit(ROWS[::-1]).get_feature_names_out().tolist() == NAMES
    assert FeatureTransformer().fit(ROWS[::-1]).medians_ == fitted.medians_


def test_requested_features_in_their_order() -> None:
    transformer = FeatureTransformer(features=["churn_score", "customer_segment"]).fit(ROWS)
    expected = ["churn_score", "customer_segment=bronze", "customer_segment=premium"]
    assert transformer.get_feature_names_out().tolist() == expected
    assert transformer.transform(ROWS)[3].tolist() == [3 / 7, 0.0, 1.0]


def test_missing_numbers_become_the_training_median(fitted: FeatureTransformer) -> None:
    known = [row["tenure_days"] for row in ROWS if row["tenure_days"] is not None]
    column = NAMES.index("tenure_days")
    for missing in (None, float("nan"), np.nan):
        assert fitted.transform([{**ROWS[1], "tenure_days": missing}])[0, column] == np.median(known)
    assert fitted.transform([{**ROWS[1], "tenure_days": 0}])[0, column] == 0


def test_a_column_without_any_number_becomes_zero() -> None:
    transformer = FeatureTransformer().fit(pd.DataFrame({"tenure_days": [np.nan, np.nan]}))
    assert transformer.transform([{"tenure_days": None}]).tolist() == [[0.0]]


@pytest.mark.parametrize("value", ["unseen", None, "BOOKS", "nan"])
def test_a_category_not_seen_in_training_has_no_column(fitted: FeatureTransformer, value: str | None) -> None:
    columns = [n for n, name in enumerate(NAMES) if name.startswith("preferred_category")]
    assert not fitted.transform([{**ROWS[1], "preferred_category": value}])[0, columns].any()


@pytest.mark.parametrize("missing", [np.nan, pd.NA], ids=["NaN", "NA"])
def test_a_missing_category_of_pandas_is_no_category(missing: Any) -> None:
    transformer = FeatureTransformer().fit(pd.DataFrame({"preferred_category": ["a", missing, "b"]}))
    assert transformer.get_feature_names_out().tolist() == ["preferred_category=a", "preferred_category=b"]


def test_the_most_frequent_categories_are_kept() -> None:
    values = ["c", "c", "b", "a", "a", "d"]
    transformer = FeatureTransformer(max_categories=3).fit([{"preferred_category": value} for value in values])
    assert transformer.categories_ == {"preferred_category": ["a", "b", "c"]}


@EVERY_SHAPE
def test_a_missing_feature_is_named(fitted: FeatureTransformer, shape: str) -> None:
    without: Any = {
        "dicts": [{k: v for k, v in ROWS[1].items() if k != "churn_score"}],
        "frame": SHAPES["frame"].drop(columns="churn_score"),
        "arrow": SHAPES["arrow"].drop_columns(["churn_score"]),
    }[shape]
    with pytest.raises(InputError, match="feature churn_score is missing"):
        fitted.transform(without)


def test_a_value_that_is_no_number_is_named(fitted: FeatureTransformer) -> None:
    with pytest.raises(InputError, match="feature churn_score holds a value that is no number"):
        fitted.transform([{**ROWS[1], "churn_score": "high"}])


def test_rows_without_any_feature_are_refused() -> None:
    with pytest.raises(InputError, match="hold no feature"):
        FeatureTransformer().fit(pd.DataFrame({"customer_id": ["a"]}))


@pytest.mark.parametrize("shape", ["frame", "arrow"])
def test_no_row_is_an_empty_matrix(fitted: FeatureTransformer, shape: str) -> None:
    none = SHAPES["frame"].head(0) if shape == "frame" else SHAPES["arrow"].slice(0, 0)
    assert fitted.transform(none).shape == (0, len(NAMES))


def test_every_declared_feature_is_used() -> None:
    texts = {"preferred_category": "a", "preferred_payment_method": "b", "customer_segment": "c"}
    row = {name: texts.get(name, 1.0) for name in FEATURE_NAMES}
    assert FeatureTransformer().fit([row]).feature_names_in_.tolist() == list(FEATURE_NAMES)


def test_a_saved_transformer_gives_the_same_bits(fitted: FeatureTransformer) -> None:
    saved = io.BytesIO()
    joblib.dump(fitted, saved)
    saved.seek(0)
    loaded = joblib.load(saved)
    assert loaded.transform(ROWS).tobytes() == fitted.transform(ROWS).tobytes()
    assert loaded.get_feature_names_out().tolist() == NAMES


def test_a_clone_has_the_parameters_and_nothing_learned(fitted: FeatureTransformer) -> None:
    copy = clone(fitted.set_params(max_categories=7))
    assert copy.get_params() == {"features": None, "max_categories": 7}
    assert not hasattr(copy, "medians_")


def test_set_output_makes_a_frame_with_names_and_index() -> None:
    transformer = FeatureTransformer().set_output(transform="pandas").fit(ROWS)
    frame = transformer.transform(SHAPES["frame"].iloc[::-1])
    assert frame.columns.tolist() == NAMES
    assert frame.index.tolist() == list(range(19, -1, -1))
    assert transformer.transform(ROWS).columns.tolist() == NAMES


@EVERY_SHAPE
def test_it_is_the_first_step_of_a_pipeline(shape: str) -> None:
    churned = [n % 2 for n in range(len(ROWS))]
    pipeline = make_pipeline(FeatureTransformer(), LogisticRegression())
    chances = pipeline.fit(SHAPES["frame"], churned).predict_proba(SHAPES[shape])
    assert chances.tobytes() == pipeline.predict_proba(ROWS).tobytes()
