"""Rows of every kind as columns: the same numbers to the last bit, the same texts, the same refusals."""

from __future__ import annotations

import random
from collections import UserDict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.columns import columns_of

NAN = float("nan")
REPEATABLE = settings(max_examples=100, derandomize=True, database=None, deadline=None)


def numbers(rows: Any) -> list[float]:
    (block,) = columns_of(rows).numbers(["x"])
    assert block.dtype == np.float64
    assert block.shape == (columns_of(rows).size, 1)
    found: list[float] = block[:, 0].tolist()
    return found


def texts(rows: Any) -> list[str | None]:
    columns = columns_of(rows)
    found, held = columns.texts("x"), [None] * columns.size
    for place, value in enumerate(found.values):
        rows_of_it = np.atleast_1d(found.rows(place)).tolist()
        assert found.counts()[place] == len(rows_of_it)
        for row in rows_of_it:
            held[row] = value
    return held


def table(cells: Any, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"x": pa.array(cells, kind)})


def frame(cells: Any, kind: Any = None) -> pd.DataFrame:
    return pd.DataFrame({"x": pd.Series(cells, dtype=kind)})


def records(cells: Any) -> list[dict[str, Any]]:
    return [{"x": cell} for cell in cells]


def same(found: list[float], expected: list[float]) -> bool:
    return np.array(found).tobytes() == np.array(expected).tobytes()


