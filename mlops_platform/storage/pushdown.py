"""What a statement needs of each table it reads: the columns, and conditions that let Iceberg skip files.

A condition is only taken where a row that breaks it can't matter to any answer; the statement keeps its own filter all
the same. Does not belong here: reading (`read.py`), or changing what a statement means (`query_translate.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from mlops_platform.contracts import ColumnType
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.query_sql import table_name, tables_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import duckdb
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

    from mlops_platform.contracts import TableContract
    from mlops_platform.storage.conditions import Value

_Operator = Literal["=", "<", "<=", ">", ">="]
_SIGNS: dict[str, _Operator] = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_FLIPPED: dict[_Operator, _Operator] = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CONSTANT = frozenset(
    {
        "add",
        "cast",
        "dateadd",
        "datesub",
        "datatype",
        "datatypeparam",
        "interval",
        "literal",
        "neg",
        "paren",
        "sub",
        "var",
    }
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Which of DuckDB's types of a constant mean the same in a column of each type. DOUBLE is missing: Iceberg's bounds
# leave NaN out, which DuckDB holds to be the largest number.
_MATCHING: dict[ColumnType, tuple[str, ...]] = {
    ColumnType.STRING: ("VARCHAR",),
    ColumnType.INT: ("INTEGER", "BIGINT"),
    ColumnType.LONG: ("INTEGER", "BIGINT"),
    ColumnType.MONEY: ("INTEGER", "BIGINT", "DECIMAL"),
    ColumnType.DATE: ("DATE",),
    ColumnType.TIMESTAMP: ("DATE", "TIMESTAMP"),
}
_INT_RANGE = range(-(2**31), 2**31)
_MONEY_LIMIT = Decimal(10) ** 16


@dataclass(frozen=True, slots=True)
class TableUse:
    """One place where a statement reads a table.

    Args:
        node: The table in the statement.
        contract: The table's contract.
        columns: The columns the statement uses there, in the contract's order; none for a mere count of rows.
        conditions: What a row must fulfil to matter there.
    """

    node: exp.Table
    contract: TableContract
    columns: tuple[str, ...]
    conditions: tuple[Condition, ...]


def table_uses(
    statement: exp.Query, contracts: Mapping[str, TableContract], connection: duckdb.DuckDBPyConnection
) -> list[TableUse]:
    """Every place where a translated statement reads a table.

    Args:
        statement: Its columns carry their tables.
        contracts: The tables by name.
        connection: Computes constants, such as DATE '2024-01-31' - INTERVAL '7' DAY, in the business time zone.
    """
    found = []
    for scope, alias, node in tables_read(statement):
        contract = contracts[table_name(node)]
        conditions = tuple(_conditions(scope, alias, contract, connection))
        found.append(TableUse(node, contract, _columns(scope, alias, contract), conditions))
    return found


def _columns(scope: Scope, alias: str, contract: TableContract) -> tuple[str, ...]:
    used = {column.name for column in scope.source_columns(alias)}
    if any(selected.is_star for selected in getattr(scope.expression, "selects", ())):
        # A star over a subquery with two columns of one name stays a star, and takes ours in.
        return contract.column_names
    return tuple(name for name in contract.column_names if name in used)


def _conditions(
    scope: Scope, alias: str, contract: TableContract, connection: duckdb.DuckDBPyConnection
) -> Iterator[Condition]:
    for conjunct in _conjuncts(scope.expression):
        for column, operator, constants in _comparisons(conjunct):
            if column.table != alias:
                continue
            kind = contract.column(column.name).type
            values = [_value(connection, constant, kind) for constant in constants]
            known = tuple(value for value in values if value is not None)
            if len(known) == len(values) and known:
                yield Condition(column.name, operator, known if operator == "in" else known[0])


def _conjuncts(query: exp.Expr) -> Iterator[exp.Expr]:
    """What every row of a SELECT's joined tables must fulfil: its WHERE, and the ON of its inner joins.

    A comparison with a constant is never true of null. So a row that breaks it can't come through, and leaving the row
    out early can at most turn partners into null-extended rows of an outer join, which the comparison drops too.
    """
    from sqlglot import exp

    if not isinstance(query, exp.Select):
        return
    where = query.args.get("where")
    inner = [join for join in query.args.get("joins") or () if not join.side and join.kind in {"", "INNER"}]
    found = [where.this if where is not None else None, *(join.args.get("on") for join in inner)]
    while found:
        condition = found.pop()
        condition = condition.unnest() if condition is not None else None
        if isinstance(condition, exp.And):
            found += [condition.this, condition.expression]
        elif condition is not None:
            yield condition


def _comparisons(
    node: exp.Expr,
) -> Iterator[tuple[exp.Column, Literal["=", "<", "<=", ">", ">=", "in"], list[exp.Expr]]]:
    """The comparisons of a column with constants that a conjunct consists of."""
    from sqlglot import exp

    left, operator = node.this, _SIGNS.get(node.key)
    if operator is not None:
        right = node.expression
        if isinstance(right, exp.Column):
            left, right, operator = right, left, _FLIPPED[operator]
        if isinstance(left, exp.Column) and _is_constant(right):
            yield left, operator, [right]
    elif isinstance(left, exp.Column) and isinstance(node, exp.In) and all(map(_is_constant, node.expressions)):
        # Of a subquery or an array there are no expressions.
        yield left, "in", node.expressions
    elif isinstance(left, exp.Column) and isinstance(node, exp.Between) and not node.args.get("symmetric"):
        bounds: tuple[tuple[_Operator, exp.Expr], ...] = ((">=", node.args["low"]), ("<=", node.args["high"]))
        for sign, bound in bounds:
            if _is_constant(bound):
                yield left, sign, [bound]


def _is_constant(node: Any) -> bool:
    return all(part.key in _CONSTANT for part in node.walk())


def _value(connection: duckdb.DuckDBPyConnection, constant: exp.Expr, kind: ColumnType) -> Value | None:
    """The constant as a value of the column's type; None where that would be another comparison."""
    import duckdb

    text = constant.sql(dialect="duckdb")
    try:
        found, value = connection.sql(f"SELECT typeof({text}), {_plain(text, kind)}").fetchall()[0]
        is_same = value is not None and found.startswith(_MATCHING.get(kind, ()))
        return _fitting(value, kind) if is_same else None
    except (duckdb.Error, ValueError, OverflowError):
        # What can't be computed, the statement itself complains of; what Python's calendar lacks is a year above 9999.
        return None


def _plain(text: str, kind: ColumnType) -> str:
    return f"epoch_us(CAST({text} AS TIMESTAMPTZ))" if kind is ColumnType.TIMESTAMP else text


def _fitting(value: Any, kind: ColumnType) -> Value | None:
    if kind is ColumnType.TIMESTAMP:
        return _EPOCH + timedelta(microseconds=value)
    if kind is ColumnType.MONEY:
        money = Decimal(value)
        is_exact = abs(money) < _MONEY_LIMIT and money == money.quantize(Decimal("0.01"))
        return money.quantize(Decimal("0.01")) if is_exact else None
    if kind is ColumnType.INT and value not in _INT_RANGE:
        return None
    if kind is ColumnType.DATE and (not isinstance(value, date) or value in {date.min, date.max}):
        # DuckDB hands a day after 9999 over as text, and its infinities as Python's first and last day.
        return None
    plain: Value = value
    return plain
