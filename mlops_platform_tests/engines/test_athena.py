"""Athena's SQL of the features: as it was read when it was committed, and in Athena's own functions only."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType

from mlops_platform.contracts import STANDARD
from tools.make_docs import GOLDEN, golden_files

MADE = golden_files()
# Functions of Athena's documentation (Trino's). A new one belongs here once it has been looked up there.
# https://trino.io/docs/current/functions.html
KNOWN = {
    *(
        "CAST",
        "COALESCE",
        "COUNT",
        "DATE_DIFF",
        "DATE_TRUNC",
        "DOW",
        "EXP",
        "EXTRACT",
        "FLOOR",
        "FROM_ISO8601_DATE",
        "MAX",
    ),
    *("MIN", "NULLIF", "RANK", "ROW_NUMBER", "SQRT", "SUM"),
}
# Words that stand before a parenthesis and are no functions.
SYNTAX = {
    "AND",
    "AS",
    "BY",
    "DECIMAL",
    "FILTER",
    "FROM",
    "IN",
    "JOIN",
    "NOT",
    "ON",
    "OR",
    "OVER",
    "THEN",
    "WHEN",
    "WHERE",
}


def called(sql: str) -> set[str]:
    """Every word before a parenthesis, in capitals."""
    tokens = sqlglot.tokenize(sql, dialect="athena")
    names = {
        before.text.upper()
        for before, after in pairwise(tokens)
        if after.token_type is TokenType.L_PAREN
        and before.text.isidentifier()
        and before.token_type is not TokenType.STRING
    }
    return names - SYNTAX


def test_each_golden_file_is_of_todays_declarations() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {path.name for path in MADE}


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
class TestGolden:
    def test_it_is_what_the_declarations_compile_to(self, path: Path) -> None:
        assert path.read_text(encoding="utf-8") == MADE[path], (
            f"{path.name} is stale: run `make docs`, and read its diff"
        )

    def test_it_parses_to_one_query_with_every_feature(self, path: Path) -> None:
        (query,) = sqlglot.parse(path.read_text(encoding="utf-8"), dialect="athena")
        assert isinstance(query, exp.Select)
        assert query.named_selects == ["customer_id", "feature_date", *STANDARD.names]
        assert {(table.db, table.name) for table in query.find_all(exp.Table) if table.db} == {
            ("silver", "transactions")
        }

    def test_it_reads_the_table_once_whole_and_thrice_for_90_days(self, path: Path) -> None:
        (query,) = sqlglot.parse(path.read_text(encoding="utf-8"), dialect="athena")
        tables = [table for table in query.find_all(exp.Table) if table.db]
        # Of the column itself, which an engine can hold against a file's statistics.
        later = [
            c for c in query.find_all(exp.GT) if isinstance(c.this, exp.Column) and c.this.name == "transaction_date"
        ]
        assert (len(tables), len(later)) == (4, 3)

    def test_it_calls_athenas_functions_only(self, path: Path) -> None:
        assert called(path.read_text(encoding="utf-8")) - KNOWN == set()


@pytest.mark.parametrize(
    "of_duckdb",
    ["list_sort(x)", "epoch_ms(x)", "date_sub('day', x, y)", "isodow(x)", "arg_max(x, y)", "strptime(x, 'y')"],
)
def test_a_function_of_duckdb_is_noticed(of_duckdb: str) -> None:
    assert called(f"SELECT {of_duckdb} FROM t") - KNOWN
