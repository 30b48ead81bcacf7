"""A folder in a bucket: files are put there, listed and read back, through PyArrow as PyIceberg does it.

Belongs here: what a migration asks of an S3-compatible store. Does not belong here: which files go there.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_platform.errors import InputError, StorageError
from mlops_platform.home_backup.archive import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pyiceberg.io.pyarrow import PyArrowFileIO

Item = TypeVar("Item")

# A bucket takes about 30 ms a request, however small: several at a time.
_THREADS = 8
_ADDRESS = re.compile(r"""s3://[\w.\-]+(/[^\s"\\%#?]+)*""")


@dataclass(frozen=True)
class BucketFolder:
    """A folder in a bucket.

    Args:
        url: Its address, s3://bucket/folder.
        properties: How PyIceberg reaches it, as `Settings.file_properties` says.
    """

    url: str
    properties: Mapping[str, str]

    def require(self) -> None:
        """The address names a bucket that is there.

        Raises:
            InputError: It holds a sign that means something else in a file's address, or there is no such bucket.
        """
        from pyarrow import fs

        if not _ADDRESS.fullmatch(self.url):
            raise InputError(
                f"{self.url} can't hold tables", expected="s3://bucket/folder, without spaces, quotes, \\, %, # or ?"
            )
        bucket = self._key("").split("/")[0]
        if self._fs.get_file_info(bucket).type == fs.FileType.NotFound:
            raise InputError(
                f"there is no bucket {bucket}", hint="make it first; AWS_ENDPOINT_URL and AWS_REGION say where it is."
            )

    def at(self, path: str) -> str:
        """Address of a path in the folder."""
        return f"{self.url}/{path}"

    def sizes(self, below: str = "") -> dict[str, int]:
        """Size of every file at or below a path, by its path in the folder."""
        from pyarrow import fs

        selector = fs.FileSelector(self._key(below).rstrip("/"), allow_not_found=True, recursive=True)
        start = len(self._key(""))
        return {found.path[start:]: found.size for found in self._fs.get_file_info(selector) if found.is_file}

    def put(self, path: str, data: bytes) -> None:
        """Writes a file; one of that path is written over."""
        with self._fs.open_output_stream(self._key(path)) as sink:
            sink.write(data)

    def ensure(self, path: str, source: Path, held: Mapping[str, int]) -> None:
        """Copies a file there, unless it is there already, and reads it back.

        Args:
            path: Where to.
            source: The file.
            held: What is in the folder, as `sizes` says: files that a run before this one copied.

        Raises:
            StorageError: What was read back has another checksum.
        """
        with source.open("rb") as file:
            wanted, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
        if held.get(path) == size and self._sha256(path) == wanted:
            return
        self._upload(path, source)
        if self._sha256(path) != wanted:
            raise StorageError(
                f"{self.at(path)} is not the same file as {source}, which may have changed meanwhile",
                hint="run this again.",
            )

    def _upload(self, path: str, source: Path) -> None:
        # A copy that breaks off in the middle leaves a file that is too short: the next run sees its size.
        with source.open("rb") as file, self._fs.open_output_stream(self._key(path)) as sink:
            shutil.copyfileobj(file, sink, CHUNK)

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._fs.open_input_stream(self._key(path)) as stream:
            while data := stream.read(CHUNK):
                digest.update(data)
        return digest.hexdigest()

    @cached_property
    def io(self) -> PyArrowFileIO:
        """Reads files by their addresses."""
        from pyiceberg.io.pyarrow import PyArrowFileIO

        return PyArrowFileIO(dict(self.properties))

    @cached_property
    def _fs(self) -> Any:
        return self.io.fs_by_scheme("s3", self.url.removeprefix("s3://").split("/")[0])

    def _key(self, path: str) -> str:
        return f"{self.url.removeprefix('s3://')}/{path}"


def for_each(items: Iterable[Item], work: Callable[[Item], None], what: str, say: Callable[[str], None]) -> None:
    """Does the work for several items at a time, with a line of progress for each tenth; the first error ends it."""
    waiting = list(items)
    step = max(1, len(waiting) // 10)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for number, done in enumerate(as_completed([pool.submit(work, item) for item in waiting])):
            if number % step == 0:
                say(f"{what}: {number:,} of {len(waiting):,} files")
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
