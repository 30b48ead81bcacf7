"""`mlops backup`: a whole home in one archive, while it is in use.

Does not belong here: what is copied (`staging.py`), the archive's form (`archive.py`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError, StorageError
from mlops_platform.home_backup.archive import (
    FORMAT_VERSION,
    Manifest,
    TableState,
    list_files,
    mode_of,
    write_archive,
)
from mlops_platform.home_backup.staging import scratch_folder, stage
from mlops_platform.home_backup.tables import CATALOG, Place, catalog_tables, digest_engine, homes_of, state_of
from mlops_platform.settings import HOME_FILE, mask_secrets
from mlops_platform.storage.locks import table_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mlops_platform.settings import Settings

_LOCK, _STAGING = "home.backup", "backup-"
# One of them is in every home that was used.
_SIGNS = (CATALOG, HOME_FILE, "mlflow.db", "dagster")
_RUNS = "dagster/history/runs.db"
_UNFINISHED = ("STARTING", "STARTED", "CANCELING")


@dataclass(frozen=True, slots=True)
class Backup:
    """What was backed up.

    Args:
        archive: The file.
        size: Its size in bytes.
        files: Number of files in it.
        tables: Each table's state.
        notes: What the user should know: runs that were not finished, and what lies outside the home.
    """

    archive: Path
    size: int
    files: int
    tables: dict[str, TableState]
    notes: tuple[str, ...]


def back_up(settings: Settings, archive: Path, *, created_at: datetime, say: Callable[[str], None]) -> Backup:
    """Writes everything that is state in a home to an archive; writers may go on.

    Args:
        settings: The home.
        archive: The file to make: `.tar` or `.tar.gz`.
        created_at: The present instant, for the archive's list.
        say: Called with each line of progress.

    Raises:
        InputError: There is no home, or the archive can't be made there.
        StorageError: A file of the home is missing or can't be read, or the disk is full.
    """
    archive = archive.absolute()
    require_own_tables(settings)
    require_home(settings)
    _require_free(settings, archive)
    try:
        with table_lock(settings, _LOCK), scratch_folder(settings.home / "tmp", _STAGING) as folder:
            homes, tables = stage(settings, folder, say)
            say("counting rows")
            states = {table.name: state_of(settings, table, Place(homes, folder)) for table in tables}
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                platform_version=version("mlops-platform"),
                created_at=created_at,
                home=str(settings.home),
                homes=homes,
                digest_engine=digest_engine(),
                tables=states,
                files=list_files(folder, say),
            )
            write_archive(archive, manifest, folder, say)
            notes = (*_unfinished_runs(folder / _RUNS), *_outside(settings))
    except OSError as error:
        raise StorageError(
            f"the home {settings.home} can't be backed up to {archive}: {error}",
            expected="a home this user can read and write, and room for the archive",
            hint="mend what the message names, then run this again.",
        ) from error
    return Backup(archive, archive.stat().st_size, len(manifest.files), states, notes)


def require_own_tables(settings: Settings) -> None:
    """The home holds its tables itself.

    Raises:
        InputError: The catalog or the tables' files are on a server.
    """
    if settings.catalog_url is not None or settings.warehouse_url is not None:
        where = mask_secrets(settings.catalog_url or settings.warehouse_url or "")
        raise InputError(
            f"the tables of this home are in {where}, not in its folder",
            expected="a home of the embedded profile",
            hint="back up the database with pg_dump and the bucket with its versioning, or unset MLOPS_CATALOG_URL "
            "and MLOPS_WAREHOUSE_URL.",
        )


def moved_from(settings: Settings) -> Path | None:
    """Where the home was made, if it is elsewhere now: its tables still name files there.

    Raises:
        StorageError: The catalog can't be read, or a table lies in no home.
    """
    if settings.catalog_url is not None or settings.warehouse_url is not None:
        return None
    for made_at in map(Path, homes_of(catalog_tables(settings.home / CATALOG))):
        is_here = made_at == settings.home or (made_at.exists() and made_at.samefile(settings.home))
        if not is_here:
            return made_at
    return None


def require_home(settings: Settings) -> None:
    """The folder was used as a home.

    Raises:
        InputError: It was not.
    """
    if not any((settings.home / name).exists() for name in _SIGNS):
        raise InputError(
            f"{settings.home} is no home: it has none of {', '.join(_SIGNS)}",
            expected="a folder that `mlops demo` or a run has filled",
            hint="name it with --home DIR or MLOPS_HOME.",
        )


def _require_free(settings: Settings, archive: Path) -> None:
    mode_of(archive)
    home = settings.home.resolve()
    if archive.exists():
        raise InputError(f"{archive} is there already", hint="name another file, or remove it first.")
    if home in archive.resolve().parents:
        raise InputError(f"{archive} lies inside the home", expected="a place outside, best on another disk")
    if not archive.parent.is_dir():
        raise InputError(f"there is no folder {archive.parent}", hint=f"mkdir -p {archive.parent}")


def _unfinished_runs(database: Path) -> list[str]:
    if not database.is_file():
        return []
    marks = ", ".join("?" * len(_UNFINISHED))
    try:
        with closing(sqlite3.connect(database)) as runs:
            found = runs.execute(f"SELECT run_id FROM runs WHERE status IN ({marks})", _UNFINISHED).fetchall()
    except sqlite3.Error as error:
        raise StorageError(f"Dagster's {_RUNS} can't be read: {error}") from error
    return [f"run {run_id} was not finished: it is in the archive as far as it had come" for (run_id,) in found]


def _outside(settings: Settings) -> list[str]:
    found = []
    home = str(settings.home)
    if settings.mlflow_tracking_uri is not None and f"{home}/" not in settings.mlflow_tracking_uri:
        found.append(f"MLflow is at {mask_secrets(settings.mlflow_tracking_uri)} and not in the archive")
    urls = {"crm": settings.crm_url} | {name: source.url for name, source in settings.sources.items() if source.url}
    for name, url in urls.items():
        if url is not None and f"{home}/" not in url:
            found.append(f"the source {name} is at {mask_secrets(url)} and not in the archive")
    return found
