"""What a statement reads: columns and files, and that reading less never changes an answer.

Does not belong here: what may be asked (`test_query.py`), earlier states (`test_query_states.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from unittest import mock

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from mlops_platform.contracts import SILVER_CUSTOMERS, SILVER_TRANSACTIONS, TableContract
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.settings import load_settings
from mlops_platform.storage import query_states as asking
from mlops_platform.storage.conditions import all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.pushdown import TableUse, table_uses
from mlops_platform.storage.query import TableRead, explain, query

T, C = "silver.transactions", "silver.customers"
LINEAGE = {"_batch_id": "b", "_source": "crm"}
DAYS = 6


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two transactions on each of six days, one data file a day; quantities, categories and countries with nulls."""
    lake = Lake(load_settings(home=tmp_path_factory.mktemp("pushdown") / "home", timezone="America/Sao_Paulo"))
    customers = [
        {"customer_id": name, "country": land, "signup_date": day, **LINEAGE}
        for name, land, day in (("ana", "BR", date(2024, 1, 2)), ("bo", "PT", None), ("cy", None, date(2024, 1, 5)))
    ]
    transactions = [
        {
            "transaction_id": f"t{day}{n}",
            "customer_id": ("ana", "bo", "dee")[(day + n) % 3],
            "transaction_ts": datetime(2024, 1, day, 4 + 9 * n, tzinfo=UTC),
            "transaction_date": date(2024, 1, day),
            "transaction_hour": 1 + 9 * n,
            "amount": Decimal(day - 3) + Decimal("0.25") * n,
            "quantity": (None, 1, 2, 3)[(day * 2 + n) % 4],
            "category": (None, "x", "y")[(day + 2 * n) % 3],
            **LINEAGE,
        }
        for day in range(1, DAYS + 1)
        for n in range(2)
    ]
    for contract, rows in ((SILVER_CUSTOMERS, customers), (SILVER_TRANSACTIONS, transactions)):
        scope = all_time(contract.range_column) if contract.range_column else ()
        lake.publish(Draft(contract, pa.Table.from_pylist(rows, schema=arrow_schema(contract)), scope=scope))
    return lake


def everything(
    statement: exp.Query, contracts: Mapping[str, TableContract], connection: duckdb.DuckDBPyConnection
) -> list[TableUse]:
    """Every use of a table without any push-down: all columns, all files."""
    found = table_uses(statement, contracts, connection)
    return [replace(use, columns=use.contract.column_names, conditions=()) for use in found]


