"""Extraction: streaming a CRM table, or a user's query of one, as text, while the database works on the next batch.

Belongs here: which of the wanted columns are there, and the reading. Does not belong here: what differs between
databases (`connections.py`), what may be asked (`extraction_query.py`), what is new (`ingestion.py`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Full, Queue
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_platform.data_pipeline.connections import Selection
from mlops_platform.errors import InputError, SourceError
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence
    from datetime import date

    import pyarrow as pa

    from mlops_platform.data_pipeline.connections import Database, Statement
    from mlops_platform.data_pipeline.crm import SourceTable

# Batches that wait for the consumer: enough to keep both sides busy, few enough not to matter for memory.
PREFETCHED = 4
_POLL_SECONDS = 0.1

T = TypeVar("T")


def check(database: Database, table: SourceTable, query: Statement | None = None) -> dict[str, str]:
    """The table's columns that the CRM has (or a query of it delivers): our name to its own.

    Raises:
        InputError: The database refuses the query.
        SourceError: The table or a required column is missing.
    """
    try:
        found = database.columns(query or table.own_name)
    except database.errors as error:
        raise _refused(database, table, query, error) from error
    cells = {}
    for name in table.columns:
        # A query may have renamed the columns to ours.
        candidates = (table.own_column(name), name) if query else (table.own_column(name),)
        if (own := _spelled_there(candidates, found)) is not None:
            cells[name] = own
    missing = [_spelled(table, name) for name in table.required if name not in cells]
    if missing:
        where = "the extraction_query" if query else f"table {table.own_name} in the CRM {mask_secrets(database.url)}"
        mend = (
            f"add them, a view named {table.own_name} that has them, or map their names: mlops crm check URL shows how."
        )
        wanted = ", ".join(map(table.own_column, table.required))
        raise SourceError(
            f"{where} lacks the column(s) {', '.join(missing)}",
            expected=f"the columns {wanted}; found {', '.join(sorted(found))}",
            hint="select them too, or *." if query else mend,
        )
    return cells


def read(
    database: Database,
    table: SourceTable,
    columns: Sequence[str] = (),
    *,
    since: date | None = None,
    query: Statement | None = None,
) -> pa.RecordBatchReader:
    """Streams columns of a table as text; those the CRM lacks come as null.

    Args:
        database: An open CRM.
        table: The table.
        columns: Columns wanted, by our names; none: all.
        since: Only rows whose `updated_at` is null, no ISO text, or on or after this day. Others may come too.
        query: Read this instead of the table.

    Raises:
        InputError: The database refuses the query.
        SourceError: The table or a required column is missing, or the CRM fails on the way.
    """
    import pyarrow as pa

    present = check(database, table, query)
    wanted = tuple(columns) or table.columns
    selection = Selection(
        query or table.own_name,
        {name: present.get(name) for name in wanted},
        changed=present["updated_at"],
        since=since,
    )
    stream = prefetched(_failing_clearly(database, table, database.batches(selection)))
    database.on_close(stream.close)
    return pa.RecordBatchReader.from_batches(pa.schema([pa.field(name, pa.string()) for name in wanted]), stream)


def _spelled_there(candidates: Sequence[str], found: Collection[str]) -> str | None:
    """How the first candidate that is there is spelled: databases differ in the case they hand out."""
    for candidate in candidates:
        if candidate in found:
            return candidate
        alike = [each for each in found if each.lower() == candidate.lower()]
        if len(alike) == 1:
            return alike[0]
    return None


def _spelled(table: SourceTable, name: str) -> str:
    own = table.own_column(name)
    return name if own == name else f"{own} (our {name})"


def _refused(database: Database, table: SourceTable, query: Statement | None, error: Exception) -> Exception:
    cause = mask_secrets(str(getattr(error, "orig", None) or error)).strip()
    if query is not None:
        return InputError(
            f"the CRM refuses the extraction_query: {cause}",
            expected=f"columns of {table.own_name} and functions of that database",
        )
    return SourceError(
        f"table {table.own_name} is missing in the CRM {mask_secrets(database.url)} ({cause})",
        expected=f"a table {table.own_name} with the columns {', '.join(map(table.own_column, table.columns))}",
        hint="create it, or a view of that name over your own table, or map your names: mlops crm check URL shows how.",
    )


def _failing_clearly(
    database: Database, table: SourceTable, batches: Iterator[pa.RecordBatch]
) -> Generator[pa.RecordBatch]:
    try:
        yield from batches
    except database.errors as error:
        cause = mask_secrets(str(getattr(error, "orig", None) or error)).strip()
        raise SourceError(
            f"the CRM {mask_secrets(database.url)} failed while {table.own_name} was read: {cause}",
            expected="a database that answers until the last row",
            hint="run this again; nothing was written.",
        ) from error


def prefetched(source: Generator[T]) -> Generator[T]:
    """A generator of the same items that fetches the next ones in a thread: drivers release the interpreter's lock."""
    ready: Queue[Any] = Queue(maxsize=PREFETCHED)
    stopped, end = Event(), object()

    def offer(item: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in source:
                if not offer(item):
                    return
        finally:
            # In this thread, which alone has used the cursor, and before the connection is closed.
            source.close()
            offer(end)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="crm") as pool:
        produced = pool.submit(produce)
        try:
            while (item := ready.get()) is not end:
                yield item
            produced.result()
        finally:
            stopped.set()
