"""The transformer that travels in the model: the same matrix from every kind of rows, now and after a round trip."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from mlops_platform.contracts import STANDARD
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
    columns = [NAMES.index("tenure_days"), NAMES.index("churn_score")]
    known = [row["tenure_days"] for row in ROWS if row["tenure_days"] is not None]
    medians = [np.median(known), np.median([row["churn_score"] for row in ROWS])]
    for missing in (None, float("nan"), np.float32("nan")):
        found = fitted.transform([{**ROWS[1], "tenure_days": missing, "churn_score": missing}])
        assert found[0, columns].tolist() == medians
    assert fitted.transform([{**ROWS[1], "tenure_days": 0}])[0, columns[0]] == 0


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


@EVERY_SHAPE
def test_a_value_that_is_no_text_is_named(shape: str) -> None:
    rows: Any = {"dicts": [{"customer_segment": 7}]}
    rows |= {"frame": pd.DataFrame(rows["dicts"]), "arrow": pa.Table.from_pylist(rows["dicts"])}
    with pytest.raises(InputError, match="feature customer_segment holds a value that is no text"):
        FeatureTransformer().fit(rows[shape])


def test_rows_without_any_feature_are_refused() -> None:
    with pytest.raises(InputError, match="hold no feature"):
        FeatureTransformer().fit(pd.DataFrame({"customer_id": ["a"]}))


@EVERY_SHAPE
def test_no_row_is_an_empty_matrix_and_nothing_to_learn_from(fitted: FeatureTransformer, shape: str) -> None:
    none: Any = {"dicts": [], "frame": SHAPES["frame"].head(0), "arrow": SHAPES["arrow"].slice(0, 0)}[shape]
    assert fitted.transform(none).shape == (0, len(NAMES))
    with pytest.raises(InputError, match="no rows to fit on"):
        FeatureTransformer(features=["tenure_days"]).fit(none)


def test_a_single_dictionary_is_one_row(fitted: FeatureTransformer) -> None:
    assert fitted.transform(ROWS[1]).tobytes() == fitted.transform(ROWS[1:2]).tobytes()


@pytest.mark.parametrize("features", ["churn_score", ["churn_score", "churn_score"]], ids=["text", "twice"])
def test_features_that_are_no_list_of_names(features: Any) -> None:
    with pytest.raises(InputError, match=r"features is .*\. Expected: a list of different names"):
        FeatureTransformer(features=features).fit(ROWS)


OWN = [{"loyalty": level, "visits": n, "is_member": n > 0} for n, level in enumerate(["gold", None, "tin", "gold"])]


@pytest.mark.parametrize("rows", [OWN, pd.DataFrame(OWN), pa.Table.from_pylist(OWN)], ids=SHAPES)
def test_an_undeclared_feature_is_a_category_where_it_holds_texts(rows: Any) -> None:
    transformer = FeatureTransformer(features=["visits", "loyalty", "is_member"]).fit(rows)
    expected = ["visits", "loyalty=gold", "loyalty=tin", "is_member"]
    assert transformer.get_feature_names_out().tolist() == expected
    assert transformer.transform(rows).tolist() == [[0, 1, 0, 0], [1, 0, 0, 1], [2, 0, 1, 1], [3, 1, 0, 1]]


def test_before_it_is_fitted() -> None:
    for use in (lambda t: t.transform(ROWS), lambda t: t.get_feature_names_out(), check_is_fitted):
        with pytest.raises(NotFittedError):
            use(FeatureTransformer())


def test_names_for_other_input_are_refused(fitted: FeatureTransformer) -> None:
    assert fitted.get_feature_names_out(fitted.feature_names_in_).tolist() == NAMES
    with pytest.raises(
        InputError, match=r"input_features are a, b\. Expected: the fitted ones: preferred_category, ten"
    ):
        fitted.get_feature_names_out(["a", "b"])


CELLS = st.fixed_dictionaries(
    {
        "churn_score": st.sampled_from([None, float("nan"), -0.0, 5e-324])
        | st.floats(-1e300, 1e300)
        | st.integers(-(2**70), 2**70)
        | st.booleans(),
        "customer_segment": st.none()
        | st.sampled_from(["", "a", "A", "é", "e\u0301", "\U0001f600"])
        | st.text(max_size=2),
    }
)


def number_of(row: dict[str, Any]) -> float | None:
    cell = row["churn_score"]
    return None if cell is None or math.isnan(cell) else float(cell)


@settings(max_examples=80, derandomize=True, database=None, deadline=None)
@given(rows=st.lists(CELLS, min_size=1, max_size=8), new=st.lists(CELLS, min_size=1, max_size=8))
def test_the_matrix_is_the_definition(rows: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    transformer = FeatureTransformer(max_categories=3).fit(rows)
    known = [number for number in map(number_of, rows) if number is not None]
    counts = Counter(row["customer_segment"] for row in rows if row["customer_segment"] is not None)
    categories = sorted(sorted(counts, key=lambda text: (-counts[text], text))[:3])
    assert transformer.medians_ == {"churn_score": statistics.median(known) if known else 0.0}
    expected = []
    for row in new:
        number = number_of(row)
        cells = [float(row["customer_segment"] == category) for category in categories]
        expected.append([*cells, transformer.medians_["churn_score"] if number is None else number])
    for shape in (new, pd.DataFrame(new, dtype=object)):
        assert transformer.transform(shape).tobytes() == np.array(expected, dtype=float).tobytes()


def test_every_declared_feature_is_used() -> None:
    texts = {"preferred_category": "a", "preferred_payment_method": "b", "customer_segment": "c"}
    row = {name: texts.get(name, 1.0) for name in STANDARD.names}
    assert FeatureTransformer().fit([row]).feature_names_in_.tolist() == list(STANDARD.names)


def test_a_saved_transformer_gives_the_same_bits(tmp_path: Path) -> None:
    train_data, new_data = SHAPES["frame"].head(15), SHAPES["frame"].tail(5)
    transformer = FeatureTransformer()
    train_features = transformer.fit_transform(train_data)
    joblib.dump(transformer, tmp_path / "feature_transformer.pkl")
    loaded = joblib.load(tmp_path / "feature_transformer.pkl")
    assert loaded.transform(train_data).tobytes() == train_features.tobytes()
    assert loaded.transform(new_data).tobytes() == transformer.transform(new_data).tobytes()
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
