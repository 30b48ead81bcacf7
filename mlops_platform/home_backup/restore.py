"""`mlops restore`: an archive becomes a home in a place of the user's choice, whole or not at all.

The home is made in a folder beside its place, checked there to the last row, and gets its name at the end. Does not
belong here: reading the archive (`unpack.py`), changing paths (`relocate.py`).
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError, StorageError
from mlops_platform.home_backup.archive import Manifest, TableState
from mlops_platform.home_backup.backup import require_own_tables
from mlops_platform.home_backup.relocate import relocate
from mlops_platform.home_backup.tables import (
    CATALOG,
    Place,
    catalog_tables,
    digest_engine,
    reached,
    require_files,
    state_of,
)
from mlops_platform.home_backup.unpack import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_platform.settings import Settings


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored.

    Args:
        home: Where it is now.
        was: Where it was when it was backed up.
        created_at: When that was.
        tables: Each table's state.
        left: Files that still name the old place: binary ones of unknown form.
    """

    home: Path
    was: Path
    created_at: datetime
    tables: dict[str, TableState]
    left: tuple[str, ...]


def restore(settings: Settings, archive: Path, *, say: Callable[[str], None]) -> Restored:
    """Makes the home of `settings` from an archive.

    Args:
        settings: The new home: a folder that does not exist, or is empty.
        archive: A file made by `back_up`.
        say: Called with each line of progress.

    Raises:
        InputError: The new home is not empty, or the archive is not what was written.
        StorageError: A table is not what was backed up, or the disk is full.
    """
    require_own_tables(settings)
    _require_empty(settings.home)
    try:
        with _workspace(settings.home.resolve()) as folder:
            manifest = unpack(archive, folder, say)
            left = []
            if set(manifest.homes) != {str(settings.home)}:
                left = relocate(folder, manifest.homes, str(settings.home), say)
            _verify(settings, manifest, folder, say)
    except OSError as error:
        raise StorageError(
            f"{archive} can't be restored to {settings.home}: {error}",
            expected="a place this user can write to, with room for the home",
            hint="mend what the message names, then run this again; nothing was restored.",
        ) from error
    return Restored(settings.home, Path(manifest.home), manifest.created_at, manifest.tables, tuple(left))


def _require_empty(home: Path) -> None:
    text = str(home)
    if any(sign in '"\\' or not sign.isprintable() for sign in text):
        raise InputError(f"the path {text!r} can't be a home", expected="a path without quotes, \\ or control signs")
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise InputError(
            f"{home} is {'not empty' if home.is_dir() else 'a file'}",
            expected="a folder that does not exist yet, or is empty",
            hint="choose another with --home DIR; a home is never written over.",
        )


@contextmanager
def _workspace(place: Path) -> Iterator[Path]:
    """A folder that becomes `place` when the body is done, and is removed when it fails."""
    beside = next(parent for parent in place.parents if parent.is_dir())
    folder = beside / f".{place.name}.restoring-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
        place.parent.mkdir(parents=True, exist_ok=True)
        # Takes the place of an empty folder too, and of nothing else.
        folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _verify(settings: Settings, manifest: Manifest, folder: Path, say: Callable[[str], None]) -> None:
    """Every snapshot of every table has its files, and the current one the rows that were backed up."""
    here = settings.model_copy(update={"home": folder})
    place = Place([str(settings.home)], folder)
    found = catalog_tables(folder / CATALOG)
    if set(found) != set(manifest.tables):
        raise StorageError(f"the archive's catalog names {len(found)} tables, its list {len(manifest.tables)}")
    for name, location in found.items():
        say(f"checking {name}")
        table = reached(place, name, location)
        require_files(table, folder)
        state, expected = state_of(here, table, place), manifest.tables[name]
        if manifest.digest_engine != digest_engine():
            # Each file's checksum was right; another version of the engine may only hash rows differently.
            state = state.model_copy(update={"digest": expected.digest})
        if state != expected:
            raise StorageError(
                f"{name} was restored with {state.rows:,} rows, and is not the table of {expected.rows:,} rows that "
                "was backed up",
                hint="restore an older backup; nothing was restored.",
            )
    shutil.rmtree(folder / "tmp", ignore_errors=True)
