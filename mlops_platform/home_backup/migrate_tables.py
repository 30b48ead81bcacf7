"""A home's tables on a server: every file their metadata reaches is copied to a bucket, checked there, and registered.

A table appears in the server's catalog only when its copy was found equal; until then a killed run leaves nothing but
files, which the next one takes over. Belongs here: Iceberg tables. Does not belong here: how paths are changed
(`relocate*.py`), what a table's metadata reaches (`tables.py`), runs and models (`migrate_registry.py`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from mlops_platform.errors import ConflictError, StorageError
from mlops_platform.home_backup.bucket import BucketFolder, for_each
from mlops_platform.home_backup.old_paths import OldPaths
from mlops_platform.home_backup.relocate import moved_metadata
from mlops_platform.home_backup.relocate_avro import Mover, is_manifest_list, move
from mlops_platform.home_backup.tables import WAREHOUSE, Place, TableFiles, reached, require_files, state_of
from mlops_platform.storage.duck import session
from mlops_platform.storage.locks import table_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO

    from mlops_platform.home_backup.archive import TableState
    from mlops_platform.home_backup.tables import Location
    from mlops_platform.settings import Settings

_INSIDE = f"{WAREHOUSE}/"


@dataclass(frozen=True, slots=True)
class MigratedTable:
    """A table that is on the server.

    Args:
        name: The table.
        state: Its current snapshot, and number and digest of that snapshot's rows, equal on both sides.
        snapshots: Number of its snapshots, each with as many rows on both sides.
        is_new: False where an earlier run had registered it.
    """

    name: str
    state: TableState
    snapshots: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A warehouse in a bucket.

    Args:
        folder: Where it is.
    """

    folder: BucketFolder

    def inside(self, location: str) -> str:
        """The path of a file that metadata names.

        Raises:
            StorageError: The file lies elsewhere.
        """
        if not location.startswith(self.folder.at("")):
            raise StorageError(f"a table's file lies outside the bucket: {location}", expected=self.folder.at("…"))
        return _INSIDE + location.removeprefix(self.folder.at(""))

    def at(self, path: str) -> str:
        """Address of the file of a path."""
        return self.folder.at(_key(path))

    def io(self) -> FileIO:
        """Reads files by their addresses."""
        return self.folder.io


