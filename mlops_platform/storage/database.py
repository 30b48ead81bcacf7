"""Databases of a PostgreSQL server, made on first use where this user may.

Does not belong here: what is kept in one (`catalog.py`; Dagster makes its own tables).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.errors import StorageError
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.exc import DBAPIError

# The database that every server has, to be connected to while ours is made.
_ALWAYS_THERE = "postgres"
# Of two processes that make one at once, the second is told either.
_DUPLICATE = {"42P04", "23505"}
_CONNECT_SECONDS = 10


def ensure_database(address: str, variable: str) -> None:
    """Makes the address's database if the server has none of that name.

    Args:
        address: postgresql://user@host/database.
        variable: Which setting holds the address, for messages.

    Raises:
        StorageError: The server can't be reached, or this user may not make the database.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import OperationalError

    url = make_url(address).set(drivername="postgresql+psycopg2")
    try:
        _engine(url).connect().close()
    except OperationalError as refused:
        # The driver gives no code when it can't connect: whether the database is missing, the server must be asked.
        try:
            if _make_if_missing(url, variable):
                return
        except OperationalError:
            pass
        raise StorageError(
            f"the database {mask_secrets(address)} can't be reached: {_said(refused)}",
            hint=f"check {variable} and that the server runs.",
        ) from refused


def _make_if_missing(url: URL, variable: str) -> bool:
    """Whether the database was missing, and is there now."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    with _engine(url.set(database=_ALWAYS_THERE)).connect() as connection:
        if connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": url.database}).first():
            return False
        try:
            connection.execute(text(f"CREATE DATABASE {_quoted(url.database)}"))
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in _DUPLICATE:
                raise _not_made(url, variable, error) from error
    return True


def _engine(url: URL) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": _CONNECT_SECONDS}
    )


def _quoted(name: str | None) -> str:
    return '"' + (name or "").replace('"', '""') + '"'


def _said(error: DBAPIError) -> str:
    """The server's words in one line."""
    return " ".join(mask_secrets(str(error.orig)).split())


def _not_made(url: URL, variable: str, error: DBAPIError) -> StorageError:
    return StorageError(
        f"there is no database {url.database} at {url.host}, and it can't be made: {_said(error)}",
        expected="a database this user may create tables in",
        hint=f"as an administrator of the server: CREATE DATABASE {_quoted(url.database)} OWNER "
        f"{_quoted(url.username)}; or correct {variable}.",
    )
