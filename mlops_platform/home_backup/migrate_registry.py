"""A home's runs and models on a server: MLflow's rows into its database, the artifacts' files into the bucket.

The rows are copied last, in one transaction: they never name a file that is not there. Belongs here: where artifacts
lie, here and there. Does not belong here: databases (`migrate_rows.py`).
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlops_platform.errors import InputError, StorageError
from mlops_platform.home_backup.bucket import BucketFolder, for_each
from mlops_platform.home_backup.migrate_rows import TrackingDatabase, upgrade
from mlops_platform.home_backup.old_paths import OldPaths
from mlops_platform.home_backup.relocate_sqlite import relocate_sqlite
from mlops_platform.home_backup.staging import copy_database, scratch_folder
from mlops_platform.home_backup.tables import WAREHOUSE
from mlops_platform.settings import mask_secrets, without_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlops_platform.settings import Settings

DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"
_SCRATCH = "migrate-"
# Columns that hold nothing but the address of a file or folder.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)


@dataclass(frozen=True, slots=True)
class MigratedRegistry:
    """Runs and models that are on the server.

    Args:
        experiments: Number of experiments.
        runs: Number of runs.
        versions: Number of registered model versions.
        artifacts: Number of artifact files, each with the same checksum on both sides.
        is_new: False where an earlier run had copied the rows.
        notes: What the user should know.
    """

    experiments: int
    runs: int
    versions: int
    artifacts: int
    is_new: bool
    notes: tuple[str, ...]


def tracking_database(uri: str) -> TrackingDatabase:
    """The database that a tracking address names.

    Raises:
        InputError: It is none on a PostgreSQL server.
    """
    if uri.startswith(("http://", "https://")):
        raise InputError(
            f"{mask_secrets(uri)} is an MLflow server, which gives every run it takes a new id",
            expected="the address of the server's own database, postgresql://user@host/database",
            hint="take it from the server's --backend-store-uri; models and predictions name runs by their ids.",
        )
    address = without_driver(uri)
    if not address.startswith("postgresql://"):
        raise InputError(f"{mask_secrets(uri)} can't hold a server's runs", expected="postgresql://user@host/database")
    return TrackingDatabase(address)


def artifact_folder(warehouse: BucketFolder) -> BucketFolder:
    """Where the artifacts go: a folder of the warehouse's bucket."""
    bucket = warehouse.url.removeprefix("s3://").split("/")[0]
    return BucketFolder(f"s3://{bucket}/{ARTIFACTS}", warehouse.properties)


def migrate_registry(
    source: Settings,
    homes: Sequence[str],
    tracking: TrackingDatabase,
    warehouse: BucketFolder,
    say: Callable[[str], None],
) -> MigratedRegistry:
    """Copies runs, models and their files, and compares both sides.

    Args:
        source: The embedded home; nothing of it is changed.
        homes: The paths by which its files may name it.
        tracking: The server's database.
        warehouse: Where the tables went.
        say: Called with each line of progress.

    Raises:
        StorageError: A row or file can't be copied, or what is there already differs.
    """
    artifacts = artifact_folder(warehouse)
    with scratch_folder(source.home / "tmp", _SCRATCH) as scratch:
        copy = scratch / DATABASE
        copy_database(source.home / DATABASE, copy)
        upgrade(copy)
        folders = _artifact_folders(copy, homes)
        left = _move_locations(copy, folders, artifacts)
        for folder, path in folders.items():
            relocate_sqlite(copy, OldPaths([str(folder)], artifacts.at(path).rstrip("/")))
        relocate_sqlite(copy, OldPaths([f"{home}/{WAREHOUSE}" for home in homes], warehouse.url))
        files = _copy_files(source, folders, artifacts, say)
        is_new = tracking.copy(copy, str(source.home), say)
        experiments, runs, versions, unfinished = _counts(copy)
    notes = [f"artifacts at {folder} lie outside the home and stay there" for folder in sorted(left)]
    if unfinished:
        notes.append(f"{unfinished:,} MLflow runs were not finished: they were copied as far as they had come")
    return MigratedRegistry(experiments, runs, versions, files, is_new, tuple(notes))


def _artifact_folders(database: Path, homes: Sequence[str]) -> dict[Path, str]:
    """Every folder of artifacts, and its path in the bucket: the homes' own, and those of experiments elsewhere.

    An experiment made by another tool has its artifacts where that tool was started.
    """
    found = {Path(home) / ARTIFACTS: "" for home in homes}
    with closing(sqlite3.connect(database)) as opened:
        rows = opened.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    for experiment_id, location in rows:
        path = _local(location)
        if path is not None and _below(path, found) is None:
            found[path] = f"experiment-{experiment_id}"
    return found


def _move_locations(database: Path, folders: Mapping[Path, str], artifacts: BucketFolder) -> set[str]:
    """Changes the columns that hold addresses; returns local ones that lie in none of the folders.

    A file's address is percent-encoded, a bucket's is not: replacing the beginning would not do.
    """
    left = set()
    with closing(sqlite3.connect(database)) as opened, opened:
        for table, column in _LOCATIONS:
            for (location,) in opened.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
                path = _local(location)
                inside = _below(path, folders) if path is not None else None
                if inside is not None:
                    moved = artifacts.at(_required_plain(inside)).rstrip("/")
                    opened.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (moved, location))
                elif path is not None and table != "trace_tags":
                    left.add(str(path))
    return left


def _local(location: str | None) -> Path | None:
    """The path that an address names; None where it is no path of this machine."""
    if location is None:
        return None
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def _below(path: Path, folders: Mapping[Path, str]) -> str | None:
    """A file's path in the bucket."""
    for folder, start in folders.items():
        if path.is_relative_to(folder):
            return "/".join(part for part in (start, *path.relative_to(folder).parts) if part)
    return None


def _required_plain(path: str) -> str:
    if any(sign in path for sign in "%#?"):
        raise StorageError(
            f"artifacts are at {path}, which can't be an address in a bucket",
            expected="experiments and models whose names hold no %, # or ?",
            hint="delete that experiment or model in MLflow, `mlflow gc` then removes it for good.",
        )
    return path


def _copy_files(
    source: Settings, folders: Mapping[Path, str], artifacts: BucketFolder, say: Callable[[str], None]
) -> int:
    """Copies every artifact file that is not there yet, and reads each back; returns their number."""
    # A home has several names; its files are read by one.
    own = source.home / ARTIFACTS
    found = {
        "/".join((*filter(None, [start]), path.relative_to(folder).as_posix())): path
        for folder, start in folders.items()
        if start or folder == own
        for path in _files(folder)
    }
    held = artifacts.sizes()
    for_each(sorted(found), lambda name: artifacts.ensure(name, found[name], held), "copying artifacts", say)
    return len(found)


def _files(folder: Path) -> Iterator[Path]:
    seen = set()
    for found, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(found)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (path for path in (Path(found, name) for name in files) if path.is_file())


def _counts(database: Path) -> tuple[int, int, int, int]:
    """Experiments, runs, model versions, and runs that have not ended."""
    with closing(sqlite3.connect(database)) as opened:
        status = Counter(row[0] for row in opened.execute("SELECT status FROM runs"))
        (experiments,) = opened.execute("SELECT count(*) FROM experiments").fetchone()
        (versions,) = opened.execute("SELECT count(*) FROM model_versions").fetchone()
    return experiments, status.total(), versions, status["RUNNING"] + status["SCHEDULED"]
