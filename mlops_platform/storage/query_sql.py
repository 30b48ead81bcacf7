"""A user's SQL as a checked statement: one SELECT in Athena's dialect, over our tables, reaching nothing else.

Belongs here: what is refused, and why. Does not belong here: what a statement means on DuckDB (`query_translate.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.contracts import all_contracts
from mlops_platform.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

DIALECT = "athena"
TABLES = frozenset(all_contracts())
# Athena's name for the catalog that holds the tables; it may stand before a table's name.
CATALOG = "awsdatacatalog"

_ONE_SELECT = "one SELECT; tables change through the pipelines only"
_PURE = "functions of their arguments and of the time only"
# Functions that tell of the process, its settings or its files. What DuckDB counts as volatile is here but for
# clock and chance; a test compares this list with DuckDB's own.
_REACHING_OUT = frozenset(
    {
        "col_description",
        "currval",
        "error",
        "get_block_size",
        "getenv",
        "getvariable",
        "glob",
        "in_search_path",
        "nextval",
        "obj_description",
        "session_user",
        "setseed",
        "setval",
        "shobj_description",
        "sleep_ms",
        "stats",
        "txid_current",
        "user",
        "vector_type",
        "version",
        "write_log",
    }
)
_CURRENT = "current_"
_REACHING_OUT_PREFIXES = (
    _CURRENT,
    "duckdb_",
    "has_",
    "inet_",
    "json_deserialize_",
    "json_execute_",
    "json_serialize_",
    "parquet_",
    "pg_",
    "read_",
)
# Of the functions that begin with it, those that tell the time.
_CLOCK = frozenset({"date", "time", "timestamp", "localtime", "localtimestamp"})


def parse(sql: str) -> exp.Query:
    """The statement with its names in lower case, if it is one SELECT over known tables.

    Athena's names are case-insensitive. Each output column that is no plain column keeps the alias as it was written
    in its node's `meta`.

    Raises:
        QueryError: It is not.
    """
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    statement = _single_select(sql)
    _refuse_writing(statement)
    _refuse_foreign(statement)
    _refuse_functions(statement)
    for selected in statement.selects:
        if not selected.is_star and selected.key != "column":
            selected.meta["written"] = selected.alias
    normalize_identifiers(statement, dialect=DIALECT)
    _check_tables(statement)
    return statement


def table_name(table: exp.Table) -> str:
    """The table's name as the contracts spell it; with the catalog only where that is a foreign one."""
    catalog = "" if table.catalog.lower() == CATALOG else table.catalog
    return ".".join(part for part in (catalog, table.db, str(table.name)) if part).lower()


def tables_read(statement: exp.Query) -> Iterator[tuple[Scope, str, exp.Table]]:
    """Every place where a table is read, as opposed to a CTE: its scope, its alias there, and its node."""
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    for scope in traverse_scope(statement):
        for alias, (_, source) in scope.selected_sources.items():
            if isinstance(source, exp.Table):
                yield scope, alias, source


def _single_select(sql: str) -> exp.Query:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = [s for s in sqlglot.parse(sql, dialect=DIALECT) if s is not None]
    except (SqlglotError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise QueryError(f"the SQL can't be read: {reason}", expected="one SELECT") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        first = statements[0].key.upper() if statements else "nothing"
        raise QueryError(f"{len(statements)} statement(s), the first a {first}", expected=_ONE_SELECT)
    return statements[0]


def _refuse_writing(statement: exp.Query) -> None:
    from sqlglot import exp

    if statement.find(exp.Into, exp.DML, exp.DDL, exp.Command):
        raise QueryError("the SQL writes", expected=_ONE_SELECT)


def _refuse_foreign(statement: exp.Query) -> None:
    """Refuses what Athena has no meaning for, or what has none here, instead of guessing."""
    from sqlglot import exp

    for node in statement.find_all(exp.Table, exp.Lateral):
        if not isinstance(node.this, exp.Identifier if isinstance(node, exp.Table) else exp.Subquery):
            raise QueryError(f"{node.sql(dialect=DIALECT)} is no table", expected="tables by name, no functions")
    for join in statement.find_all(exp.Join):
        kinds = {str(join.args.get(name) or "").upper() for name in ("method", "kind", "side")}
        if kinds - {"", "INNER", "CROSS", "OUTER", "LEFT", "RIGHT", "FULL"}:
            raise QueryError(
                f"a join of the kind {' '.join(sorted(kinds - {''}))} is none of Athena's",
                expected="INNER, LEFT, RIGHT, FULL or CROSS JOIN",
            )
    for column in statement.find_all(exp.Column):
        if isinstance(column.this, exp.Star) and not isinstance(column.parent, exp.Select):
            raise QueryError(f"{column.sql(dialect=DIALECT)} stands inside an expression", expected="columns by name")
    for distinct in statement.find_all(exp.Distinct):
        if distinct.args.get("on"):
            raise QueryError("DISTINCT ON is not Athena's", expected="SELECT DISTINCT, or row_number() in a subquery")
    foreign = statement.find(exp.Columns, exp.Pivot, exp.MatchRecognize, exp.Placeholder, exp.Parameter)
    if foreign is not None:
        raise QueryError(f"{foreign.key.upper()} can't be asked here", expected="a complete SELECT")


def _refuse_functions(statement: exp.Query) -> None:
    from sqlglot import exp

    for function in statement.find_all(exp.Func):
        names = [function.name] if isinstance(function, exp.Anonymous) else type(function).sql_names()
        for name in map(str.lower, names):
            if name.removeprefix(_CURRENT) in _CLOCK:
                break
            if name in _REACHING_OUT or name.startswith(_REACHING_OUT_PREFIXES):
                raise QueryError(f"{name} reaches outside of the tables", expected=_PURE)


def _check_tables(statement: exp.Query) -> None:
    """Refuses every name in a FROM that is neither one of our tables nor a CTE in whose scope it stands."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.scope import traverse_scope

    try:
        ours = [table for _, _, table in tables_read(statement)]
        named = {id(node) for scope in traverse_scope(statement) for node, _ in scope.selected_sources.values()}
    except SqlglotError as error:
        raise QueryError(f"the SQL can't be read: {error}", expected="one SELECT") from error
    for table in ours:
        if not table.db or table_name(table) not in TABLES:
            raise QueryError(
                f"there is no table {table.sql(dialect=DIALECT)}", expected=f"one of {', '.join(sorted(TABLES))}"
            )
        table.set("catalog", None)
    for table in statement.find_all(exp.Table):
        is_ours = any(table is our for our in ours)
        # A place that no scope knows, or a version of something that has none.
        if not is_ours and (id(table) not in named or table.args.get("version") is not None):
            raise QueryError(f"{table.sql(dialect=DIALECT)} is no table", expected="a table by its full name")
