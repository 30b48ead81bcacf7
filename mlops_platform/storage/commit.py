"""One catalog commit: data files in, data files out, with the answer looked up when it was lost.

Belongs here: which files a range replaces, and the commit with its retries. Does not belong here: the audit, the lock,
or whether there is anything to commit (`publish.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING

from mlops_platform.errors import ConflictError, StorageError
from mlops_platform.storage.catalog import outages, stored_contract
from mlops_platform.storage.conditions import all_of, all_of_sql
from mlops_platform.storage.duck import contract_cells, parquet_source, session
from mlops_platform.storage.read import planned
from mlops_platform.storage.rows import BATCH_ROWS, write_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction

    from mlops_platform.storage.conditions import Condition
    from mlops_platform.storage.read import TableSnapshot

PUBLISH_ID = "mlops.publish-id"
# Seconds before each further attempt; a database that is restarted answers again within them.
WAITS: tuple[float, ...] = (0.1, 0.4, 1.6, 6.4, 12.8)


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does to a table.

    Args:
        added: Data files that become part of it.
        removed: Data files that cease to be.
        tag: A tag that the table's present snapshot gets; an older one of that name stays where it is.
    """

    added: Sequence[DataFile]
    removed: Sequence[DataFile] = ()
    tag: str | None = None


def replacement(held: TableSnapshot, scope: Sequence[Condition]) -> Change:
    """The files that hold the rows of a range, and new files with the other rows of those files.

    Args:
        held: The table's present state.
        scope: The range; empty: everything.

    Raises:
        StorageError: The table holds delete files of another engine.
    """
    if held.table is None or held.snapshot_id is None:
        return Change(())
    tasks = planned(held.table.scan(row_filter=all_of(scope), snapshot_id=held.snapshot_id), scope)
    if any(task.delete_files for task in tasks):
        raise StorageError(
            f"{held.contract.name} holds delete files written by another engine",
            expected="data files only",
            hint="compact the table with that engine, then run this again.",
        )
    files = {task.file.file_path.removeprefix("file://"): task.file for task in tasks}
    if not scope or not files:
        return Change((), tuple(files.values()))
    with session(held.settings) as duck:
        counts = duck.execute(
            f"SELECT filename, count(*) FILTER (WHERE {all_of_sql(scope)}), count(*) "
            f"FROM {parquet_source(list(files), options=', filename = true')} GROUP BY filename"
        ).fetchall()
        removed = [files[name] for name, inside, _ in counts if inside]
        mixed = [name for name, inside, total in counts if 0 < inside < total]
        if not mixed:
            return Change((), removed)
        source = parquet_source(mixed, options=", union_by_name = true")
        # In the table's own columns: those that the contract has no longer, and nulls in those it has gained, stay.
        stored = stored_contract(held.table)
        cells = contract_cells(stored, set(duck.sql(f"SELECT * FROM {source} LIMIT 0").columns))
        partitions = ", ".join(partition.column for partition in held.contract.partitions)
        order = f" ORDER BY {partitions}" if partitions else ""
        rest = duck.sql(f"SELECT {cells} FROM {source} WHERE ({all_of_sql(scope)}) IS NOT TRUE{order}")
        return Change(write_files(held.table, stored, rest.to_arrow_reader(BATCH_ROWS)), removed)


def commit(table: Table, change: Change, properties: Mapping[str, str]) -> None:
    """Makes the change in one snapshot on top of the one it was planned from; `table` is refreshed to hold it.

    Args:
        table: The table as the change was planned from it, whose lock the caller holds. A lock can be lost: the server
            that keeps it may be restarted, or take its holder for dead.
        change: Files in and out.
        properties: Properties of the snapshot, `PUBLISH_ID` among them: by it a commit whose answer was lost is found.

    Raises:
        ConflictError: The table is no longer the one the change was planned from.
        StorageError: The commit failed, or nobody can say whether it did.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ValidationException

    planned_from = table.metadata.current_snapshot_id
    # PyIceberg 0.12 weighs manifests in threads that share one evaluator: now and then it misses a file that is there,
    # and says so by a ValidationException.
    failures: tuple[type[Exception], ...] = (CommitFailedException, CommitStateUnknownException, ValidationException)
    failures += outages()
    for wait in (*WAITS, None):
        try:
            _attempt(table, change, properties, planned_from)
        except failures as e:
            has_committed = _has_committed(table, properties[PUBLISH_ID])
            if has_committed:
                break
            if wait is None:
                unsure = ", and whether it took effect can't be found out" if has_committed is None else ""
                raise StorageError(
                    f"the commit to {_name(table)} failed: {e}{unsure}",
                    hint="run this again: what is there already is recognised.",
                ) from e
            sleep(wait)
        else:
            break


def _attempt(table: Table, change: Change, properties: Mapping[str, str], planned_from: int | None) -> None:
    from pyiceberg.table.update.snapshot import ManageSnapshots

    table.refresh()
    if _holds(table, properties[PUBLISH_ID]):
        # An earlier attempt took effect after it was looked for.
        return
    if table.metadata.current_snapshot_id != planned_from:
        raise ConflictError(
            f"{_name(table)} was changed meanwhile: it holds snapshot {table.metadata.current_snapshot_id}, and the "
            f"rows were made from {planned_from}",
            hint="run this again.",
        )
    with _single_attempt(table) as transaction:
        snapshot = transaction.update_snapshot(snapshot_properties=dict(properties))
        update = snapshot.overwrite() if change.removed else snapshot.fast_append()
        for file in change.removed:
            update.delete_data_file(file)
        for file in change.added:
            update.append_data_file(file)
        update.commit()
        # Last, since PyIceberg keeps one requirement of a kind, the first: that the table is as it was.
        if change.tag is not None and change.tag not in table.metadata.refs and planned_from is not None:
            ManageSnapshots(transaction).create_tag(planned_from, change.tag).commit()
    table.refresh()


def _single_attempt(table: Table) -> Transaction:
    """A transaction that fails where the table changed under it.

    PyIceberg's own would put the change on top of whatever the table holds by then. What stays of its retry is the look
    whether a commit that was reported as failed took effect: Glue's client repeats a call whose answer was lost, and
    the second is refused since the first has made a new version.
    """
    from pyiceberg.exceptions import CommitFailedException
    from pyiceberg.table import Transaction

    class SingleAttempt(Transaction):
        def _rebuild_snapshot_updates(self) -> None:
            raise CommitFailedException("the table was changed during the commit")

    return SingleAttempt(table)


def _has_committed(table: Table, publish_id: str) -> bool | None:
    """Whether the publish is in the table; None where the catalog can't be asked."""
    try:
        table.refresh()
    except outages():
        return None
    return _holds(table, publish_id)


def _holds(table: Table, publish_id: str) -> bool:
    return any(s.summary is not None and s.summary.get(PUBLISH_ID) == publish_id for s in table.snapshots())


def _name(table: Table) -> str:
    return ".".join(table.name())
