"""A consistent copy of a home's state beside it, while its writers go on.

A store is copied after the stores that point into it: what Dagster or a reference names is in the tables' copy, what a
table names is in MLflow's. Files that never change get a second name (a hard link) instead of a copy: it costs no
space, and they stay even when maintenance deletes them meanwhile. Belongs here: what of a home is state, and how each
kind of file is copied. Does not belong here: the archive (`archive.py`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import StorageError
from mlops_platform.home_backup.relocate import is_sqlite
from mlops_platform.home_backup.tables import (
    CATALOG,
    WAREHOUSE,
    Place,
    TableFiles,
    catalog_tables,
    homes_of,
    reached,
    require_files,
)
from mlops_platform.storage.locks import table_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_platform.settings import Settings

# Scratch: made again when needed.
SCRATCH = {"locks", "tmp", "logs", "bentoml", "cache"}
_DRAFT = ".tmp"
# What SQLite keeps beside a database is in the copy of the database.
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")
# The prediction log comes first: its rows are in the log, in the table, or in both, and the table takes them once.
_BEFORE_TABLES = ("prediction-log", "dagster", "references")
_NEVER_CHANGED = {WAREHOUSE, "mlflow-artifacts"}
_SPOOL = "prediction-log"
# <warehouse>/<namespace>/<table>/<one of these>
_TABLE_FOLDERS, _TABLE_DEPTH = {"data", "metadata"}, 4


@contextmanager
def scratch_folder(scratch: Path, prefix: str) -> Iterator[Path]:
    """An empty folder on the home's disk; what a killed command left there is removed."""
    for left in scratch.glob(f"{prefix}*"):
        shutil.rmtree(left)
    folder = scratch / f"{prefix}{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage(settings: Settings, folder: Path, say: Callable[[str], None]) -> tuple[tuple[str, ...], list[TableFiles]]:
    """Copies the state of a home into an empty folder on the same disk.

    Returns:
        The paths by which the home's files may name it, and its tables.

    Raises:
        StorageError: A table's file is missing, or a database can't be read.
    """
    home = settings.home
    for name in _BEFORE_TABLES:
        say(f"copying {name}")
        _copy_all(home, home / name, folder)
    homes, tables = _stage_tables(settings, folder, say)
    rest = sorted(path.name for path in home.iterdir() if path.name not in {CATALOG, WAREHOUSE, *_BEFORE_TABLES})
    # MLflow's database before its artifacts: what it names is there by then.
    for name in sorted(rest, key=lambda name: name != "mlflow.db"):
        if name not in SCRATCH:
            say(f"copying {name}")
            _copy_all(home, home / name, folder)
    return homes, tables


def _stage_tables(
    settings: Settings, folder: Path, say: Callable[[str], None]
) -> tuple[tuple[str, ...], list[TableFiles]]:
    home = settings.home
    with ExitStack() as locks:
        # Files are immutable, but maintenance and commits delete old ones: no writer until each has a second name.
        live = catalog_tables(home / CATALOG)
        say(f"waiting for the writers of {len(live)} tables")
        for name in live:
            locks.enter_context(table_lock(settings, name))
        if (home / CATALOG).is_file():
            _copy(home / CATALOG, folder / CATALOG)
        known = catalog_tables(folder / CATALOG)
        made_at = homes_of(known)
        homes = tuple(dict.fromkeys([str(home), str(home.resolve()), *made_at]))
        place, tables = Place(homes, home), []
        for name, location in known.items():
            say(f"copying {name}")
            table = reached(place, name, location)
            require_files(table, home)
            for path in (*table.sizes, *(path for path in table.history if (home / path).is_file())):
                _copy(home / path, folder / path, is_immutable=True)
            tables.append(table)
    _copy_all(home, home / WAREHOUSE, folder)
    return homes, tables


def _copy_all(home: Path, start: Path, folder: Path) -> None:
    for path in _state_files(home, start):
        inside = path.relative_to(home)
        top = inside.parts[0]
        # A file that is gone by now was not state any more.
        with suppress(FileNotFoundError):
            _copy(path, folder / inside, is_immutable=top in _NEVER_CHANGED)
            if top == _SPOOL:
                _end_with_a_whole_line(folder / inside)


def _state_files(home: Path, start: Path) -> Iterator[Path]:
    """The files at or below `start` that are state, but for those of Iceberg tables, which their metadata names."""
    if start.is_file():
        if not _is_scratch(start):
            yield start
        return
    seen = set()
    for found, folders, files in os.walk(start, followlinks=True):
        inside = Path(found).relative_to(home).parts
        is_table = inside[0] == WAREHOUSE and len(inside) == _TABLE_DEPTH and inside[-1] in _TABLE_FOLDERS
        if is_table or os.path.realpath(found) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(found))
        for path in (Path(found, name) for name in sorted(files)):
            # An artifact is a user's file, whatever it is called.
            if path.is_file() and (inside[0] in _NEVER_CHANGED or not _is_scratch(path)):
                yield path


def _is_scratch(path: Path) -> bool:
    if path.suffix == _DRAFT:
        return True
    endings = [ending for ending in _BESIDE_DATABASES if path.name.endswith(ending)]
    return any(path.with_name(path.name.removesuffix(ending)).is_file() for ending in endings)


def _copy(source: Path, target: Path, *, is_immutable: bool = False) -> None:
    if target.exists():
        # It may be a second name of the home's own file, which must not be written to.
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_immutable:
        # Another disk behind a symbolic link, or a file system without hard links: a copy will do.
        with suppress(OSError):
            # Of the file itself: the second name of a relative symbolic link would lead elsewhere.
            os.link(source.resolve(), target)
            return
    if is_sqlite(source):
        copy_database(source, target)
    else:
        shutil.copyfile(source, target)
    shutil.copystat(source, target)


def copy_database(source: Path, target: Path) -> None:
    """A database as of one instant, whoever writes to it."""
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, timeout=60)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
    except sqlite3.Error as error:
        raise StorageError(f"the database {source} can't be read: {error}", hint="restore a backup of it.") from error


def _end_with_a_whole_line(path: Path) -> None:
    """Takes off a line that was being written: it was not answered yet."""
    text, found = path.read_bytes(), path.stat()
    if not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])
        # The same home makes the same archive.
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
