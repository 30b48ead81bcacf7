"""Which state of each table a user's statement reads: the last, or the one named in the statement or beside it.

Does not belong here: what a state is (`read.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError, QueryError
from mlops_platform.storage.catalog import stored_contract
from mlops_platform.storage.pushdown import TableUse, table_uses
from mlops_platform.storage.query_sql import table_name, tables_read
from mlops_platform.storage.query_translate import as_query_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import duckdb
    from sqlglot import exp

    from mlops_platform.contracts import TableContract
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

# By table: a snapshot id, or the name of a tag or branch; by "" that of the only table read.
States = Mapping[str, int | str]

# 1,900 years either way from 1970: what a datetime holds in any time zone.
_MOST_MICROS = 1_900 * 365 * 86_400 * 1_000_000


def states(options: Sequence[str]) -> dict[str, int | str]:
    """TABLE=SNAPSHOT_OR_TAG, as typed, by table; a state alone is one of the only table read.

    Raises:
        InputError: An option is not of that form.
    """
    found: dict[str, int | str] = {}
    for option in options:
        head, separator, tail = option.partition("=")
        table, state = (head, tail) if separator else ("", head)
        if not state or (separator and not table):
            raise InputError(f"--at {option!r} names no state", expected="TABLE=SNAPSHOT_ID, TABLE=TAG, or TAG alone")
        found[table] = int(state) if state.isdecimal() else state
    return found


def readable(lake: Lake, statement: exp.Query) -> dict[str, TableContract]:
    """The tables by name; those that the statement reads with every column they hold.

    A feature that is declared no longer stands in the table all the same, and in the states of its versions.
    """
    found = lake.contracts
    for name in {table_name(node) for _, _, node in tables_read(statement)}:
        contract, table = found[name], lake.snapshot(found[name]).table
        held = stored_contract(table).columns if table is not None else ()
        more = tuple(column for column in held if column.name not in contract.column_names)
        found[name] = replace(contract, columns=(*contract.columns, *more))
    return found


def resolve(
    lake: Lake,
    statement: exp.Query,
    contracts: Mapping[str, TableContract],
    connection: duckdb.DuckDBPyConnection,
    at: States | None,
) -> list[tuple[TableUse, TableSnapshot]]:
    """Every use of a table with the state it reads; a table read twice without a version is read in one state."""
    uses = table_uses(statement, contracts, connection)
    wanted = {table.lower(): state for table, state in (at or {}).items()}
    alone = wanted.pop("", None)
    if alone is not None:
        wanted[_only_table(uses, alone)] = alone
    unread = sorted(set(wanted) - {use.contract.name for use in uses})
    if unread:
        raise InputError(
            f"a state is given for {', '.join(unread)}, which the statement does not read",
            expected=f"one of {', '.join(sorted({use.contract.name for use in uses})) or 'no table'}",
        )
    last = {name: lake.snapshot(contracts[name]) for name in {use.contract.name for use in uses}}
    return [(use, _in_state(last[use.contract.name], use, connection, wanted)) for use in uses]


def _only_table(uses: Sequence[TableUse], state: int | str) -> str:
    names = sorted({use.contract.name for use in uses})
    if len(names) != 1:
        raise InputError(
            f"the state {state} is given without a table, and the statement reads {len(names)}",
            expected=" or ".join(f"--at {name}={state}" for name in names) or "a statement that reads a table",
        )
    return names[0]


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
