"""Reading an archive of a home: nothing of it is believed before it was checked.

Belongs here: the list's form, which members may be unpacked, and every file's checksum. Does not belong here: what the
files hold (`restore.py`).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mlops_platform.errors import InputError, StorageError
from mlops_platform.home_backup.archive import (
    CHUNK,
    FILES_FOLDER,
    FORMAT_VERSION,
    LIST_NAME,
    SEAL_NAME,
    FileEntry,
    Manifest,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_LIST_BYTES = 256 * 2**20


def unpack(archive: Path, folder: Path, say: Callable[[str], None]) -> Manifest:
    """Unpacks an archive into an empty folder: the files it lists and nothing else, each held against its checksum.

    Raises:
        InputError: It is no archive of a home, or not what was written.
        StorageError: The disk is too full.
    """
    try:
        # As a stream: one pass, and no member is looked for by its place.
        with _plain(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            manifest = _read_list(tar)
            _require_space(manifest, folder)
            for name in told(list(manifest.files), "checking", say):
                _unpack_file(tar, name, manifest.files[name], folder)
            if (more := tar.next()) is not None:
                raise _DamageError(f"it holds {more.name!r}, which its list does not name")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"there is no archive {archive}", expected="a file made by `mlops backup`") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, _DamageError) as error:
        raise InputError(
            f"{archive} can't be restored: {error}",
            expected="an archive as `mlops backup` wrote it",
            hint="take another copy of it; nothing was restored.",
        ) from error
    return manifest


def _plain(archive: Path) -> io.BufferedIOBase:
    """The archive's bytes, uncompressed."""
    with archive.open("rb") as file:
        is_packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    # Not tarfile's own reader: a file that ends in gzip's header is a TypeError there.
    return gzip.GzipFile(archive) if is_packed else archive.open("rb")


class _DamageError(Exception):
    """The archive is not what was written."""


def _read_list(tar: tarfile.TarFile) -> Manifest:
    text, seal = _small_file(tar, LIST_NAME), _small_file(tar, SEAL_NAME)
    if hashlib.sha256(text).hexdigest().encode() != seal:
        raise _DamageError("its list of contents was changed")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise _DamageError(f"its list of contents can't be read: {error.errors()[0]['msg']}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise _DamageError(
            f"it has format {manifest.format_version}, written by mlops-platform {manifest.platform_version}; "
            f"this one reads format {FORMAT_VERSION}"
        )
    for name in manifest.files:
        _require_inside(name)
    return manifest


def _small_file(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.next()
    if member is None or member.name != name or not member.isreg() or member.size > _MAX_LIST_BYTES:
        raise _DamageError(f"it does not begin with {LIST_NAME} and {SEAL_NAME}")
    file = tar.extractfile(member)
    assert file is not None  # noqa: S101 - a regular file
    return file.read()


def _require_inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name or name == ".":
        raise _DamageError(f"{name!r} is no path inside a home")


def _require_space(manifest: Manifest, folder: Path) -> None:
    needed, free = sum(entry.size for entry in manifest.files.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"the home needs {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free",
            hint="free some, or restore to another disk with --home DIR.",
        )


def _unpack_file(tar: tarfile.TarFile, name: str, entry: FileEntry, folder: Path) -> None:
    member = tar.next()
    if member is None:
        raise _DamageError(f"{name} is missing")
    if member.name != FILES_FOLDER + name:
        raise _DamageError(f"it holds {member.name!r} where its list names {name}")
    if not member.isreg():
        raise _DamageError(f"{name} is no plain file in it")
    # tarfile's own rules come on top: they also take away what permissions no data file should have.
    mode = tarfile.data_filter(member, str(folder)).mode
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # noqa: S101 - a regular file
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while data := source.read(CHUNK):
            digest.update(data)
            size += len(data)
            if size > entry.size:
                break
            file.write(data)
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise _DamageError(f"{name} was changed")
    target.chmod(mode if mode is not None else 0o600)
