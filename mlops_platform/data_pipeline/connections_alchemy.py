"""Every database but SQLite and PostgreSQL through SQLAlchemy: rows made into Arrow text, a fixed number at a time.

Does not belong here: what a database is asked for.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.data_pipeline.connections import (
    Selection,
    Statement,
    alchemy_engine,
    bound_name,
    naive,
    require_file,
    unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa


@contextmanager
def open_alchemy(url: str) -> Iterator[Alchemy]:
    """Opens a database of SQLAlchemy's; raises as `open_database`."""
    from sqlalchemy.exc import SQLAlchemyError

    engine = alchemy_engine(url)
    if engine.dialect.name == "sqlite" and engine.url.database:
        require_file(Path(engine.url.database), url)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        try:
            connection = stack.enter_context(engine.connect())
        except SQLAlchemyError as error:
            raise unreachable(url, error) from error
        yield Alchemy(url, connection, stack)


class Alchemy:
    """Any other database: rows through SQLAlchemy, made into Arrow text a fixed number at a time."""

    ROWS = 10_000

    def __init__(self, url: str, connection: Any, stack: ExitStack) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        self.url = url
        self.errors: tuple[type[Exception], ...] = (SQLAlchemyError,)
        self._connection = connection
        self._stack = stack

    def on_close(self, callback: Callable[[], None]) -> None:
        """Has a function called before the connection closes."""
        self._stack.callback(callback)

    def table_names(self) -> list[str]:
        """The tables and views of the default schema."""
        import sqlalchemy as sa

        inspector = sa.inspect(self._connection)
        return sorted([*inspector.get_table_names(), *inspector.get_view_names()])

    def columns(self, relation: str | Statement) -> tuple[str, ...]:
        """The relation's columns."""
        import sqlalchemy as sa

        if isinstance(relation, Statement):
            query: Any = self._text(relation)
        else:
            query = sa.select(sa.text("*")).select_from(_alchemy_table(relation)).where(sa.text("1 = 0"))
        with self._connection.execution_options(stream_results=True).execute(query) as result:
            return tuple(result.keys())

    def batches(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Streams the selection as text, cells spelled as the other databases spell them."""
        import pyarrow as pa

        schema = pa.schema([pa.field(name, pa.string()) for name in selection.cells])
        own = list(dict.fromkeys(name for name in selection.cells.values() if name is not None))
        streaming = self._connection.execution_options(stream_results=True, yield_per=self.ROWS)
        with streaming.execute(self._query(selection, own)) as result:
            places = {name: place for place, name in enumerate(result.keys())}
            for rows in result.partitions():
                columns = list(zip(*rows, strict=True))
                cells = [
                    pa.nulls(len(rows), pa.string())
                    if name is None
                    else pa.array(map(as_text, columns[places[name]]), pa.string())
                    for name in selection.cells.values()
                ]
                yield pa.RecordBatch.from_arrays(cells, schema=schema)

    def _query(self, selection: Selection, own: list[str]) -> Any:
        import sqlalchemy as sa

        if isinstance(selection.relation, Statement):
            return self._text(selection.relation)
        query: Any = sa.select(*map(sa.column, own)).select_from(_alchemy_table(selection.relation))
        if selection.since is not None:
            query = query.where(self._recent(selection.relation, selection.changed, selection.since))
        return query

    def _text(self, statement: Statement) -> Any:
        import sqlalchemy as sa

        bound = [
            sa.bindparam(
                bound_name(number), naive(value), type_=sa.DateTime() if isinstance(value, datetime) else sa.Date()
            )
            for number, value in enumerate(statement.parameters, start=1)
        ]
        return sa.text(re.sub(r":(?!mlops_p\d)", r"\\:", statement.sql)).bindparams(*bound)

    def _recent(self, table: str, changed: str, since: date) -> Any:
        """The condition in the column's own type; none for a type that is neither time nor text."""
        import sqlalchemy as sa

        *schema, name = table.split(".")
        columns = sa.inspect(self._connection).get_columns(name, schema=".".join(schema) or None)
        kind = next((column["type"] for column in columns if column["name"] == changed), None)
        column: Any = sa.column(changed, kind)
        if isinstance(kind, sa.DateTime | sa.Date):
            # A time with an offset may lie on another day than its text says.
            start: Any = date.fromordinal(since.toordinal() - 1)
            if isinstance(kind, sa.DateTime):
                start = datetime.combine(start, datetime.min.time())
            return sa.or_(column.is_(None), column >= start)
        if isinstance(kind, sa.String):
            return sa.or_(column.is_(None), sa.not_(column.like("____-__-__%")), column >= since.isoformat())
        return sa.true()


def _alchemy_table(name: str) -> Any:
    import sqlalchemy as sa

    *schema, table = name.split(".")
    return sa.table(table, schema=".".join(schema) or None)


def as_text(value: Any) -> str | None:
    """A cell in the spelling the other databases give it."""
    from decimal import Decimal

    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="replace")
    return format(value, "f") if isinstance(value, Decimal) else str(value)
