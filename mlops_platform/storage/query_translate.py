"""What Athena means, said to DuckDB: names resolved, literals typed by the columns they meet, integer arithmetic.

sqlglot resolves and types; here stands only what its translation leaves out, each with the difference measured. Does
not belong here: what may be asked at all (`query_sql.py`), which files are read (`pushdown.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import QueryError
from mlops_platform.storage.query_sql import DIALECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlglot import exp

    from mlops_platform.contracts import TableContract

COLUMNS_HINT = '`mlops query "SELECT * FROM TABLE LIMIT 1"` shows a table\'s columns.'


@dataclass(frozen=True, slots=True)
class Translation:
    """A statement in DuckDB's meaning.

    Args:
        statement: Every column with its table, every type known.
        names: The output columns' names; None where only DuckDB can tell them.
    """

    statement: exp.Query
    names: tuple[str, ...] | None


def translate(statement: exp.Query, contracts: Mapping[str, TableContract]) -> Translation:
    """Gives a parsed statement DuckDB's meaning.

    Args:
        statement: What `query_sql.parse` returned.
        contracts: The tables by name.

    Raises:
        QueryError: A column that no table in reach has, or that several have.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.annotate_types import annotate_types
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.schema import MappingSchema

    for column in statement.find_all(exp.Column):
        # `silver.transactions.amount`: the table's name alone is its alias.
        column.set("db", None)
        column.set("catalog", None)
    try:
        schema = MappingSchema(_schema(contracts), dialect=DIALECT)
        qualified = qualify(statement, schema=schema, dialect=DIALECT)
        _refuse_ambiguous(qualified)
        names = _output_names(qualified)
        _order_by_outputs(qualified)
        typed: Any = annotate_types(qualified, schema=schema, dialect=DIALECT)
    except SqlglotError as error:
        wanted = "columns that exactly one table of their FROM has"
        raise QueryError(str(error).splitlines()[0], expected=wanted, hint=COLUMNS_HINT) from error
    _coerce_literals(typed)
    for rewrite in (_divide_integers, _keep_types, _keep_precedence):
        rewrite(typed)
    return Translation(typed, names)


def as_query_error(error: Exception) -> QueryError:
    """A fault DuckDB found, as one to show."""
    import duckdb

    is_name = isinstance(error, duckdb.BinderException | duckdb.CatalogException)
    hint = COLUMNS_HINT if is_name else "TRY(…) around what can't be computed gives null instead."
    problem = str(error).partition("\n\nLINE")[0].partition("\n\tCandidate")[0]
    return QueryError(problem.strip(), hint=hint)


def _schema(contracts: Mapping[str, TableContract]) -> dict[str, object]:
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for contract in contracts.values():
        namespace, table = contract.name.split(".")
        schema.setdefault(namespace, {})[table] = {column.name: column.type.value for column in contract.columns}
    return dict(schema)


def _refuse_ambiguous(statement: exp.Query) -> None:
    """A subquery may give two columns one name, but nobody may use the name: DuckDB would take the first."""
    from sqlglot.optimizer.scope import Scope, traverse_scope

    for scope in traverse_scope(statement):
        for alias, (_, source) in scope.selected_sources.items():
            if not isinstance(source, Scope):
                continue
            counts = Counter(getattr(source.expression, "named_selects", ()))
            for column in scope.source_columns(alias):
                if counts[column.name] > 1:
                    raise QueryError(
                        f"the column {column.name} is ambiguous: {alias} has {counts[column.name]} of that name",
                        hint=f"give each its own name in {alias}, with AS.",
                    )


def _output_names(statement: exp.Query) -> tuple[str, ...] | None:
    selects = statement.selects
    if any(selected.is_star for selected in selects):
        return None
    written = [s.meta.get("written", s.unalias().meta.get("written", s.alias_or_name)) for s in selects]
    # Athena's name of a column without one.
    return tuple(name or f"_col{position}" for position, name in enumerate(written))