def ask(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    with query(lake, sql) as reader:
        return sorted((tuple(row.values()) for row in reader.read_all().to_pylist()), key=repr)


def only(lake: Lake, sql: str) -> TableRead:
    (read,) = explain(lake, sql)
    return read


_OPERATORS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
_VALUES = {
    "quantity": st.integers(0, 4).map(str) | st.just("1.5"),
    "amount": st.sampled_from(["-1", "0.25", "1.255", "2", "99999999999999999999"]),
    "category": st.sampled_from(["'x'", "'y'", "''", "NULL"]),
    "customer_id": st.sampled_from(["'ana'", "'bo'", "'zoe'"]),
    "transaction_date": st.dates(date(2024, 1, 1), date(2024, 1, 7)).flatmap(
        lambda d: st.sampled_from([f"'{d}'", f"DATE '{d}'", f"'{d} 12:00'", f"DATE '{d}' + INTERVAL '1' DAY"])
    ),
    "transaction_ts": st.dates(date(2024, 1, 1), date(2024, 1, 7)).flatmap(
        lambda d: st.sampled_from([f"'{d}'", f"DATE '{d}'", f"TIMESTAMP '{d} 10:00:00'", f"'{d} 13:00:00 UTC'"])
    ),
    "country": st.sampled_from(["'BR'", "'PT'", "NULL"]),
    "signup_date": st.sampled_from(["'2024-01-02'", "DATE '2024-01-05'", "NULL"]),
}
_OF_T = [name for name in _VALUES if name not in {"country", "signup_date"}]
_OF_C = ["customer_id", "country", "signup_date"]


@st.composite
def leaves(draw: st.DrawFn, aliases: tuple[str, ...]) -> str:
    """One comparison of a column of one of the tables."""
    alias = draw(st.sampled_from(aliases))
    name = draw(st.sampled_from(_OF_C if alias == "c" else _OF_T))
    column, values = f"{alias}.{name}", _VALUES[name]
    first, second = draw(values), draw(values)
    return draw(
        st.sampled_from(
            [
                f"{column} {draw(_OPERATORS)} {first}",
                f"{first} {draw(_OPERATORS)} {column}",
                f"{column} BETWEEN {first} AND {second}",
                f"{column} IN ({first}, {second})",
                f"{column} NOT IN ({first}, {second})",
                f"{column} IS NULL",
                f"coalesce({column}, {first}) = {second}",
            ]
        )
    )


def predicates(*aliases: str) -> st.SearchStrategy[str]:
    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pairs = st.tuples(inner, inner)
        # AND twice as often: only conjunctions are pushed down.
        return st.one_of(
            pairs.map(lambda p: f"{p[0]} AND {p[1]}"),
            pairs.map(lambda p: f"({p[0]}) AND ({p[1]})"),
            pairs.map(lambda p: f"({p[0]} OR {p[1]})"),
            inner.map(lambda p: f"NOT ({p})"),
        )

    return st.recursive(leaves(aliases), grown, max_leaves=4)


_JOINS = st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])


@st.composite
def statements(draw: st.DrawFn) -> str:
    """A SELECT over the two tables in one of the shapes in which a pushed condition could do harm."""
    join, other = draw(_JOINS), draw(_JOINS)
    of_a, of_c, of_ac, of_abc = (draw(predicates(*aliases)) for aliases in ("a", "c", "ac", "abc"))
    on_ac, on_ab = "a.customer_id = c.customer_id", "a.transaction_date = b.transaction_date"
    keys = "a.transaction_id AS a, c.customer_id AS c, c.country AS d"
    shapes = [
        f"SELECT a.transaction_id FROM {T} a WHERE {of_a}",
        f"SELECT count(*), sum(a.quantity) FROM {T} a WHERE {of_a}",
        f"SELECT {keys} FROM {T} a {join} {C} c ON {on_ac} AND {of_ac} WHERE {of_ac}",
        f"SELECT {keys} FROM {T} a {join} {C} c ON {on_ac} WHERE {of_c}",
        f"SELECT {keys}, b.amount AS e FROM {T} a {join} {C} c ON {on_ac} {other} {T} b ON {on_ab} AND {of_abc} "
        f"WHERE {of_ac}",
        f"SELECT {keys}, b.amount AS e FROM {T} a, {T} b, {C} c WHERE {on_ac} AND {on_ab} AND {of_abc}",
        f"SELECT c.customer_id FROM {C} c WHERE EXISTS (SELECT 1 FROM {T} a WHERE {on_ac} AND {of_ac}) OR {of_c}",
        f"SELECT c.country FROM {C} c WHERE c.customer_id NOT IN (SELECT a.customer_id FROM {T} a WHERE {of_a})",
        f"SELECT c.country, (SELECT max(a.amount) FROM {T} a WHERE {on_ac} AND {of_ac}) AS m FROM {C} c WHERE {of_c}",
        f"WITH x AS (SELECT * FROM {T} a WHERE {of_a}) "
        f"SELECT a.transaction_id, c.customer_id FROM x a {join} {C} c ON {on_ac} AND {of_ac}",
        f"SELECT a.customer_id FROM {T} a WHERE {of_a} EXCEPT SELECT c.customer_id FROM {C} c WHERE {of_c}",
        f"SELECT a.customer_id, count(*) FROM {T} a WHERE {of_a} GROUP BY 1 HAVING min(a.quantity) > 1",
    ]
    return draw(st.sampled_from(shapes))


