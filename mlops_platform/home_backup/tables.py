"""A home's tables as files: where they were made, which files their metadata reaches, and what their rows are.

Belongs here: reading Iceberg metadata of a home that stands elsewhere than its paths say. Does not belong here: copying
or changing a file.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlops_platform.errors import StorageError
from mlops_platform.home_backup.archive import TableState
from mlops_platform.storage.content import digest
from mlops_platform.storage.duck import parquet_source, session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table.metadata import TableMetadata

    from mlops_platform.settings import Settings

CATALOG, WAREHOUSE = "catalog.db", "warehouse"
_SCHEME = "file://"
# <home>/warehouse/<namespace>/<table>/metadata/<file>
_DEPTH = 4


def catalog_tables(catalog: Path) -> dict[str, str]:
    """Table name to the address of its metadata, from a catalog's file; empty where there is none.

    Raises:
        StorageError: The file is no catalog.
    """
    if not catalog.is_file():
        return {}
    sql = "SELECT table_namespace || '.' || table_name, metadata_location FROM iceberg_tables ORDER BY 1"
    try:
        with closing(sqlite3.connect(f"{catalog.as_uri()}?mode=rw", uri=True, timeout=60)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchall():
                return {}
            return dict(database.execute(sql).fetchall())
    except sqlite3.Error as error:
        raise StorageError(f"the catalog {catalog} can't be read: {error}", hint="restore a backup.") from error


def homes_of(tables: dict[str, str]) -> tuple[str, ...]:
    """The homes that the tables were made in: one, unless a home was moved by hand and used on.

    Raises:
        StorageError: A table lies in no home.
    """
    found = []
    for name, location in tables.items():
        path = Path(location.removeprefix(_SCHEME))
        if len(path.parents) <= _DEPTH or path.parents[_DEPTH - 1].name != WAREHOUSE:
            raise StorageError(f"{name} lies outside the home: {location}", expected="a table in the home's warehouse")
        found.append(str(path.parents[_DEPTH]))
    return tuple(dict.fromkeys(found))


class Location(Protocol):
    """Where a warehouse's files are; a path in it begins with `warehouse/`, wherever that is."""

    def inside(self, location: str) -> str:
        """The path of a file that metadata names."""

    def at(self, path: str) -> str:
        """What to open to read the file of a path."""

    def io(self) -> FileIO:
        """Reads files by the locations that metadata names."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a home's files are, which may be elsewhere than their paths say.

    Args:
        homes: The paths by which its files name it.
        folder: Where it is.
    """

    homes: Sequence[str]
    folder: Path

    def inside(self, location: str) -> str:
        """A file's path in the home.

        Raises:
            StorageError: The file lies outside.
        """
        path = location.removeprefix(_SCHEME)
        for home in sorted(self.homes, key=len, reverse=True):
            if path.startswith(f"{home}/"):
                return path.removeprefix(f"{home}/")
        raise StorageError(f"a table's file lies outside the home: {location}", expected=f"a path in {self.homes[0]}")

    def at(self, path: str) -> str:
        """The file of a path in the home."""
        return str(self.folder / path)

    def io(self) -> FileIO:
        """Reads files from where they are by the paths their tables know."""
        from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

        place = self

        class MovedFileIO(PyArrowFileIO):
            def new_input(self, location: str) -> PyArrowFile:
                return super().new_input(str(place.folder / place.inside(location)))

        return MovedFileIO()


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files that a table's metadata reaches, by their path in the home.

    Args:
        name: The table.
        snapshot_id: Its current snapshot.
        columns: Names of its present columns.
        has_one_schema: Whether every file has these columns.
        sizes: Every file that some snapshot needs, with its size where the metadata tells it.
        history: Older metadata files, of which some may be gone.
        snapshots: Every snapshot's data files.
    """

    name: str
    snapshot_id: int | None
    columns: tuple[str, ...]
    has_one_schema: bool
    sizes: dict[str, int | None]
    history: tuple[str, ...]
    snapshots: Mapping[int, tuple[str, ...]]

    @property
    def current(self) -> tuple[str, ...]:
        """Data files of the current snapshot."""
        return () if self.snapshot_id is None else self.snapshots[self.snapshot_id]


def reached(place: Location, name: str, location: str) -> TableFiles:
    """Follows a table's metadata to the last file of every snapshot.

    Raises:
        StorageError: It holds delete files, which name data files by paths that can't be changed.
    """
    from pyiceberg.serializers import FromInputFile

    io = place.io()
    metadata = FromInputFile.table_metadata(io.new_input(location))
    statistics = [file.statistics_path for file in (*metadata.statistics, *metadata.partition_statistics)]
    sizes: dict[str, int | None] = {place.inside(path): None for path in (location, *statistics)}
    of_manifest: dict[str, tuple[str, ...]] = {}
    snapshots: dict[int, tuple[str, ...]] = {snapshot.snapshot_id: () for snapshot in metadata.snapshots}
    for snapshot_id, manifest in _manifests(io, metadata, sizes, place):
        path = place.inside(manifest.manifest_path)
        if path not in of_manifest:
            sizes[path] = manifest.manifest_length
            files = _data_files(io, manifest, place, name)
            of_manifest[path] = tuple(files)
            sizes |= files
        snapshots[snapshot_id] += of_manifest[path]
    return TableFiles(
        name=name,
        snapshot_id=metadata.current_snapshot_id,
        columns=tuple(field.name for field in metadata.schema().fields),
        has_one_schema=len(metadata.schemas) == 1,
        sizes=sizes,
        history=tuple(place.inside(entry.metadata_file) for entry in metadata.metadata_log),
        snapshots=snapshots,
    )


def _manifests(
    io: FileIO, metadata: TableMetadata, sizes: dict[str, int | None], place: Location
) -> Iterator[tuple[int, ManifestFile]]:
    from pyiceberg.manifest import read_manifest_list

    for snapshot in metadata.snapshots:
        if snapshot.manifest_list:
            sizes[place.inside(snapshot.manifest_list)] = None
            # Not `snapshot.manifests`: its cache, by path, would tell of a home that was there before.
            for manifest in read_manifest_list(io.new_input(snapshot.manifest_list)):
                yield snapshot.snapshot_id, manifest


def _data_files(io: FileIO, manifest: ManifestFile, place: Location, name: str) -> dict[str, int]:
    from pyiceberg.manifest import DataFileContent

    files = [entry.data_file for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)]
    if any(file.content != DataFileContent.DATA for file in files):
        raise StorageError(
            f"{name} holds delete files written by another engine",
            expected="data files only",
            hint="compact the table with that engine, expire its older snapshots, then run this again.",
        )
    return {place.inside(file.file_path): file.file_size_in_bytes for file in files}


def require_files(table: TableFiles, folder: Path) -> None:
    """Every file that a snapshot of the table needs is there, in the size the metadata tells.

    Raises:
        StorageError: One is missing or has another size.
    """
    for path, size in table.sizes.items():
        file = folder / path
        if not file.is_file() or size not in {None, file.stat().st_size}:
            what = "has another size than" if file.is_file() else "is missing, but"
            raise StorageError(
                f"{table.name}: the file {path} {what} its metadata says", hint="restore an older backup."
            )


def state_of(settings: Settings, table: TableFiles, place: Location) -> TableState:
    """The table's current snapshot, and number and digest of its rows, read from the files in `place`."""
    if not table.current:
        return TableState(snapshot_id=table.snapshot_id, rows=0, digest="")
    options = "" if table.has_one_schema else ", union_by_name = true"
    source = parquet_source([place.at(path) for path in table.current], options=options)
    with session(settings) as connection:
        # A column that was added later is in no file until rows are written with it.
        present = set(connection.sql(f"SELECT * FROM {source} LIMIT 0").columns)
        rows, *sums = digest(connection, source, [column for column in table.columns if column in present])
    return TableState(snapshot_id=table.snapshot_id, rows=rows, digest=" ".join(map(str, sums)))


def digest_engine() -> str:
    """What computes `state_of`'s digests: another version may hash differently."""
    from importlib.metadata import version

    return f"duckdb {version('duckdb')}"
