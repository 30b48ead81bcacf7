"""`mlops migrate --to server`: an embedded home's tables, runs and models move to a server with all their history.

Nothing of the home is changed, and a migration that was killed goes on when it is run again. Belongs here: what is
asked of the target, and the order of the steps. Does not belong here: how tables (`migrate_tables.py`) and models
(`migrate_registry.py`) get there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError, StorageError
from mlops_platform.home_backup.backup import require_home
from mlops_platform.home_backup.bucket import BucketFolder
from mlops_platform.home_backup.migrate_registry import (
    DATABASE,
    MigratedRegistry,
    migrate_registry,
    tracking_database,
)
from mlops_platform.home_backup.migrate_tables import BucketPlace, MigratedTable, TableMigration
from mlops_platform.home_backup.tables import CATALOG, Place, catalog_tables, homes_of
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.catalog import open_catalog
from mlops_platform.storage.locks import table_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_platform.home_backup.migrate_rows import TrackingDatabase
    from mlops_platform.settings import Settings

SERVER, EMBEDDED = "server", "embedded"
_LOCK = "home.migrate"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What is on the server.

    Args:
        tables: The tables, in the order of their names.
        registry: Runs and models; None where they stay in the home.
        exports: Variables that point a home at the server, passwords masked.
        notes: What the user should know: what stays in the home.
    """

    tables: tuple[MigratedTable, ...]
    registry: MigratedRegistry | None
    exports: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Target:
    settings: Settings
    warehouse: BucketFolder
    tracking: TrackingDatabase | None


def require_destination(to: str) -> None:
    """The platform can migrate to there.

    Raises:
        InputError: It can't.
    """
    if to == EMBEDDED:
        raise InputError(
            "tables of a server can't be migrated into a home",
            expected=f"--to {SERVER}",
            hint="the home as it was before is still there, and `mlops restore FILE --home DIR` makes one of a backup.",
        )
    if to != SERVER:
        raise InputError(f"--to {to!r} is no place to migrate to", expected=f"--to {SERVER}")


def embedded(settings: Settings) -> Settings:
    """The home itself, whatever server the settings name."""
    return settings.model_copy(update={"catalog_url": None, "warehouse_url": None, "mlflow_tracking_uri": None})


def migrate(settings: Settings, *, say: Callable[[str], None]) -> Migrated:
    """Copies a home's tables, runs and models to a server, checked row by row; its writers wait.

    Args:
        settings: The home, with the server's catalog, warehouse and, where runs move too, tracking database.
        say: Called with each line of progress.

    Raises:
        InputError: There is no home, or the target can't be used.
        StorageError: A table or model is there already and differs, or a copy is not equal.
    """
    from sqlalchemy.exc import SQLAlchemyError

    source = embedded(settings)
    require_home(source)
    target = _target(source, settings)
    try:
        with table_lock(source, _LOCK), _quiet_tables(source, say) as locations:
            return _migrate(source, target, locations, say)
    except (OSError, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        raise StorageError(
            f"the home {source.home} can't be migrated: {mask_secrets(str(cause)).strip()}",
            expected="a home, a database and a bucket that this user can use",
            hint="mend what the message names (AWS_ENDPOINT_URL, AWS_REGION and AWS_ACCESS_KEY_ID lead to the "
            "bucket), then run this again: it goes on where it was.",
        ) from error


def _target(source: Settings, settings: Settings) -> _Target:
    needed = {
        "--catalog-url or MLOPS_CATALOG_URL": settings.catalog_url,
        "--warehouse-url or MLOPS_WAREHOUSE_URL": settings.warehouse_url,
    }
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise InputError(
            f"where to migrate to is not said: {' and '.join(missing)} is missing",
            expected="a catalog postgresql://user@host/database and a warehouse s3://bucket/folder",
            hint="--tracking-uri postgresql://user@host/database takes runs and models along.",
        )
    uri = settings.mlflow_tracking_uri
    # `mlops env` exports the home's own address.
    tracking = None if uri in {None, source.tracking_uri} else tracking_database(str(uri))
    return _Target(settings, BucketFolder(str(settings.warehouse_url), settings.file_properties), tracking)


@contextmanager
def _quiet_tables(source: Settings, say: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """Every table and where its metadata is; nobody writes to them meanwhile."""
    with ExitStack() as locks:
        live = catalog_tables(source.home / CATALOG)
        say(f"waiting for the writers of {len(live)} tables")
        for name in live:
            locks.enter_context(table_lock(source, name))
        yield catalog_tables(source.home / CATALOG)


def _migrate(source: Settings, target: _Target, locations: dict[str, str], say: Callable[[str], None]) -> Migrated:
    homes = tuple(dict.fromkeys([str(source.home), str(source.home.resolve()), *homes_of(locations)]))
    has_runs = (source.home / DATABASE).is_file()
    say("looking at the server")
    target.warehouse.require()
    if target.tracking is not None and has_runs:
        target.tracking.require_free(str(source.home))
    move = TableMigration(
        source=source,
        target=target.settings,
        here=Place(homes, source.home),
        there=BucketPlace(target.warehouse),
        catalog=open_catalog(target.settings),
        say=say,
    )
    move.require_free(locations.items())
    tables = tuple(move.migrate(name, location) for name, location in locations.items())
    registry = None
    if target.tracking is not None and has_runs:
        registry = migrate_registry(source, homes, target.tracking, target.warehouse, say)
    return Migrated(tables, registry, _exports(target), tuple(_notes(source, registry)))


def _exports(target: _Target) -> dict[str, str]:
    found = {
        "MLOPS_CATALOG_URL": str(target.settings.catalog_url),
        "MLOPS_WAREHOUSE_URL": target.warehouse.url,
    }
    if target.tracking is not None:
        found["MLFLOW_TRACKING_URI"] = target.tracking.uri
    return {name: mask_secrets(value) for name, value in found.items()}


def _notes(source: Settings, registry: MigratedRegistry | None) -> Iterator[str]:
    if registry is not None:
        yield from registry.notes
        if find_spec("boto3") is None:
            yield "MLflow reads artifacts in a bucket through boto3, which is not installed: pip install boto3"
    elif (source.home / DATABASE).is_file():
        yield f"no tracking address was given: runs and models stay in {source.home / DATABASE}"
    else:
        yield f"there were no runs or models in {source.home}"
    yield (
        f"{source.home} was not changed and is still needed: Dagster's run history, the reports, the prediction log, "
        "the key of erased customers and mlops.toml stay there"
    )
