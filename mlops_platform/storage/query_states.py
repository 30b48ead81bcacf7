"""Which state of each table a user's statement reads: the last, or the one named in the statement or beside it.

Does not belong here: what a state is (`read.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError, QueryError
from mlops_platform.storage.pushdown import TableUse, table_uses
from mlops_platform.storage.query_sql import TABLES
from mlops_platform.storage.query_translate import as_query_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import duckdb
    from sqlglot import exp

    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

# By table: a snapshot id, or the name of a tag or branch.
States = Mapping[str, int | str]

# 1,900 years either way from 1970: what a datetime holds in any time zone.
_MOST_MICROS = 1_900 * 365 * 86_400 * 1_000_000


def states(options: Sequence[str]) -> dict[str, int | str]:
    """TABLE=SNAPSHOT_OR_TAG, as typed, by table.

    Raises:
        InputError: An option is not of that form.
    """
    found: dict[str, int | str] = {}
    for option in options:
        table, separator, state = option.partition("=")
        if not (separator and table and state):
            raise InputError(f"--at {option!r} names no state", expected="TABLE=SNAPSHOT_ID or TABLE=TAG")
        found[table] = int(state) if state.isdecimal() else state
    return found


def resolve(
    lake: Lake, statement: exp.Query, connection: duckdb.DuckDBPyConnection, at: States | None
) -> list[tuple[TableUse, TableSnapshot]]:
    """Every use of a table with the state it reads; a table read twice without a version is read in one state."""
    wanted = {table.lower(): state for table, state in (at or {}).items()}
    uses = table_uses(statement, connection)
    unread = sorted(set(wanted) - {use.contract.name for use in uses})
    if unread:
        raise InputError(
            f"a state is given for {', '.join(unread)}, which the statement does not read",
            expected=f"one of {', '.join(sorted({use.contract.name for use in uses})) or 'no table'}",
        )
    last = {name: lake.snapshot(TABLES[name]) for name in {use.contract.name for use in uses}}
    return [(use, _in_state(last[use.contract.name], use, connection, wanted)) for use in uses]


def _in_state(
    last: TableSnapshot, use: TableUse, connection: duckdb.DuckDBPyConnection, wanted: States
) -> TableSnapshot:
    from sqlglot import exp

    version = use.node.args.get("version")
    if version is None:
        return last.at(wanted[use.contract.name]) if use.contract.name in wanted else last
    if version.args.get("kind") != "AS OF" or version.name not in {"VERSION", "TIMESTAMP"}:
        raise QueryError(f"{version.sql()} is no state of a table", expected="FOR VERSION AS OF or FOR TIMESTAMP AS OF")
    if version.name == "TIMESTAMP":
        return last.as_of(_instant(connection, version.expression))
    state = version.expression
    if not isinstance(state, exp.Literal) or not (state.is_string or state.is_int):
        raise QueryError(f"{state.sql()} is no version", expected="a snapshot id, or a tag's name in quotes")
    return last.at(state.name if state.is_string else int(state.name))


def _instant(connection: duckdb.DuckDBPyConnection, expression: exp.Expr) -> datetime:
    from datetime import UTC, datetime, timedelta

    import duckdb
    from sqlglot import exp

    text = expression.sql(dialect="duckdb")
    try:
        is_constant = not expression.find(exp.Column, exp.Query)
        sql = f"SELECT epoch_us(CAST({text} AS TIMESTAMPTZ))"
        micros = connection.sql(sql).fetchall()[0][0] if is_constant else None
    except duckdb.Error as error:
        raise as_query_error(error) from error
    if micros is None or abs(micros) > _MOST_MICROS:
        raise QueryError(f"{text} is no instant", expected="one such as TIMESTAMP '2024-01-31 12:00:00'")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
