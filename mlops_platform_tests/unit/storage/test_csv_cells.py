"""CSV cells: no text of ours is a formula, and all that is none stays as it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.storage.csv_cells import csv_cell, csv_cells, csv_schema
from mlops_platform.storage.query import write

FORMULAS = ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =cmd|' /C calc'!A0", "\u00a0=1", "＝1"]
PLAIN = ["", " ", "a=b", "1-2", "'", "é", "toys", "a@b.c"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_a_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@given(
    st.lists(
        st.one_of(
            st.none(), st.text(alphabet=st.characters(codec="utf-8"), max_size=5), st.sampled_from([*FORMULAS, *PLAIN])
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_a_column_is_its_cells(texts: list[str | None]) -> None:
    expected = [None if text is None else csv_cell(text) for text in texts]
    for kind in (pa.string(), pa.large_string()):
        batch = pa.record_batch({"=x": pa.array(texts, kind), "n": pa.array(range(len(texts)))})
        found = csv_cells(batch)
        assert found.column("'=x").to_pylist() == expected
        assert found.column("n").equals(batch.column("n"))
        assert found.schema == csv_schema(batch.schema)


def test_a_csv_file_holds_no_formula_and_a_parquet_file_every_text(tmp_path: Path) -> None:
    rows = pa.table({"name": [*FORMULAS, *PLAIN]})
    assert write(rows.to_reader(), tmp_path / "x.csv") == len(rows)
    # A quote and a line's end inside a cell are CSV's own affair.
    found = pyarrow.csv.read_csv(tmp_path / "x.csv", parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
    assert [str(text) for text in found["name"].to_pylist()][: len(FORMULAS)] == [f"'{text}" for text in FORMULAS]
    write(rows.to_reader(), tmp_path / "x.parquet")
    assert pa.parquet.read_table(tmp_path / "x.parquet").equals(rows)
