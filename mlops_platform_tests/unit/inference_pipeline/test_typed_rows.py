"""Rows of a type as columns: the same matrix as of dictionaries, for any number of features."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.inference_pipeline.typed_rows import TypedRows, body_decoder
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import load_settings

ALL = RowSchema.of(load_settings()).names
CATEGORY = "preferred_category"


@pytest.mark.parametrize(
    "names", [ALL, ("tenure_days",), (CATEGORY,), ("tenure_days", "churn_score"), (CATEGORY, "tenure_days")]
)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_matrix_is_that_of_dictionaries(names: tuple[str, ...], count: int) -> None:
    schema = RowSchema.of(load_settings(), names)
    changes = [{"tenure_days": n, CATEGORY: ("toys", "é", "")[n % 3]} for n in range(count)]
    plain = [schema.example() | {name: row[name] for name in row if name in names} for row in changes]
    typed = TypedRows([schema.row_type(**row) for row in plain])
    features = FeatureTransformer(list(names)).fit(plain)
    assert len(typed) == typed.size == count
    assert list(typed.names) == list(names)
    assert np.array_equal(features.transform(typed), features.transform(plain))
    assert [typed.is_text(name) for name in names] == [isinstance(plain[0][name], str) for name in names]


def test_no_row_has_no_columns() -> None:
    assert (len(TypedRows([])), list(TypedRows([]).names)) == (0, [])


def test_a_body_has_a_row_or_up_to_so_many() -> None:
    schema = RowSchema.of(load_settings(), ("tenure_days",))
    read = body_decoder(schema.row_type, 2)
    row = schema.row_type(tenure_days=3)
    assert read(b'{"features": {"tenure_days": 3}}').features == row
    assert read(b'{"features": [{"tenure_days": 3}, {"tenure_days": 3}]}').features == [row, row]
    for body in (b'{"features": []}', b'{"features": [{"tenure_days": 3}, {"tenure_days": 3}, {"tenure_days": 3}]}'):
        with pytest.raises(msgspec.ValidationError):
            read(body)