def _order_by_outputs(statement: exp.Query) -> None:
    """In `SELECT -n AS n … ORDER BY n + 1`, n is the output column; DuckDB takes the table's inside an expression."""
    from sqlglot import exp

    for select in list(statement.find_all(exp.Select)):
        outputs = {s.alias: s.this for s in select.selects if isinstance(s, exp.Alias)}
        for ordered in select.args["order"].expressions if select.args.get("order") else ():
            if isinstance(ordered.this, exp.Column):
                continue
            for column in list(ordered.find_all(exp.Column)):
                if not column.table and column.name in outputs:
                    column.replace(exp.paren(outputs[column.name].copy()))


def _coerce_literals(statement: exp.Query) -> None:
    """Text compared with a day or a time is a day or a time; on Athena it would be an error, never a text."""
    from sqlglot import exp

    comparisons = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ)
    for node in list(statement.find_all(*comparisons, exp.Between, exp.In)):
        operands = _operands(node)
        moment = next((operand.type for operand in operands if _is_type(operand, *_MOMENTS)), None)
        if moment is None and not any(_is_type(operand, "DATE") for operand in operands):
            continue
        for literal in (o for o in operands if isinstance(o, exp.Literal) and o.is_string):
            plain = exp.DataType.build("TIMESTAMP" if ":" in literal.name else "DATE")
            literal.replace(exp.Cast(this=literal.copy(), to=moment.copy() if moment else plain))


_MOMENTS = ("TIMESTAMPTZ", "TIMESTAMPLTZ", "TIMESTAMP", "TIMESTAMPNTZ")
_INTEGERS = ("TINYINT", "SMALLINT", "INT", "BIGINT")


def _operands(node: exp.Expr) -> Sequence[exp.Expr]:
    from sqlglot import exp

    if isinstance(node, exp.In):
        return [node.this, *node.expressions]
    if isinstance(node, exp.Between):
        return [node.this, node.args["low"], node.args["high"]]
    return [node.this, node.expression]


def _divide_integers(statement: exp.Query) -> None:
    """7 / 2 is 3 in Athena. sqlglot divides as DOUBLE and truncates, which is inexact above 2^53."""
    from sqlglot import exp

    for division in reversed(_of_type(statement, exp.Div, *_INTEGERS)):
        # Some of DuckDB's functions of integers, such as floor, return DOUBLE, and `//` then gives 0.5.
        left, right = (
            side if isinstance(side, exp.Column | exp.Literal) else exp.cast(side, "BIGINT")
            for side in (division.this, division.expression)
        )
        if all(_is_type(side, *_INTEGERS) for side in (division.this, division.expression)):
            whole = exp.Paren(this=exp.IntDiv(this=left, expression=right))
            whole.type = division.type
            division.replace(whole)


def _keep_types(statement: exp.Query) -> None:
    """A sum or count of integers is a BIGINT (DuckDB: HUGEINT), a day plus an interval a day (DuckDB: a time)."""
    from sqlglot import exp

    for total in reversed([n for n in statement.find_all(exp.Sum, exp.CountIf) if _is_type(n, "BIGINT")]):
        whole: exp.Expr = total
        while isinstance(whole.parent, exp.Filter | exp.Window) and whole.arg_key == "this":
            whole = whole.parent
        whole.replace(exp.cast(whole.copy(), "BIGINT"))
    for kind in (exp.DateAdd, exp.DateSub, exp.Add, exp.Sub):
        for day in reversed(_of_type(statement, kind, "DATE")):
            if isinstance(day.expression, exp.Interval) or isinstance(day, exp.DateAdd | exp.DateSub):
                day.replace(exp.cast(day.copy(), "DATE"))


def _keep_precedence(statement: exp.Query) -> None:
    """In sqlglot, bitwise_and(a, 1) * 2 becomes a & 1 * 2, which is a & 2."""
    from sqlglot import exp

    for node in reversed(list(statement.find_all(exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor))):
        if isinstance(node.parent, exp.Binary | exp.Unary | exp.Between | exp.In):
            node.replace(exp.paren(node.copy()))


def _of_type(statement: exp.Query, kind: type[exp.Expr], *types: str) -> list[exp.Expr]:
    return [node for node in statement.find_all(kind) if _is_type(node, *types)]


def _is_type(node: exp.Expr, *types: str) -> bool:
    return node.type is not None and bool(node.type.is_type(*types))
