"""What a publish would change: rows held against those that the table holds already.

Belongs here: digests of rows, and what they decide. Does not belong here: the commit (`commit.py`), the lock it needs
(`publish.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.contracts.table import Replace
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.read import register, scalar
from mlops_platform.storage.rows import BATCH_ROWS, Rows, StagedRows, conform, gather, register_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from mlops_platform.storage.conditions import Condition
    from mlops_platform.storage.read import TableSnapshot


def unheld(held: TableSnapshot, rows: Rows) -> Rows:
    """For an append-once table: the rows whose identity the table does not hold yet."""
    identity = held.contract.append_once
    if not identity or held.snapshot_id is None or not rows.num_rows:
        return rows
    with session(held.settings) as connection:
        before = register(connection, held, columns=identity)
        offered = register_rows(connection, "published", rows)
        names = ", ".join(map(quoted, identity))
        if not scalar(connection, f"SELECT count(*) FROM {offered} SEMI JOIN {before} USING ({names})"):
            return rows
        fresh = connection.sql(f"SELECT * FROM {offered} ANTI JOIN {before} USING ({names})")
        kept = gather(held.settings, held.contract, fresh.to_arrow_reader(BATCH_ROWS))
    if isinstance(rows, StagedRows):
        rows.discard()
    return kept if isinstance(kept, StagedRows) else conform(held.contract, kept)


def changes(held: TableSnapshot, rows: Rows, scope: Sequence[Condition]) -> bool:
    """Whether the publish changes anything: not when it appends no row, or replaces rows by equal ones."""
    if held.snapshot_id is None:
        return True
    if held.contract.replace is Replace.NOTHING:
        return bool(rows.num_rows)
    with session(held.settings) as connection:
        before = register(connection, held, where=scope)
        if scalar(connection, f"SELECT count(*) FROM {before}") != rows.num_rows:
            return True
        offered = register_rows(connection, "published", rows)
        columns = held.contract.content_columns
        return digest(connection, before, columns) != digest(connection, offered, columns)


def is_same(one: TableSnapshot, other: TableSnapshot, scope: Sequence[Condition]) -> bool:
    """Whether two states of a table hold the same rows of a range, but for when they were written."""
    with session(one.settings) as connection:
        views = [register(connection, state, view=name, where=scope) for name, state in (("a", one), ("b", other))]
        first, second = (digest(connection, view, one.contract.content_columns) for view in views)
        return first == second


def digest(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str]
) -> tuple[int, int | None, int | None]:
    """Order-free digest of the rows: their number and two independent 64-bit hash sums."""
    cells = ", ".join(map(quoted, columns))
    rows, first, second = connection.execute(
        f"SELECT count(*), sum(hash({cells})::HUGEINT), sum(hash('digest', {cells})::HUGEINT) FROM {relation}"
    ).fetchall()[0]
    return rows, first, second
