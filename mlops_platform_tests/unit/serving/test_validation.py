"""What `POST /predict` accepts and refuses, as a function of the body's bytes."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import ModelError
from mlops_platform.inference_pipeline.typed_rows import body_decoder
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import load_settings
from serving.requests import MAX_BODY_BYTES, MAX_FIELDS_NAMED, MAX_ROWS, RefusedRequestError, read_request

SCHEMA = RowSchema.of(load_settings())
ROW = SCHEMA.example()


def refusal(body: bytes | dict[str, Any] | list[Any]) -> RefusedRequestError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RefusedRequestError) as caught:
        read_request(data, SCHEMA)
    return caught.value


def test_one_object_is_one_row_in_the_models_order() -> None:
    shuffled = dict(reversed(ROW.items()))
    request = read_request(json.dumps({"features": shuffled}).encode(), SCHEMA)
    assert [msgspec.structs.asdict(row) for row in request.rows] == [ROW]
    assert request.rows[0].__struct_fields__ == STANDARD.names
    assert not request.is_list


def test_a_list_is_as_many_rows() -> None:
    request = read_request(json.dumps({"features": [ROW, ROW]}).encode(), SCHEMA)
    assert [msgspec.structs.asdict(row) for row in request.rows] == [ROW, ROW]
    assert request.is_list


def test_numbers_take_their_columns_type() -> None:
    row, faults = SCHEMA.check(ROW | {"tenure_days": 3.0, "max_transaction_value_7d": 2})
    assert not faults
    assert (row["tenure_days"], type(row["tenure_days"])) == (3, int)
    assert (row["max_transaction_value_7d"], type(row["max_transaction_value_7d"])) == (2.0, float)


CELLS = st.one_of(
    st.integers(-3, 9), st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3),
    st.sampled_from(["premium", "gold", 1.0, 5.0, 0.5, 2**31 - 1, 2**31, 2**63, 3.4e38, 3.5e38, [], {}]),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted({*ROW, "surprise"})), CELLS, max_size=3), st.booleans())
@settings(max_examples=500, deadline=None)
def test_the_quick_way_and_the_slow_way_say_the_same(changes: dict[str, Any], is_list: bool) -> None:
    row = ROW | changes
    body = json.dumps({"features": [ROW, row] if is_list else row}).encode()
    clean, faults = SCHEMA.check(row)
    try:
        quick = body_decoder(SCHEMA.row_type, MAX_ROWS)(body).features
    except msgspec.MsgspecError:
        quick = None
    if faults:
        assert quick is None
        with pytest.raises(RefusedRequestError):
            read_request(body, SCHEMA)
        return
    for found in [quick, *read_request(body, SCHEMA).rows[-1:]]:
        last = found[-1] if isinstance(found, list) else found
        if last is not None:
            assert [(value, type(value)) for value in msgspec.structs.astuple(last)] == [
                (value, type(value)) for value in clean.values()
            ]


def test_a_usual_body_is_read_the_quick_way() -> None:
    with mock.patch("serving.requests.json.loads", side_effect=AssertionError):
        assert len(read_request(json.dumps({"features": ROW}).encode(), SCHEMA).rows) == 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tenure_days", True, "is true; expected an integer"),
        ("tenure_days", None, "is null; expected an integer"),
        ("tenure_days", "3", "is '3'; expected an integer"),
        ("tenure_days", 3.5, "is 3.5; expected an integer"),
        ("tenure_days", -1, "is -1; expected an integer of at least 0"),
        ("tenure_days", 2**31, "expected an integer"),
        ("tenure_days", 10**400, "expected an integer"),
        ("tenure_days", [1], "is a list"),
        ("tenure_days", {}, "is an object"),
        ("recency_score", 6, "is 6; expected an integer from 1 to 5"),
        ("churn_score", 1.0000001, "expected a finite number from 0 to 1"),
        ("churn_score", float("nan"), "is nan; expected a finite number"),
        ("total_value_365d", float("inf"), "is inf; expected a finite number"),
        ("total_value_365d", 1e39, "expected a finite number"),
        ("total_value_365d", 10**400, "expected a finite number"),
        ("preferred_category", 7, "is 7; expected a text"),
        ("preferred_category", "\ud800", "expected a text"),
        ("customer_segment", "gold", "is 'gold'; expected one of premium, regular, bronze"),
    ],
)
def test_a_value_outside_its_contract_is_named(name: str, value: Any, words: str) -> None:
    _, faults = SCHEMA.check(ROW | {name: value})
    assert list(faults) == [name]
    assert words in faults[name]


def test_every_field_at_fault_is_named() -> None:
    row = ROW | {"tenure_days": -1, "churn_score": "x", "surprise": 1}
    del row["recency_score"]
    found = refusal({"features": row})
    assert found.status == 422
    assert found.fields.keys() == {"tenure_days", "churn_score", "surprise", "recency_score"}
    assert found.fields["recency_score"].startswith("is missing; expected an integer from 1 to 5")
    assert found.fields["surprise"] == "is no feature of this model"
    assert found.body() == {"error": "4 fields are not as expected", "fields": found.fields}


def test_an_unknown_field_in_place_of_a_missing_one_is_seen() -> None:
    row = {("tenure" if name == "tenure_days" else name): value for name, value in ROW.items()}
    assert refusal({"features": row}).fields.keys() == {"tenure_days", "tenure"}


def test_a_list_names_the_row() -> None:
    found = refusal({"features": [ROW, ROW | {"tenure_days": -1}, 5]})
    assert found.fields.keys() == {"[1].tenure_days", "[2]"}


def test_a_long_list_of_faults_is_cut() -> None:
    found = refusal({"features": [{}] * MAX_ROWS})
    assert found.status == 422
    assert len(found.fields) == MAX_FIELDS_NAMED
    assert "the first 200 are named" in found.error


@pytest.mark.parametrize("features", [None, 1, "x", True, []])
def test_features_must_be_rows(features: Any) -> None:
    found = refusal({"features": features})
    assert (found.status, list(found.fields)) == (422, ["features"])


@pytest.mark.parametrize("body", [[], [ROW], 1, None, "features"])
def test_a_body_that_is_no_object(body: Any) -> None:
    assert refusal(json.dumps(body).encode()).status == 422


def test_unknown_and_missing_members_of_the_body() -> None:
    assert refusal({"rows": [ROW]}).fields.keys() == {"rows", "features"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"NaN", b'{"a": Infinity}', b"[" * 200_000, b"9" * 5000, b"{}{}", b"\xef\xbb\xbf"],
    ids=["empty", "open", "not utf-8", "nan", "infinity", "deep", "long", "two", "byte order mark"],
)
def test_what_is_no_json_is_a_bad_request(body: bytes) -> None:
    assert refusal(body).status == 400


def test_too_much_is_too_large() -> None:
    assert refusal(b" " * (MAX_BODY_BYTES + 1)).status == 413
    assert refusal({"features": [{}] * (MAX_ROWS + 1)}).status == 413


def test_a_model_of_undeclared_features_is_refused() -> None:
    with pytest.raises(ModelError, match="needs shoe_size"):
        RowSchema.of(load_settings(), ["tenure_days", "shoe_size"])


def test_the_description_says_type_unit_and_limits() -> None:
    described = {fact["name"]: fact for fact in SCHEMA.describe()}
    assert described["recency_score"].items() >= {"type": "integer", "minimum": 1, "maximum": 5}.items()
    assert described["total_value_365d"].items() >= {"type": "number", "unit": "currency", "minimum": 0}.items()
    assert described["customer_segment"]["allowed"] == ["premium", "regular", "bronze"]