class TestAnswersStayTheSame:
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(sql=statements())
    def test_with_and_without_push_down(self, tables: Lake, sql: str) -> None:
        with mock.patch.object(asking, "table_uses", everything):
            expected = ask(tables, sql)
        assert ask(tables, sql) == expected

    def test_each_use_of_a_table_has_its_own_conditions(self, tables: Lake) -> None:
        sql = (
            f"SELECT a.transaction_id, b.transaction_id AS other FROM {T} a, {T} b WHERE a.transaction_date = "
            "'2024-01-01' AND b.transaction_date = '2024-01-02' AND a.transaction_hour = b.transaction_hour"
        )
        assert ask(tables, sql) == [("t10", "t20"), ("t11", "t21")]
        assert [read.conditions for read in explain(tables, sql)] == [
            ("\"transaction_date\" = DATE '2024-01-01'",),
            ("\"transaction_date\" = DATE '2024-01-02'",),
        ]

    def test_a_cte_does_not_take_the_place_of_a_view(self, tables: Lake) -> None:
        assert ask(tables, f'WITH "{T} 0" AS (SELECT 1 AS x) SELECT count(*) FROM "{T} 0", {T}') == [(2 * DAYS,)]


class TestConditions:
    @pytest.mark.parametrize(
        ("where", "conditions"),
        [
            ("quantity > 1", ['"quantity" > 1']),
            ("1 < quantity", ['"quantity" > 1']),
            ("(quantity > 1 AND (quantity <= 3))", ['"quantity" <= 3', '"quantity" > 1']),
            ("quantity BETWEEN 1 AND 1 + 1", ['"quantity" <= 2', '"quantity" >= 1']),
            ("category IN ('x', 'it''s')", ["\"category\" IN ('x', 'it''s')"]),
            ("amount >= 1.5", ['"amount" >= 1.50']),
            ("transaction_date = '2024-01-02'", ["\"transaction_date\" = DATE '2024-01-02'"]),
            (
                "transaction_date > date_add('day', -7, DATE '2024-01-08')",
                ["\"transaction_date\" > DATE '2024-01-01'"],
            ),
            ("transaction_ts >= DATE '2024-01-02'", ["\"transaction_ts\" >= TIMESTAMPTZ '2024-01-02T03:00:00+00:00'"]),
            ("category = 'x' AND (quantity = 1 OR amount = 2)", ["\"category\" = 'x'"]),
            # What is no comparison of a column with a constant of its type stays with the statement alone.
            ("quantity = 1 OR category = 'x'", []),
            ("NOT quantity = 1", []),
            ("quantity <> 1", []),
            ("quantity > 1.5", []),
            ("amount > 1.555", []),
            ("quantity + 1 > 2", []),
            ("quantity > transaction_hour", []),
            ("category IN ('x', NULL)", []),
            ("category = NULL", []),
            ("transaction_hour < 3000000000", []),
            ("quantity IN (SELECT quantity FROM ml.predictions, silver.transactions)", None),
            ("CAST(transaction_ts AS DATE) = '2024-01-02'", []),
            ("transaction_date < TIMESTAMP '2024-01-02 12:00:00'", []),
            ("transaction_date <> 'no day' AND quantity = 1", ['"quantity" = 1']),
            ("transaction_date < 'no day'", []),
            ("transaction_ts < now()", []),
        ],
    )
    def test_of_a_where(self, tables: Lake, where: str, conditions: list[str] | None) -> None:
        reads = [read for read in explain(tables, f"SELECT 1 FROM {T} WHERE {where}") if read.table == T]
        assert all(sorted(read.conditions) == (conditions or []) for read in reads)

    @pytest.mark.parametrize(
        ("source", "conditions"),
        [
            (f"{T} a JOIN {C} c ON a.customer_id = c.customer_id AND c.country = 'BR'", [[], ["country"]]),
            (f"{T} a LEFT JOIN {C} c ON a.customer_id = c.customer_id AND c.country = 'BR'", [[], []]),
            (f"{T} a FULL JOIN {C} c ON a.quantity = 1 WHERE c.country = 'BR'", [[], ["country"]]),
            (f"{C} c WHERE EXISTS (SELECT 1 FROM {T} a WHERE c.country = 'BR' AND a.quantity = 1)", [["quantity"], []]),
        ],
    )
    def test_of_joins_and_subqueries(self, tables: Lake, source: str, conditions: list[list[str]]) -> None:
        reads = explain(tables, f"SELECT 1 FROM {source}")
        assert [[text.split('"')[1] for text in read.conditions] for read in reads] == conditions


