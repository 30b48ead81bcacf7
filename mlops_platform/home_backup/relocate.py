"""Moves an unpacked home to another path: every file that names the old one is changed.

Belongs here: which files are changed, and in which order. Does not belong here: how paths look in text
(`old_paths.py`), Avro's and SQLite's forms (`relocate_avro.py`, `relocate_sqlite.py`). Data stays as it is: Parquet
files, the CRM and the prediction log are not looked into.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.home_backup.archive import CHUNK
from mlops_platform.home_backup.old_paths import OldPaths
from mlops_platform.home_backup.relocate_avro import Mover, is_manifest_list, move
from mlops_platform.home_backup.relocate_sqlite import relocate_sqlite
from mlops_platform.home_backup.tables import CATALOG, WAREHOUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METADATA_SUFFIX = ".metadata.json"
SQLITE_MAGIC = b"SQLite format 3\0"
_DATABASES = (CATALOG, "mlflow.db", "dagster")
# A path in its longest form: the system's 4,096 bytes, each as an escape in JSON in JSON.
_OVERLAP = 4_096 * 8
_DATA = {WAREHOUSE, "prediction-log"}


def relocate(folder: Path, homes: Sequence[str], new: str, say: Callable[[str], None]) -> list[str]:
    """Changes the paths `homes` to `new` in every file below `folder`.

    Returns:
        Files that name an old path and could not be changed: binary ones of unknown form.
    """
    old = OldPaths(homes, new)
    say("moving the tables")
    _move_iceberg(folder, old)
    say("moving MLflow, Dagster and the rest")
    left = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inside = path.relative_to(folder)
        if is_sqlite(path):
            if inside.parts[0] in _DATABASES:
                relocate_sqlite(path, old)
        elif inside.parts[0] not in _DATA and not _move_text(path, old):
            left.append(str(inside))
    return left


def moved_metadata(name: str, data: bytes, old: OldPaths) -> bytes:
    """A table's metadata file with its paths changed.

    Args:
        name: The file's name, which tells whether it is compressed.
        data: What is in it.
        old: The paths to replace.
    """
    if not name.endswith(f".gz{METADATA_SUFFIX}"):
        return old.replace(data)
    # No time goes into the file: the same archive makes the same home.
    return gzip.compress(old.replace(gzip.decompress(data)), mtime=0)


def is_sqlite(path: Path) -> bool:
    """Whether the file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def _move_iceberg(folder: Path, old: OldPaths) -> None:
    warehouse = folder / WAREHOUSE
    for path in warehouse.glob(f"*/*/metadata/*{METADATA_SUFFIX}"):
        path.write_bytes(moved_metadata(path.name, path.read_bytes(), old))
    lists, lengths = [], {}
    for path in warehouse.glob("*/*/metadata/*.avro"):
        data = path.read_bytes()
        if is_manifest_list(data):
            lists.append(path)
        else:
            moved = move(data, Mover(old))
            path.write_bytes(moved)
            lengths[path.relative_to(warehouse).as_posix()] = len(moved)
    for path in lists:
        # A list tells the length of each manifest: the manifests come first.
        path.write_bytes(move(path.read_bytes(), Mover(old, lengths)))


def _move_text(path: Path, old: OldPaths) -> bool:
    """Changes the file if it is text; False where it holds an old path and is none."""
    if not _names(path, old):
        return True
    data = path.read_bytes()
    if b"\0" in data:
        return False
    path.write_bytes(old.replace(data))
    return True


def _names(path: Path, old: OldPaths) -> bool:
    """Whether the file names an old path; a model may be too large to be read at once."""
    window = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            window = window[-_OVERLAP:] + chunk
            if old.are_in(window):
                return True
    return False
