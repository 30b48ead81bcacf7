"""DuckDB sessions: one place that sets time zone, memory and where it spills, and says how data files are read.

Does not belong here: queries.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import duckdb

    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings


@contextmanager
def session(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in the business time zone, with bounded memory, spilling into the home.

    Extensions are never fetched: the platform makes no connection it was not asked for.
    """
    import duckdb

    connection = duckdb.connect(
        config={
            "memory_limit": f"{settings.memory_limit_mb}MB",
            "temp_directory": str(settings.home / "tmp"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    try:
        connection.execute("SET TimeZone = $zone", {"zone": settings.timezone})
        # In a process without a script, a worker too, DuckDB takes standard output for a person's terminal.
        connection.execute("SET enable_progress_bar = false")
        use_files_of(connection, settings)
        yield connection
    finally:
        connection.close()


def use_files_of(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Lets the connection read the home's warehouse where that is a bucket: through PyArrow, as PyIceberg does.

    DuckDB's own extension for it would have to be fetched.
    """
    if settings.warehouse_location.startswith("s3://") and "s3" not in connection.list_filesystems():
        connection.register_filesystem(bucket_files(settings))


class _SharedFile(threading.local):
    """One file, with a place in it for each thread.

    DuckDB's threads share it: each seeks, then reads, and between the two PyArrow lets another thread go on.
    """

    def __init__(self, opened: Any) -> None:
        # It closes its file when it is forgotten.
        self._opened, self._file, self._place = opened, opened.stream, 0

    def seek(self, place: int, whence: int = 0) -> int:
        self._place = place + (0, self._place, self._file.size())[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, length: int = -1) -> bytes:
        wanted = self._file.size() - self._place if length < 0 else length
        data: bytes = self._file.read_at(wanted, self._place)
        self._place += len(data)
        return data

    def close(self) -> None:
        self._file.close()


def bucket_files(settings: Settings) -> Any:
    """The bucket of the home's warehouse, as a file system of fsspec that several threads may read one file of."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyiceberg.io.pyarrow import PyArrowFileIO

    class Bucket(ArrowFSWrapper):  # type: ignore[misc]
        """A bucket of files that never change: what one is like is asked once a connection, not seven times."""

        protocol = "s3"

        def __init__(self, files: Any) -> None:
            super().__init__(files)
            self._known: dict[str, Any] = {}

        def info(self, path: str, **options: Any) -> Any:
            name = self._strip_protocol(path)
            if name not in self._known:
                self._known[name] = super().info(name, **options)
            return self._known[name]

        def modified(self, path: str) -> Any:
            return self.info(path)["mtime"]

        def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            return _SharedFile(super()._open(path, mode, **options))

    return Bucket(PyArrowFileIO(settings.file_properties).fs_by_scheme("s3", None))


def parquet_source(paths: Sequence[str], *, options: str = "") -> str:
    """A `read_parquet` call over data files.

    A folder named `column=value` anywhere in a path is no partition: Iceberg's metadata says what is in a file.
    """
    files = ", ".join("'" + path.removeprefix("file://").replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{files}], hive_partitioning = false{options})"


def contract_cells(contract: TableContract, present: Collection[str]) -> str:
    """The contract's columns as a SELECT list; null for those the files do not have."""
    return ", ".join(
        quoted(column.name) if column.name in present else f"NULL::{column.type.value} AS {quoted(column.name)}"
        for column in contract.columns
    )


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'