class TestExplain:
    def test_a_day_is_one_file_of_six(self, tables: Lake) -> None:
        everything = only(tables, f"SELECT amount FROM {T}")
        day = only(
            tables, f"SELECT amount FROM {T} WHERE transaction_ts BETWEEN '2024-01-02 02:00' AND '2024-01-02 20:00'"
        )
        assert (everything.planned.files, everything.total.files) == (DAYS, DAYS)
        assert (day.planned.files, day.total.files) == (1, DAYS)
        assert 0 < day.planned.bytes < day.total.bytes == everything.total.bytes == everything.planned.bytes
        assert day.snapshot_id == tables.snapshot(SILVER_TRANSACTIONS).snapshot_id

    @pytest.mark.parametrize(
        ("sql", "columns"),
        [
            (f"SELECT count(*) FROM {T}", ()),
            (f"SELECT T.Amount FROM {T} T WHERE T.Quantity = 1", ("amount", "quantity")),
            (f"SELECT amount AS x FROM {T} GROUP BY 1 HAVING max(category) = 'x' ORDER BY x", ("amount", "category")),
            (f"WITH x AS (SELECT * FROM {C}) SELECT country FROM x", SILVER_CUSTOMERS.column_names),
            (f"SELECT 1 FROM {C} c WHERE (SELECT c.country) = 'BR'", ("country",)),
            (f"SELECT x FROM {C} CROSS JOIN UNNEST(split(city, ' ')) AS u(x)", ("city",)),
        ],
    )
    def test_only_columns_that_are_used(self, tables: Lake, sql: str, columns: tuple[str, ...]) -> None:
        assert only(tables, sql).columns == columns
        ask(tables, sql)

    def test_a_table_that_was_never_written(self, tables: Lake) -> None:
        read = only(tables, "SELECT * FROM ml.predictions WHERE tick > '2024-01-01'")
        assert (read.snapshot_id, read.planned.files, read.total.files) == (None, 0, 0)

    def test_as_text(self, tables: Lake) -> None:
        table, columns, conditions, files = only(tables, f"SELECT amount FROM {T} a WHERE quantity = 1").texts()
        assert table.startswith(f"{T} a\nat ")
        assert (columns, conditions) == ("amount, quantity", '"quantity" = 1')
        assert files.startswith("3 of 6\n") and files.endswith(" B")


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("transaction_date < 'infinity'", 2 * DAYS),
        ("transaction_date > '-infinity'", 2 * DAYS),
        ("transaction_date < DATE '12000-01-01'", 2 * DAYS),
        ("transaction_ts < TIMESTAMP '12000-01-01 00:00:00'", 2 * DAYS),
        ("transaction_ts > TIMESTAMP '9999-12-31 23:59:59'", 0),
        ("amount < 1e300", 2 * DAYS),
        ("quantity > 99999999999999999999", 0),
    ],
)
def test_what_no_column_holds_stays_with_the_statement(tables: Lake, condition: str, rows: int) -> None:
    sql = f"SELECT transaction_id FROM {T} WHERE {condition}"
    assert (len(ask(tables, sql)), only(tables, sql).conditions) == (rows, ())
