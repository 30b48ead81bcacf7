"""Files that no table refers to: those a killed or failed writer left, and those of expired snapshots.

A file is an orphan when no kept snapshot and no metadata of the table reaches it and it is old: rows on their way into
a table lie in files that no snapshot names yet. Does not belong here: which snapshots are kept (`expiry.py`).
"""

from __future__ import annotations

import posixpath
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table

    from mlops_platform.settings import Settings

ORPHAN_DAYS = 3
_METADATA = ".metadata.json"
# Where a table's files are, below its own folder.
_FOLDERS = ("data", "metadata")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as the file system lists it: its path there, bytes, and when it was last written."""

    path: str
    size: int
    written_at: datetime


def reachable(table: Table, *, without: Collection[int] = ()) -> dict[str, str]:
    """Every file that the table's metadata refers to: its `plain` path to its address.

    Args:
        table: The table.
        without: Snapshots that do not count.
    """
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    statistics = [*metadata.statistics, *metadata.partition_statistics]
    found |= {file.statistics_path for file in statistics if file.snapshot_id not in without}
    found |= {s.manifest_list for s in table.snapshots() if s.snapshot_id not in without}
    for manifest in manifests(table, without=without):
        entries = manifest.fetch_manifest_entry(table.io)
        found |= {manifest.manifest_path, *(entry.data_file.file_path for entry in entries)}
    return {plain(path): path for path in found}


def manifests(table: Table, *, without: Collection[int] = ()) -> list[ManifestFile]:
    """Every manifest of the table's snapshots, once."""
    kept = (snapshot for snapshot in table.snapshots() if snapshot.snapshot_id not in without)
    return list({m.manifest_path: m for snapshot in kept for m in snapshot.manifests(table.io)}.values())


def table_orphans(
    table: Table, others: Mapping[str, str], *, now: datetime, days: int, without: Collection[int] = ()
) -> tuple[list[StoredFile], str]:
    """The table's orphans, or a note why none is named; see `unreached`.

    Args:
        table: The table.
        others: Names and locations of the catalog's other tables.
        now: The present instant.
        days: Age below which every file stays.
        without: Snapshots that are about to be expired.
    """
    files, note = unreached(table, others, without=without)
    before = now - timedelta(days=days)
    return [file for file in files if file.written_at < before], note


def unreached(
    table: Table, others: Mapping[str, str], *, without: Collection[int] = ()
) -> tuple[list[StoredFile], str]:
    """Files in the table's folder that nothing reaches, young ones included, or a note why none is named.

    Args:
        table: The table.
        others: Names and locations of the catalog's other tables.
        without: Snapshots that do not count.
    """
    here = plain(table.location())
    sharing = [name for name, location in others.items() if _are_nested(here, plain(location))]
    if sharing:
        return [], f"no file deleted: shares its folder with {', '.join(sharing)}"
    files = listed(table.io, table.location())
    if plain(table.metadata_location) not in {plain(file.path) for file in files}:
        return [], f"no file deleted: its metadata is not in {table.location()}"
    reached = reachable(table, without=without)
    # A user's batch may lie beside them: ml/predictions/batch_20240115.parquet.
    own = tuple(f"{here}/{folder}/" for folder in _FOLDERS)
    left = [file for file in files if plain(file.path).startswith(own) and plain(file.path) not in reached]
    strangers = [file for file in left if file.path.endswith(_METADATA) and _is_of_another(table, file.path)]
    if strangers:
        return [], f"no file deleted: another catalog's table has files in {table.location()}"
    return left, ""


def delete(io: FileIO, location: str, files: Iterable[StoredFile]) -> None:
    """Deletes files under a location; one that is gone already is fine."""
    system, _ = _file_system(io, location)
    for file in files:
        with suppress(FileNotFoundError):
            system.delete_file(file.path)


def listed(io: FileIO, location: str) -> list[StoredFile]:
    """All files under a location."""
    from pyarrow.fs import FileSelector, FileType

    system, path = _file_system(io, location)
    found = system.get_file_info(FileSelector(path, allow_not_found=True, recursive=True))
    return [
        StoredFile(f.path, f.size or 0, f.mtime or datetime.max.replace(tzinfo=UTC))
        for f in found
        if f.type is not FileType.Directory
    ]


def unknown_folders(settings: Settings, catalog: Catalog, locations: Collection[str]) -> dict[str, int]:
    """Folders of the warehouse that hold a table's metadata and belong to no table of the catalog, with their bytes."""
    from pyiceberg.io import load_file_io

    root = settings.warehouse_location
    files = listed(load_file_io(dict(catalog.properties), root), root)
    known = {plain(location) for location in locations}
    folders = {posixpath.dirname(posixpath.dirname(f.path)) for f in files if f.path.endswith(_METADATA)}
    return {
        folder: sum(file.size for file in files if file.path.startswith(f"{folder}/"))
        for folder in sorted(folders)
        if plain(folder) not in known
    }


def stale_scratch(folder: Path, *, now: datetime, days: int) -> list[Path]:
    """Files of the home's scratch folder that a killed process left."""
    before = (now - timedelta(days=days)).timestamp()
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime < before)


def plain(path: str) -> str:
    """A path without scheme and leading slashes: engines spell file:/x and file:///x, s3:// and s3a:// alike."""
    return posixpath.normpath(re.sub(r"^[A-Za-z0-9]+:", "", path).lstrip("/"))


def address(table: Table, path: str) -> str:
    """The address of a listed file, as the table's FileIO takes it."""
    return f"{table.location().partition('://')[0]}://{path}"


def _are_nested(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _is_of_another(table: Table, path: str) -> bool:
    """Whether a metadata file was written for another table, such as the same name in the catalog of another home."""
    from pyiceberg.exceptions import ValidationError
    from pyiceberg.serializers import FromInputFile

    try:
        metadata = FromInputFile.table_metadata(table.io.new_input(address(table, path)))
    except (ValidationError, ValueError, EOFError, FileNotFoundError):
        # Cut short when its writer was killed.
        return False
    return metadata.table_uuid != table.metadata.table_uuid


def _file_system(io: FileIO, location: str) -> tuple[Any, str]:
    from pyiceberg.io.pyarrow import PyArrowFileIO

    files = io if isinstance(io, PyArrowFileIO) else PyArrowFileIO(io.properties)
    scheme, netloc, path = files.parse_location(location, files.properties)
    return files.fs_by_scheme(scheme, netloc), path
