"""Compaction: many small data files of one partition become few.

Does not belong here: how files are rewritten (`rewriting.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_platform.storage.commit import Change, commit
from mlops_platform.storage.duck import session
from mlops_platform.storage.maintenance.rewriting import carried, discard, obstacle, rewrite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from mlops_platform.settings import Settings

SMALL_BYTES = 8 * 2**20
FEWEST_FILES = 4
# One pass holds the table's lock: what is left over waits for the next.
MOST_BYTES = 2 * 2**30

Groups = list[list["DataFile"]]


def small_files(table: Table) -> Groups:
    """The small files worth rewriting, in groups of one partition each, oldest first."""
    if obstacle(table) is not None:
        return []
    # The newest come first. Files of an older partitioning have partitions of their own; they stay as they are.
    files = [task.file for task in reversed(list(table.scan().plan_files()))]
    small = [f for f in files if f.file_size_in_bytes < SMALL_BYTES and f.spec_id == table.spec().spec_id]
    found: Groups = []
    size = 0
    for files in _by_partition(small).values():
        if len(files) >= FEWEST_FILES and size < MOST_BYTES:
            found.append(files)
            size += sum(file.file_size_in_bytes for file in files)
    return found


def compact(settings: Settings, table: Table, groups: Groups) -> tuple[int, int]:
    """Rewrites the groups and replaces exactly these files in one commit.

    Args:
        settings: The home.
        table: The table, whose lock the caller holds.
        groups: From `small_files`.

    Returns:
        Number of files replaced, and of those that took their place.

    Raises:
        StorageError: What was written is not what was read, or the commit failed; the table is as it was.
    """
    removed = [file for group in groups for file in group]
    if not removed:
        return 0, 0
    with session(settings) as duck:
        added = rewrite(duck, table, removed)
    change = _worthwhile(table, Change(added, removed))
    if change.removed:
        commit(table, change, carried(table, "compact"))
    return len(change.removed), len(change.added)


def _worthwhile(table: Table, change: Change) -> Change:
    """The change without partitions that got no fewer files: each run would rewrite them again."""
    before, after = _by_partition(change.removed), _by_partition(change.added)
    spared = {key for key in before if len(after.get(key, ())) >= len(before[key])}
    for key in spared:
        discard(table, after[key])
    return Change(
        [file for file in change.added if _partition(file) not in spared],
        [file for file in change.removed if _partition(file) not in spared],
    )


def _by_partition(files: Iterable[DataFile]) -> dict[tuple[Any, ...], list[DataFile]]:
    found: dict[tuple[Any, ...], list[DataFile]] = {}
    for file in files:
        found.setdefault(_partition(file), []).append(file)
    return found


def _partition(file: DataFile) -> tuple[Any, ...]:
    return tuple(file.partition[index] for index in range(len(file.partition)))
