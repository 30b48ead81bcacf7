"""What counts as pairs of customer and day, and what a person reads who brings something else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.pairs import read_pairs

IDS = ["c2", "c1", "007"]
DATES = [date(2024, 2, 29), date(2024, 3, 1), date(1969, 12, 31)]
TEXTS = [day.isoformat() for day in DATES]
MIDNIGHTS = pd.to_datetime(TEXTS)
DAY, LATER = DATES[0], pd.Timestamp("2024-01-02 00:00:00.000000001")
COLUMNS = ("customer_id", "date")

SHAPES: dict[str, Any] = {
    "tuples": list(zip(IDS, DATES, strict=True)),
    "texts": list(zip(IDS, TEXTS, strict=True)),
    "midnights": list(zip(IDS, MIDNIGHTS.to_pydatetime(), strict=True)),
    "table": pa.table({"date": DATES, "customer_id": IDS, "other": [1, 2, 3]}),
    "chunks": pa.concat_tables([pa.table([[i], [d]], COLUMNS) for i, d in zip(IDS, DATES, strict=True)]),
    "dictionaries": pa.table(
        [pa.array(IDS, pa.large_string()).dictionary_encode(), pa.array(TEXTS).dictionary_encode()], COLUMNS
    ),
    "milliseconds": pa.table([IDS, pa.array(DATES, pa.date64())], COLUMNS),
    "frame of dates": pd.DataFrame({"customer_id": IDS, "date": DATES, "other": [object()] * 3}, index=[5, 5, 7]),
    "frame of timestamps": pd.DataFrame({"customer_id": pd.Categorical(IDS), "date": MIDNIGHTS}),
    "frame of strings": pd.DataFrame({"customer_id": pd.array(IDS, "string"), "date": pd.array(TEXTS, "string")}),
}
EXPECTED = pa.table({"customer_id": pa.array(IDS, pa.string()), "date": pa.array(DATES, pa.date32())})


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_pairs(shape: str) -> None:
    assert read_pairs(SHAPES[shape]).combine_chunks().equals(EXPECTED)


def test_a_generator_is_read_once() -> None:
    assert read_pairs(pair for pair in SHAPES["tuples"]).equals(EXPECTED)


def test_no_pair_has_the_types_too() -> None:
    for nothing in ([], pd.DataFrame({"customer_id": [], "date": []}, dtype=object), EXPECTED.slice(0, 0)):
        assert read_pairs(nothing).schema == EXPECTED.schema


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (pd.DataFrame([["a", DAY]], columns=["id", "date"]), "no column customer_id; their columns are id, date"),
        (pa.table({"customer_id": ["a"]}), "no column date; their columns are customer_id"),
        (pd.DataFrame([["a", "a", DAY]], columns=["customer_id", "customer_id", "date"]), "more than one column"),
        (["ab", "cde"], r"no \(customer_id, date\) tuples: too many values"),
        ([5], r"no \(customer_id, date\) tuples"),
        (5, r"no \(customer_id, date\) tuples"),
        ([("a", DAY), (None, DAY)], r"customer_id holds 1 null\(s\), the first in row 1"),
        (pd.DataFrame({"customer_id": ["a", "b"], "date": [DAY, pd.NaT]}), r"date holds 1 null\(s\), .* row 1"),
        ([(7, DAY)], "customer_id holds int64. Expected: text"),
        ([("a", DAY), (7, DAY)], "customer_id holds no one type of values"),
        ([("a", 19_000)], "date holds int64. Expected: local days"),
        ([("a", "31/01/2024")], "date holds a text that is no day: .*31/01/2024"),
        ([("a", "2024-02-30")], "date holds a text that is no day"),
        ([("a", "2024-02-28T10:00:00")], "date holds a text that is no day"),
        (pd.DataFrame({"customer_id": ["a", "b"], "date": [MIDNIGHTS[0], LATER]}), "a time of day: .* in row 1"),
        ([("a", datetime(2024, 1, 2, 10, tzinfo=UTC))], r"date holds timestamp\[us, tz=UTC\]. Expected: local days"),
        ([("a", DAY), ("b", LATER)], "date holds no one type of values: dates beside timestamps"),
        ([("a", DAY), ("b", "soon")], "date holds no one type of values"),
    ],
)
def test_pairs_that_can_not_be_read(pairs: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_pairs(pairs)
