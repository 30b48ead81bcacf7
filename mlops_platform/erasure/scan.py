"""The proof: every file of a home read through for ids of customers.

A file is opened by what it is, so that an id is found in a column of Parquet, in a manifest's bounds, in a row of
SQLite or in a compressed text, and C1 is not found in C10. Does not belong here: how each kind is read (`formats.py`).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.erasure.formats import places
from mlops_platform.erasure.subjects import Subjects
from mlops_platform.storage.pseudonym import KEY_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlops_platform.settings import Settings

# Locks are empty, the key is no data about anybody, and SQLite reads its companions itself.
_SKIPPED_NAMES = {KEY_FILE}
_SKIPPED_ENDINGS = ("-wal", "-shm", "-journal", ".lock")


@dataclass(frozen=True, slots=True)
class Hit:
    """A place where a customer is still named.

    Args:
        path: The file.
        where: Where in it: a column, a table, a line.
    """

    path: str
    where: str


def verify(settings: Settings, customer_ids: Iterable[str]) -> list[Hit]:
    """Looks for customers in every file of the home, and of its warehouse where that is a bucket.

    The list of the erased itself, bronze.erasures, holds their keyed hashes, which is its purpose; ids are looked for
    there, hashes are not.

    Raises:
        InputError: No id, or a blank one.
    """
    subjects = Subjects.of(settings, customer_ids)
    ids_only = Subjects(subjects.ids, ())
    found = []
    for path in sorted(settings.home.rglob("*")):
        if path.is_file() and not path.is_symlink() and not _is_skipped(path):
            whom = ids_only if "erasures" in path.parts else subjects
            found += [Hit(str(path), where) for where in places(path, whom)]
    for address, copy in _bucket_files(settings):
        whom = ids_only if "/erasures/" in address else subjects
        found += [Hit(address, where) for where in places(copy, whom)]
    return found


def _is_skipped(path: Path) -> bool:
    return path.name in _SKIPPED_NAMES or path.name.endswith(_SKIPPED_ENDINGS)


def _bucket_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Files of a warehouse that is no folder of the home, each copied to be read."""
    if settings.warehouse_url is None:
        return
    from pyiceberg.io import load_file_io

    from mlops_platform.storage.maintenance.orphans import listed

    io = load_file_io(settings.file_properties, settings.warehouse_url)
    scheme = settings.warehouse_url.partition("://")[0]
    with tempfile.TemporaryDirectory() as folder:
        for file in listed(io, settings.warehouse_url):
            address = f"{scheme}://{file.path}"
            copy = Path(folder) / Path(file.path).name
            with io.new_input(address).open() as source:
                copy.write_bytes(source.read())
            yield address, copy
            copy.unlink()