@dataclass(frozen=True, slots=True)
class TableMigration:
    """Moves tables from a home to a server, one by one; the caller holds the home's locks.

    Args:
        source: The embedded home.
        target: The same home with the server's catalog and warehouse.
        here: The home's files.
        there: The bucket.
        catalog: The server's catalog.
        say: Called with each line of progress.
    """

    source: Settings
    target: Settings
    here: Place
    there: BucketPlace
    catalog: Catalog
    say: Callable[[str], None]

    def require_free(self, tables: Iterable[tuple[str, str]]) -> None:
        """No table of the server's catalog is in the way.

        Raises:
            StorageError: One has the name of a table of the home, and is another.
        """
        for name, location in tables:
            self._registered(name, location)

    def migrate(self, name: str, location: str) -> MigratedTable:
        """Copies a table, holds the copy against it, and registers it, unless an earlier run did.

        Args:
            name: The table.
            location: Its current metadata file in the home.

        Raises:
            StorageError: The copy is not equal, or another table of that name is there.
        """
        with table_lock(self.target, name):
            files = reached(self.here, name, location)
            require_files(files, self.source.home)
            copied = self.there.at(self.here.inside(location))
            found = self._registered(name, location)
            if found is None:
                self._copy(files, self.here.inside(location))
            self.say(f"checking {name}")
            try:
                state = self._verify(files, found or copied, is_used=found not in {None, copied})
            except StorageError:
                # Only what an earlier run registered and nobody has written to since: the next run makes it anew.
                if found == copied:
                    self.catalog.drop_table(name)
                raise
            if found is None:
                self._register(name, copied)
        return MigratedTable(name, state, len(files.snapshots), is_new=found is None)

    def _registered(self, name: str, location: str) -> str | None:
        """Where the server's catalog has the table's metadata; None where it has no such table."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
        from pyiceberg.serializers import FromInputFile

        try:
            table = self.catalog.load_table(name)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        ours = FromInputFile.table_metadata(self.here.io().new_input(location))
        wanted = (ours.table_uuid, ours.current_snapshot_id)
        if (table.metadata.table_uuid, table.metadata.current_snapshot_id) != wanted:
            what = "was written to since it was copied" if table.metadata.table_uuid == wanted[0] else "is another"
            raise StorageError(
                f"{name} is in the server's catalog already and {what}: its snapshot there is "
                f"{table.metadata.current_snapshot_id}, here {ours.current_snapshot_id}",
                expected="a catalog without this table, or with the same snapshot of it",
                hint="migrate to another database and folder, or drop the table there first.",
            )
        return table.metadata_location

    def _copy(self, files: TableFiles, current: str) -> None:
        """Data first, then the metadata that names it."""
        history = [path for path in files.history if (self.source.home / path).is_file()]
        is_avro = {path for path in files.sizes if path.endswith(".avro")}
        is_json = {current, *history}
        # Data files of an earlier run are used; metadata is small, and written anew.
        held = self._held(files.sizes)

        def ensure(path: str) -> None:
            self.there.folder.ensure(_key(path), self.source.home / path, held)

        for_each(files.sizes.keys() - is_avro - is_json, ensure, f"copying {files.name}", self.say)
        old = OldPaths([f"{home}/{WAREHOUSE}" for home in self.here.homes], self.there.folder.url)
        self._move_avro(files.name, is_avro, old)

        def change(path: str) -> None:
            self.there.folder.put(_key(path), moved_metadata(path, self._read(path), old))

        for_each(is_json, change, f"copying {files.name}, its metadata", self.say)

    def _move_avro(self, name: str, paths: Iterable[str], old: OldPaths) -> None:
        lists, lengths = list[str](), dict[str, int]()

        def move_manifest(path: str) -> None:
            data = self._read(path)
            if is_manifest_list(data):
                lists.append(path)
            else:
                moved = move(data, Mover(old))
                lengths[_key(path)] = len(moved)
                self.there.folder.put(_key(path), moved)

        def move_list(path: str) -> None:
            self.there.folder.put(_key(path), move(self._read(path), Mover(old, lengths)))

        for_each(paths, move_manifest, f"copying {name}, its manifests", self.say)
        # A list tells the length of each manifest: the manifests come first.
        for_each(lists, move_list, f"copying {name}, its snapshots", self.say)

    def _read(self, path: str) -> bytes:
        return (self.source.home / path).read_bytes()

    def _held(self, paths: Iterable[str]) -> dict[str, int]:
        """Size of every file in the bucket's folders of these paths."""
        folders = {"/".join(_key(path).split("/")[:2]) for path in paths}
        return {key: size for folder in folders for key, size in self.there.folder.sizes(folder).items()}

    def _verify(self, ours: TableFiles, location: str, *, is_used: bool) -> TableState:
        """Every snapshot has its files and as many rows as here, the current one the same rows.

        Args:
            ours: The home's table.
            location: The bucket's metadata file of it.
            is_used: Whether the server has gone on with it: old snapshots may have been expired there.
        """
        try:
            theirs = reached(self.there, ours.name, location)
        except FileNotFoundError as error:
            raise _unequal(ours.name, f"a file of its metadata is missing: {error}") from error
        held = self._held(theirs.sizes)
        for path, size in theirs.sizes.items():
            found = held.get(_key(path))
            if found is None or size not in {None, found}:
                raise _unequal(ours.name, f"the file {self.there.at(path)} is missing or has another size")
        if not is_used and (theirs.snapshots, theirs.sizes.keys()) != (ours.snapshots, ours.sizes.keys()):
            raise _unequal(ours.name, "its snapshots name other files")
        wanted, expected = state_of(self.source, ours, self.here), _rows(self.source, ours, self.here)
        try:
            state, rows = state_of(self.target, theirs, self.there), _rows(self.target, theirs, self.there)
        except duckdb.Error as error:
            raise _unequal(ours.name, f"its files can't be read: {str(error).splitlines()[0]}") from error
        if state != wanted:
            raise _unequal(ours.name, f"{state.rows:,} rows there, {wanted.rows:,} here, or other values in them")
        for snapshot_id in rows.keys() & expected.keys():
            there, here = rows[snapshot_id], expected[snapshot_id]
            if there != here:
                raise _unequal(ours.name, f"snapshot {snapshot_id} has {there:,} rows there, {here:,} here")
        return state

    def _register(self, name: str, location: str) -> None:
        from pyiceberg.exceptions import TableAlreadyExistsError
        from sqlalchemy.exc import IntegrityError

        with suppress(IntegrityError):
            # Fails when another process makes the namespace at the same instant.
            self.catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        try:
            self.catalog.register_table(name, location)
        except TableAlreadyExistsError as error:
            raise ConflictError(
                f"{name} was made in the server's catalog meanwhile", hint="stop its writers and run this again."
            ) from error


def _key(path: str) -> str:
    """A path in the bucket's folder, <namespace>/<table>/…, of one in the home."""
    return path.removeprefix(_INSIDE)


def _rows(settings: Settings, table: TableFiles, place: Location) -> dict[int, int]:
    """Number of rows of every snapshot, as its files say themselves."""
    paths = sorted({path for files in table.snapshots.values() for path in files})
    count: dict[str, int] = {}
    if paths:
        sql = "SELECT file_name, num_rows FROM parquet_file_metadata($files)"
        with session(settings) as connection:
            count = dict(connection.execute(sql, {"files": [place.at(path) for path in paths]}).fetchall())
    return {key: sum(count[place.at(path)] for path in files) for key, files in table.snapshots.items()}


def _unequal(name: str, why: str) -> StorageError:
    return StorageError(
        f"{name} is not on the server as it is in the home: {why}",
        hint="the home is as it was. Run this again; if it says the same, migrate to another folder of the bucket.",
    )
