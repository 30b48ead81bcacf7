"""One catalog commit: data files in, data files out, with the answer looked up when it was lost.

Belongs here: which files a range replaces, and the commit with its retries. Does not belong here: the audit, the lock,
or whether there is anything to commit (`publish.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING

from mlops_platform.errors import ConflictError, StorageError
from mlops_platform.storage.catalog import stored_contract
from mlops_platform.storage.conditions import all_of, all_of_sql
from mlops_platform.storage.duck import contract_cells, parquet_source, session
from mlops_platform.storage.read import planned
from mlops_platform.storage.rows import BATCH_ROWS, write_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from mlops_platform.storage.conditions import Condition
    from mlops_platform.storage.read import TableSnapshot

PUBLISH_ID = "mlops.publish-id"
# Seconds before each further attempt; a database that is restarted answers again within them.
WAITS: tuple[float, ...] = (0.1, 0.4, 1.6, 6.4)


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
    """Makes the change in one snapshot; `table` is refreshed to hold it.

    Args:
        table: The table, whose lock the caller holds.
        change: Files in and out.
        properties: Properties of the snapshot, `PUBLISH_ID` among them: by it a commit whose answer was lost is found.

    Raises:
        ConflictError: Another engine changed the files meanwhile.
        StorageError: The commit failed, or nobody can say whether it did.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ValidationException
    from sqlalchemy.exc import SQLAlchemyError

    planned_from = table.metadata.current_snapshot_id
    for wait in (*WAITS, None):
        try:
            _attempt(table, change, properties)
        except (CommitFailedException, CommitStateUnknownException, ValidationException, SQLAlchemyError, OSError) as e:
            has_committed = _has_committed(table, properties[PUBLISH_ID])
            if has_committed:
                break
            # PyIceberg 0.12 weighs manifests in threads that share one evaluator: now and then it misses a file that is
            # there. Only where the table is another than the change was planned from has somebody removed it.
            if isinstance(e, ValidationException) and table.metadata.current_snapshot_id != planned_from:
                raise ConflictError(f"{_name(table)} was changed meanwhile: {e}", hint="run this again.") from e
            if wait is None:
                unsure = ", and whether it took effect can't be found out" if has_committed is None else ""
                raise StorageError(
                    f"the commit to {_name(table)} failed: {e}{unsure}",
                    hint="run this again: what is there already is recognised.",
                ) from e
            sleep(wait)
        else:
            break


def _attempt(table: Table, change: Change, properties: Mapping[str, str]) -> None:
    from pyiceberg.table.update.snapshot import ManageSnapshots

    table.refresh()
    with table.transaction() as transaction:
        present = table.metadata.current_snapshot_id
        if change.tag is not None and change.tag not in table.metadata.refs and present is not None:
            ManageSnapshots(transaction).create_tag(present, change.tag).commit()
        snapshot = transaction.update_snapshot(snapshot_properties=dict(properties))
        update = snapshot.overwrite() if change.removed else snapshot.fast_append()
        for file in change.removed:
            update.delete_data_file(file)
        for file in change.added:
            update.append_data_file(file)
        update.commit()
    table.refresh()


def _has_committed(table: Table, publish_id: str) -> bool | None:
    """Whether the publish is in the table; None where the catalog can't be asked."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        table.refresh()
    except (SQLAlchemyError, OSError):
        return None
    return any(s.summary is not None and s.summary.get(PUBLISH_ID) == publish_id for s in table.snapshots())


def _name(table: Table) -> str:
    return ".".join(table.name())
