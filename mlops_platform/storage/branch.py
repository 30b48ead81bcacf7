"""Staging on a branch: rows that another engine writes into a table itself, where no reader sees them.

The engine appends to an Iceberg branch of its own. What stands there is audited and published like all staged rows: one
commit makes its files part of the table, and the branch goes. Belongs here: opening a branch, what is on it, removing
it. Does not belong here: what an engine writes (`feature_pipeline.spark_write`), the commit (`publish.py`).
"""

from __future__ import annotations

import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from mlops_platform.errors import ConflictError, StorageError
from mlops_platform.storage.catalog import ensure_table, open_catalog, outages
from mlops_platform.storage.content import is_same
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.rows import StagedRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings
    from mlops_platform.storage.conditions import Condition
    from mlops_platform.storage.read import TableSnapshot

_PREFIX = "staged-"


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of a table that one run stages rows on.

    Args:
        contract: The table's contract.
        settings: The home.
        name: The branch.
        base: The snapshot that the table held, and the branch starts from.
        lock: Tells other processes that the branch is in use, until it is closed or this process dies.
        head: Its snapshot when its rows were taken.
    """

    contract: TableContract
    settings: Settings
    name: str
    base: int
    lock: ExitStack
    head: int | None = None

    def rows(self) -> StagedRows:
        """The rows that stand on the branch, to be audited and published.

        Raises:
            ConflictError: Somebody has removed the branch, or put it elsewhere.
        """
        table = open_catalog(self.settings).load_table(self.contract.name)
        own = self._own(table)
        if not own:
            return StagedRows(self.contract, self.settings, (), replace(self, head=self.base))
        ids = {snapshot.snapshot_id for snapshot in own}
        entries = (
            entry
            for manifest in own[0].manifests(table.io)
            if manifest.added_snapshot_id in ids
            for entry in manifest.fetch_manifest_entry(table.io)
        )
        files = tuple(entry.data_file for entry in entries if entry.snapshot_id in ids)
        return StagedRows(self.contract, self.settings, files, replace(self, head=own[0].snapshot_id))

    def require_fresh(self, held: TableSnapshot, scope: Sequence[Condition]) -> None:
        """Refuses to publish what is no longer on the branch, or what would undo another run's publish.

        Args:
            held: The table's present state, whose lock the caller holds.
            scope: The range that the rows replace. What others have published beside it is fine.

        Raises:
            ConflictError: The rows have to be computed again.
        """
        refs = held.table.refs() if held.table is not None else {}
        if self.name not in refs or refs[self.name].snapshot_id != self.head:
            raise self._gone()
        if held.snapshot_id != self.base and not is_same(self._before(held), held, scope):
            raise ConflictError(
                f"another run has published these rows of {self.contract.name} since the branch {self.name} was opened",
                hint="run this again.",
            )

    def close(self) -> None:
        """Removes the branch; published rows stay. If it can't be done now, whoever stages next will do it."""
        from pyiceberg.exceptions import CommitFailedException

        failures = (StorageError, CommitFailedException, *outages())
        with self.lock, suppress(*failures), table_lock(self.settings, self.contract.name):
            table = open_catalog(self.settings).load_table(self.contract.name)
            _remove(table, [name for name in table.refs() if name == self.name])

    def abandon(self) -> None:
        """Removes the branch and the files on it; for a write that failed halfway."""
        try:
            with suppress(ConflictError):
                self.rows().discard()
        finally:
            self.close()

    def _own(self, table: Table) -> list[Snapshot]:
        """The snapshots made on the branch, the latest first.

        Raises:
            ConflictError: There is no such branch, or it does not stand on the snapshot that it was opened at.
        """
        from pyiceberg.table.snapshots import ancestors_of

        found = list(ancestors_of(table.snapshot_by_name(self.name), table.metadata))
        places = [place for place, snapshot in enumerate(found) if snapshot.snapshot_id == self.base]
        if not places:
            raise self._gone()
        return found[: places[0]]

    def _before(self, held: TableSnapshot) -> TableSnapshot:
        try:
            return held.at(self.base)
        except StorageError as error:
            raise self._gone() from error

    def _gone(self) -> ConflictError:
        return ConflictError(
            f"the branch {self.name} of {self.contract.name} was removed or changed by somebody else",
            hint="run this again.",
        )


def open_branch(settings: Settings, contract: TableContract) -> Branch:
    """A new branch of the table's present state; the table is made if it is not there.

    One run at a time stages rows of a table, others wait. Branches that dead runs left are removed, their files by
    maintenance: they may have been published.

    Raises:
        StorageError: Another run held the table's branch for ten minutes.
    """
    with ExitStack() as stack:
        stack.enter_context(table_lock(settings, f"{contract.name}.branch"))
        with table_lock(settings, contract.name):
            table = ensure_table(open_catalog(settings), contract, settings.timezone)
            _remove(table, [name for name in table.refs() if name.startswith(_PREFIX)])
            if table.current_snapshot() is None:
                # A table without snapshots can't have a branch.
                with table.transaction() as transaction:
                    transaction.update_snapshot().fast_append().commit()
            base, name = table.metadata.current_snapshot_id, f"{_PREFIX}{uuid.uuid4().hex}"
            assert base is not None  # noqa: S101 - there is one now
            table.manage_snapshots().create_branch(base, name).commit()
        return Branch(contract, settings, name, base, stack.pop_all())


def remove_leftovers(table: Table, *, now: datetime, days: int) -> None:
    """Removes branches that a dead run left, known by their age; the caller holds the table's lock."""
    before = int((now - timedelta(days=days)).timestamp() * 1000)
    heads = {name: table.snapshot_by_name(name) for name in table.refs() if name.startswith(_PREFIX)}
    _remove(table, [name for name, head in heads.items() if head is not None and head.timestamp_ms < before])


def _remove(table: Table, names: Sequence[str]) -> None:
    """Removes branches and the snapshots that only they reach; no file is deleted."""
    from pyiceberg.table.snapshots import ancestors_of
    from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots

    for name in names:
        kept = {s.snapshot_id for s in ancestors_of(table.current_snapshot(), table.metadata)}
        kept |= {ref.snapshot_id for other, ref in table.refs().items() if other != name}
        own = [s.snapshot_id for s in ancestors_of(table.snapshot_by_name(name), table.metadata)]
        with table.transaction() as transaction:
            ManageSnapshots(transaction).remove_branch(name).commit()
            ExpireSnapshots(transaction).by_ids([found for found in own if found not in kept]).commit()
