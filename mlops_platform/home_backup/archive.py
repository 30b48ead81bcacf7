"""The archive of a home: a tar file that begins with the list of what is in it.

Belongs here: the list (`manifest.json`, and its own checksum) and writing a folder into an archive. Does not belong
here: reading an archive (`unpack.py`), or what of a home goes in (`backup.py`).
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mlops_platform.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")

FORMAT_VERSION = 1
LIST_NAME, SEAL_NAME, FILES_FOLDER = "manifest.json", "manifest.sha256", "home/"
SUFFIXES: dict[str, Literal["w", "w:gz"]] = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}
CHUNK = 2**20


class FileEntry(BaseModel):
    """One file of the archive."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int = Field(ge=0)


class TableState(BaseModel):
    """One table as it was copied: its current snapshot, and number and digest of that snapshot's rows."""

    model_config = ConfigDict(frozen=True)

    snapshot_id: int | None
    rows: int = Field(ge=0)
    digest: str


class Manifest(BaseModel):
    """The list of contents.

    Args:
        format_version: Version of the archive's form.
        platform_version: Version of the platform that made it.
        created_at: When it was made.
        home: Where the home was.
        homes: Every path by which files of the home may name it.
        digest_engine: What computed the tables' digests; only the same engine's can be compared with them.
        tables: Table name to its state.
        files: Path in the home to the file's checksum and size.
    """

    model_config = ConfigDict(frozen=True)

    format_version: int
    platform_version: str
    created_at: datetime
    home: str
    homes: tuple[str, ...]
    digest_engine: str
    tables: dict[str, TableState]
    files: dict[str, FileEntry]


def mode_of(archive: Path) -> Literal["w", "w:gz"]:
    """How tarfile writes an archive of this name.

    Raises:
        InputError: The name has none of an archive's endings.
    """
    for suffix, mode in SUFFIXES.items():
        if archive.name.endswith(suffix) and archive.name != suffix:
            return mode
    raise InputError(f"{archive} has no known format", expected=f"a path ending in {', '.join(SUFFIXES)}")


def list_files(folder: Path, say: Callable[[str], None]) -> dict[str, FileEntry]:
    """Checksum and size of every file below a folder, by its path in it."""
    found: dict[str, FileEntry] = {}
    for path in told(sorted(path for path in folder.rglob("*") if path.is_file()), "reading", say):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = FileEntry(sha256=sha256, size=file.tell())
    return found


def write_archive(archive: Path, manifest: Manifest, folder: Path, say: Callable[[str], None]) -> None:
    """Writes the files below `folder` that the manifest lists to an archive which only this user can read.

    It is written to `<archive>.partial`, which gets its name when it is complete.

    Raises:
        StorageError: A file has changed since it was listed.
    """
    partial = archive.with_name(archive.name + ".partial")
    # The home's key may be inside: nobody else may read it, not even while it is written.
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as raw:
            with _opened(raw, mode_of(archive)) as tar:
                _write_list(tar, manifest)
                for name, entry in told(list(manifest.files.items()), "writing", say):
                    _write_file(tar, name, entry, folder / name)
            raw.flush()
            os.fsync(raw.fileno())
        partial.rename(archive)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _opened(raw: IO[bytes], mode: Literal["w", "w:gz"]) -> tarfile.TarFile:
    if mode == "w":
        return tarfile.open(fileobj=raw, mode=mode)
    # Most of a home is Parquet, which is compressed already: a higher level costs time and saves nothing.
    return tarfile.open(fileobj=raw, mode=mode, compresslevel=1)


def _write_list(tar: tarfile.TarFile, manifest: Manifest) -> None:
    text = manifest.model_dump_json(indent=1).encode()
    for name, content in ((LIST_NAME, text), (SEAL_NAME, hashlib.sha256(text).hexdigest().encode())):
        member = tarfile.TarInfo(name)
        member.size, member.mtime = len(content), int(manifest.created_at.timestamp())
        tar.addfile(member, io.BytesIO(content))


def _write_file(tar: tarfile.TarFile, name: str, entry: FileEntry, path: Path) -> None:
    # Made by hand: tarfile would write a file with two names, which hard links are, as a link in the archive.
    member = tarfile.TarInfo(FILES_FOLDER + name)
    found = path.stat()
    member.size, member.mode, member.mtime = entry.size, found.st_mode & 0o777, int(found.st_mtime)
    with path.open("rb") as file:
        hashed = _Hashed(file)
        tar.addfile(member, hashed)
    if hashed.digest.hexdigest() != entry.sha256:
        raise StorageError(f"{name} was changed while it was copied", hint="run this again.")


class _Hashed(io.RawIOBase):
    """A file that remembers the checksum of what was read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def told(items: Sequence[Item], what: str, say: Callable[[str], None]) -> Iterator[Item]:
    """The items, with a line of progress for each tenth of them."""
    step = max(1, len(items) // 10)
    for number, item in enumerate(items):
        if number % step == 0:
            say(f"{what}: {number:,} of {len(items):,} files")
        yield item