BEYOND = [2**53 + 1, -(2**63), 2**62 + 1, 3]
CENTS = [Decimal(random.Random(n).randrange(10**17)).scaleb(-2) for n in range(2_000)]
NUMBERS: dict[str, tuple[Any, list[float]]] = {
    "records": (records([1, 0.1, True, None, NAN]), [1.0, 0.1, 1.0, NAN, NAN]),
    "any mapping": ([UserDict(x=1)], [1.0]),
    "one record": ({"x": 1, "other": []}, [1.0]),
    "numpy scalars": (records([np.int8(3), np.float32(0.1), np.bool_(True)]), [3.0, float(np.float32(0.1)), 1.0]),
    "missing": (records([pd.NA, pd.NaT, np.datetime64("NaT"), np.float32("nan"), Decimal("NaN")]), [NAN] * 5),
    "fractions": (records([Decimal("0.1"), Fraction(1, 3)]), [0.1, 1 / 3]),
    "table of int32": (table([1, None], pa.int32()), [1.0, NAN]),
    "table of float32": (table([0.1, None, NAN], pa.float32()), [float(np.float32(0.1)), NAN, NAN]),
    "table of booleans": (table([True, None, False]), [1.0, NAN, 0.0]),
    "table of nulls": (table([None, None]), [NAN, NAN]),
    "table of null texts": (table([None], pa.string()), [NAN]),
    "table of coded numbers": (pa.table({"x": pa.array([7, None, 7]).dictionary_encode()}), [7.0, NAN, 7.0]),
    "table in chunks": (
        pa.concat_tables([table([1.5]), table([None, 2], pa.float64()), table([], pa.float64())]),
        [1.5, NAN, 2.0],
    ),
    "frame of int64": (frame([1, 2]), [1.0, 2.0]),
    "frame of Int64": (frame([1, None], "Int64"), [1.0, NAN]),
    "frame of boolean": (frame([True, None], "boolean"), [1.0, NAN]),
    "frame of Arrow": (frame([1, None], pd.ArrowDtype(pa.int32())), [1.0, NAN]),
    "frame of categories": (frame(pd.Categorical([3, None, 1])), [3.0, NAN, 1.0]),
    "frame of objects": (frame([1, 0.5, None, pd.NA, Decimal("0.1"), True], object), [1.0, 0.5, NAN, NAN, 0.1, 1.0]),
    "frame of NaT": (frame([pd.NaT, pd.NaT], "datetime64[ns]"), [NAN, NAN]),
    "empty list": ([], []),
    "empty table": (table([], pa.int32()), []),
    "empty frame": (frame([], float), []),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(case: str) -> None:
    rows, expected = NUMBERS[case]
    assert same(numbers(rows), expected)


@pytest.mark.parametrize(
    "rows", [table(BEYOND, pa.int64()), frame(BEYOND, "Int64"), frame(BEYOND, object), records(BEYOND)]
)
def test_a_whole_number_beyond_the_exact_floats_becomes_the_nearest(rows: Any) -> None:
    assert numbers(rows) == [float(number) for number in BEYOND]


@pytest.mark.parametrize("rows", [table(CENTS, pa.decimal128(18, 2)), frame(CENTS, object), records(CENTS)])
def test_money_becomes_the_nearest_float(rows: Any) -> None:
    expected = [float(amount) for amount in CENTS]
    assert numbers(rows) == expected
    # What the same conversion by Arrow gives: the test would not notice otherwise.
    assert pa.array(CENTS, pa.decimal128(18, 2)).cast(pa.float64()).to_pylist() != expected


@REPEATABLE
@given(st.lists(st.none() | st.floats(), min_size=1))
def test_floats_are_kept_to_the_bit(cells: list[float | None]) -> None:
    expected = [NAN if cell is None or np.isnan(cell) else cell for cell in cells]
    for rows in (records(cells), table(cells, pa.float64()), frame(cells, object), frame(cells, float)):
        found = np.array(numbers(rows))
        assert same(np.where(np.isnan(found), NAN, found).tolist(), expected)


CODED = pa.schema([("x", pa.dictionary(pa.int8(), pa.string()))])
TEXTS: dict[str, tuple[Any, list[str | None]]] = {
    "records": (records(["a", None, "", NAN, pd.NA, np.str_("a")]), ["a", None, "", None, None, "a"]),
    "table": (table(["b", None, "a", "b"]), ["b", None, "a", "b"]),
    "table of large strings": (table(["b", None], pa.large_string()), ["b", None]),
    "table of string views": (table(["b", None], pa.string_view()), ["b", None]),
    "table of nulls": (table([None, None]), [None, None]),
    "table of codes in chunks": (
        pa.concat_tables([table(part).cast(CODED) for part in (["a", "b"], ["c", None, "b"])]),
        ["a", "b", "c", None, "b"],
    ),
    "table in chunks": (pa.concat_tables([table(["a", "b"]), table(["c", "a"])]), ["a", "b", "c", "a"]),
    "null among the codes": (
        pa.table({"x": pa.DictionaryArray.from_arrays([1, 0, None], ["a", None])}), [None, "a", None],
    ),
    "frame of objects": (frame(["a", NAN, None], object), ["a", None, None]),
    "frame of strings": (frame(["a", None], "string"), ["a", None]),
    "frame of categories": (frame(pd.Categorical(["b", None, "b"], categories=["z", "b"])), ["b", None, "b"]),
    "frame of NaN": (frame([NAN, NAN]), [None, None]),
    "empty list": ([], []),
    "empty table": (table([], pa.string()), []),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_texts(case: str) -> None:
    rows, expected = TEXTS[case]
    assert texts(rows) == expected
    assert columns_of(rows).is_text("x") is any(value is not None for value in expected)


@pytest.mark.parametrize(
    "rows",
    [records([1, None]), records(["a", 1]), records([None]), table([1.0]), table([None]), frame(["a", 1], object)],
)
def test_what_is_no_text(rows: Any) -> None:
    assert not columns_of(rows).is_text("x")


NO_NUMBERS = [
    *(records([cell]) for cell in ("3", b"3", date(2024, 1, 1), [1.0], {}, 1j, 10**400, np.array([1.0]))),
    records([1.0, "x"]), table(["3"]), table([date(2024, 1, 1)]), frame(["3"], object), frame(["3"], "string"),
    frame(pd.Categorical(["3"])), frame([pd.Timestamp("2024-01-01")]), frame([pd.Timedelta(1)]), frame([1j]),
]  # fmt: skip
NO_TEXTS = [records([7]), records([b"a"]), records([True]), table([7]), frame([7]), frame([7], object)]


@pytest.mark.parametrize("rows", NO_NUMBERS, ids=str)
def test_a_value_that_is_no_number(rows: Any) -> None:
    with pytest.raises(InputError, match=r"feature x (holds a value that is no number|can't be read from a column)"):
        numbers(rows)


@pytest.mark.parametrize("rows", NO_TEXTS, ids=str)
def test_a_value_that_is_no_text(rows: Any) -> None:
    with pytest.raises(InputError, match="feature x holds a value that is no text"):
        texts(rows)


@pytest.mark.parametrize("rows", [[{"y": 1}], [{"x": 1}, {"y": 1}], pa.table({"y": [1]}), pd.DataFrame({"y": [1]})])
def test_a_column_that_is_not_there(rows: Any) -> None:
    for read in (numbers, texts, lambda rows: columns_of(rows).is_text("x")):
        with pytest.raises(InputError, match="feature x is missing"):
            read(rows)


@pytest.mark.parametrize("rows", [pa.table([[1], [2]], ["x", "x"]), pd.DataFrame([[1, 2]], columns=["x", "x"])])
def test_a_column_that_is_there_twice(rows: Any) -> None:
    with pytest.raises(InputError, match="more than one column x"):
        numbers(rows)


@pytest.mark.parametrize("rows", [np.zeros((2, 2)), 5, "text", [1, 2], None, pd.Series({"x": 1})], ids=str)
def test_what_holds_no_rows(rows: Any) -> None:
    with pytest.raises(InputError, match=r"the rows are .* Expected: a DataFrame"):
        columns_of(rows)
