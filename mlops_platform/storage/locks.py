"""One writer a table: a lock that dies with the process that holds it.

A flock in the home where the catalog is a SQLite file; an advisory lock where there is a PostgreSQL: the catalog's, or
with Glue, which has no locks, the one that holds Dagster's runs. The kernel releases the first, the server the second,
when the holder is killed. Does not belong here: what is written under the lock, and that a commit is refused whose lock
was lost (`commit.py`).
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_platform.errors import StorageError
from mlops_platform.settings import with_driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_platform.settings import Settings

TIMEOUT_SECONDS = 600
_LOCK_NOT_AVAILABLE = "55P03"
# A holder whose machine died is noticed by the server within about a minute.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


@contextmanager
def table_lock(settings: Settings, name: str) -> Iterator[None]:
    """Holds the table's writer lock.

    Raises:
        StorageError: Another writer held it for ten minutes, or the database can't be reached.
    """
    database = settings.dagster_storage_url if settings.profile == "aws" else settings.catalog_url
    with _file_lock(settings, name) if database is None else _advisory_lock(database, name):
        yield


@contextmanager
def _file_lock(settings: Settings, name: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock", timeout=TIMEOUT_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise _taken(name) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _advisory_lock(database: str, name: str) -> Iterator[None]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    # A session-level lock belongs to its connection: closing it, or dying, gives it back.
    engine = create_engine(
        with_driver(database), poolclass=NullPool, connect_args=_KEEPALIVE, isolation_level="AUTOCOMMIT"
    )
    key = int.from_bytes(hashlib.sha256(f"mlops/{name}".encode()).digest()[:8], "big", signed=True)
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise StorageError(
            f"the database of the tables' locks can't be reached: {error.orig}",
            hint="check the server, and MLOPS_CATALOG_URL; in the AWS profile MLOPS_DAGSTER_STORAGE_URL.",
        ) from error
    with connection:
        connection.execute(text(f"SET lock_timeout = '{TIMEOUT_SECONDS}s'"))
        try:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise _taken(name) from error
        yield


def _taken(name: str) -> StorageError:
    return StorageError(
        f"{name} has been locked by another writer for {TIMEOUT_SECONDS} s",
        hint="wait for the other run to end, or stop it in the Dagster UI, then run this again.",
    )
