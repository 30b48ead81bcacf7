"""A SQLite file's text moved to another path.

Belongs here: every text of every table, and that no copy of the old text stays in the file's free space. Does not
belong here: which files are SQLite's (`relocate.py`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import StorageError
from mlops_platform.storage.duck import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_platform.home_backup.old_paths import OldPaths


def relocate_sqlite(path: Path, old: OldPaths) -> int:
    """Replaces the old paths in every text of a SQLite file.

    Returns:
        Number of cells changed.

    Raises:
        StorageError: The file can't be read or changed.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            mode = database.execute("PRAGMA journal_mode").fetchone()[0]
            # Changes go into the file itself, so that nothing but the file is left behind.
            database.execute("PRAGMA journal_mode = DELETE")
            changed = _update(database, old)
            if changed:
                _rewrite(database, path)
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute(f"PRAGMA journal_mode = {mode}")
    except sqlite3.Error as error:
        raise StorageError(f"{path.name} can't be moved to another path: {error}") from error
    return changed


def _update(database: sqlite3.Connection, old: OldPaths) -> int:
    database.create_function("holds_old", 1, old.are_in, deterministic=True)
    database.create_function("replaced", 1, old.replace, deterministic=True)
    looks = " OR ".join("instr({0}, ?)" for _ in old.pieces)
    changed = 0
    database.execute("BEGIN IMMEDIATE")
    for table, column in list(_columns(database)):
        # As bytes: a text that is no valid UTF-8 stays what it is.
        changed += database.execute(
            f"UPDATE {table} SET {column} = CAST(replaced(CAST({column} AS BLOB)) AS TEXT) "
            f"WHERE typeof({column}) = 'text' AND ({looks.format(column)}) AND holds_old(CAST({column} AS BLOB))",
            old.pieces,
        ).rowcount
    database.execute("COMMIT")
    return changed


def _columns(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Quoted names of every table and of each of its columns, but for computed ones."""
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (table,) in tables.fetchall():
        for _, column, _, _, _, _, hidden in database.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall():
            if not hidden:
                yield quoted(table), quoted(column)


def _rewrite(database: sqlite3.Connection, path: Path) -> None:
    """Writes the file anew: the old texts would stay in its free pages."""
    fresh = path.with_name(path.name + ".fresh")
    # Into a named file: a plain VACUUM works in the system's folder for temporary files.
    database.execute("VACUUM INTO ?", (str(fresh),))
    fresh.chmod(path.stat().st_mode & 0o777)
    fresh.replace(path)
