"""Connections to CRM databases: ADBC for SQLite and PostgreSQL, SQLAlchemy for every other, behind one protocol.

Belongs here: what differs between databases: opening one, quoting, a cell as text, a bound parameter. Does not belong
here: which tables and columns are wanted (`crm.py`), when they are read (`extraction.py`).
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlops_platform.errors import InputError, SourceError
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    Parameter = date | datetime

ISO_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"


@dataclass(frozen=True, slots=True)
class Statement:
    """One SELECT of a user's, checked and rebuilt (`extraction_query.py`).

    Args:
        sql: SQL of the database, parameters as `placeholder` writes them.
        parameters: A day or an instant (in the business time zone) for each placeholder, in order.
    """

    sql: str
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """What to read, each cell as text.

    Args:
        relation: A table's name in the database, `schema.table` included, or a statement.
        cells: Name of a column in the result to its name in the relation; None: the column is null.
        changed: The relation's column with the time of change; needed with `since`.
        since: Only rows whose time of change is null, no ISO text, or on or after this day. Rows just before it may
            come too.
    """

    relation: str | Statement
    cells: Mapping[str, str | None]
    changed: str = "updated_at"
    since: date | None = None


class Database(Protocol):
    """An open CRM database that is only read."""

    url: str
    errors: tuple[type[Exception], ...]
    """What reading may raise."""

    def table_names(self) -> list[str]:
        """The tables and views a mapping may name."""
        ...

    def columns(self, relation: str | Statement) -> tuple[str, ...]:
        """The relation's columns; raises one of `errors` where it can't be read."""
        ...

    def batches(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Streams the selection: text columns in the order of `cells`."""
        ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Has a function called before the connection closes."""
        ...


@contextmanager
def open_database(url: str) -> Iterator[Database]:
    """Opens a CRM database for reading.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://user@host/database`, or any URL that
            SQLAlchemy and an installed driver know.

    Raises:
        InputError: The URL names no supported database.
        SourceError: The database can't be reached.
    """
    with ExitStack() as stack:
        if is_sqlite(url) or is_postgres(url):
            from mlops_platform.data_pipeline.connections_adbc import Postgres, Sqlite

            connection = stack.enter_context(connect(url))
            yield Sqlite(url, connection, stack) if is_sqlite(url) else Postgres(url, connection, stack)
        else:
            from mlops_platform.data_pipeline.connections_alchemy import open_alchemy

            yield stack.enter_context(open_alchemy(url))


@contextmanager
def connect(url: str, *, must_exist: bool = True) -> Iterator[Any]:
    """An ADBC connection to a SQLite or PostgreSQL database.

    Args:
        url: The database's URL.
        must_exist: Refuse a SQLite file that is not there, instead of creating it.

    Raises:
        InputError: The URL names no database that ADBC reads.
        SourceError: The database can't be reached.
    """
    from adbc_driver_manager import Error

    try:
        connection = _open(url, must_exist)
    except Error as error:
        raise unreachable(url, error) from error
    try:
        yield connection
    finally:
        connection.close()


def is_sqlite(url: str) -> bool:
    """Whether the URL names a SQLite file."""
    return url.startswith("sqlite:")


def is_postgres(url: str) -> bool:
    """Whether the URL names a PostgreSQL database."""
    return url.startswith(("postgresql://", "postgres://"))


def sqlite_path(url: str) -> str:
    """The file of a SQLite URL: three slashes before a relative path, four before an absolute one."""
    return url.removeprefix("sqlite://").removeprefix("/") if url.startswith("sqlite:///") else url[len("sqlite:") :]


def dialect_of(url: str) -> str:
    """The database's SQL as SQLAlchemy calls it, such as sqlite, postgresql or mysql.

    Raises:
        InputError: The URL names no supported database.
    """
    if is_sqlite(url):
        return "sqlite"
    return "postgresql" if is_postgres(url) else str(alchemy_engine(url).dialect.name)


def placeholder(url: str, number: int, value: Parameter) -> str:
    """How a statement's SQL names its parameter of that number, counted from 1."""
    if is_sqlite(url):
        return f"?{number}"
    if is_postgres(url):
        kind = "TIMESTAMPTZ" if isinstance(value, datetime) else "DATE"
        return f"CAST(current_setting('{session_variable(number)}') AS {kind})"
    return f":{bound_name(number)}"


def session_variable(number: int) -> str:
    """The PostgreSQL session variable a parameter is kept in."""
    return f"mlops.p{number}"


def bound_name(number: int) -> str:
    """The name a parameter is bound to in SQLAlchemy's SQL."""
    return f"mlops_p{number}"


def _open(url: str, must_exist: bool) -> Any:
    if is_sqlite(url):
        from adbc_driver_sqlite import dbapi

        path = Path(sqlite_path(url))
        if must_exist:
            require_file(path, url)
        return dbapi.connect(str(path))
    if is_postgres(url):
        from adbc_driver_postgresql import dbapi as postgresql

        connection = postgresql.connect(url)
        with connection.cursor() as cursor:
            # Text of a timestamptz depends on both; naive timestamps are local business time and stay as they are.
            cursor.execute("SET TIME ZONE 'UTC'")
            cursor.execute("SET DateStyle = ISO")
        return connection
    raise no_address(url, "only sqlite:/// and postgresql:// databases can be written")


def no_address(url: str, reason: str = "") -> InputError:
    """The error for a URL that names no database of ours."""
    because = f": {reason}" if reason else ""
    return InputError(
        f"{mask_secrets(url)!r} is no CRM address{because}",
        expected="sqlite:///file.db, postgresql://user@host/database, or a URL of SQLAlchemy whose driver is installed",
        hint="pass one with --crm or MLOPS_CRM_URL.",
    )


def require_file(path: Path, url: str) -> None:
    """Refuses a SQLite file that is not there, which opening it would make."""
    if not path.is_file():
        raise SourceError(
            f"the CRM {url} does not exist: no file {path}",
            expected="a SQLite database file",
            hint=f"make one to try with: mlops crm seed --into {url}",
        )


def unreachable(url: str, error: Exception) -> SourceError:
    """The error for a database that does not answer."""
    cause = getattr(error, "orig", None) or error
    return SourceError(
        f"the CRM {mask_secrets(url)} can't be reached: {mask_secrets(str(cause)).strip()}",
        expected="a database that answers",
        hint="check the address, or make one to try with: mlops crm seed --into sqlite:///crm.db",
    )


def naive(value: Parameter) -> Parameter:
    """A day as it is, an instant as local business time, which is what a CRM's naive times are."""
    return value.replace(tzinfo=None, microsecond=0) if isinstance(value, datetime) else value


def alchemy_engine(url: str) -> Any:
    """SQLAlchemy's engine for a URL, not yet connected.

    Raises:
        InputError: The URL names no database of SQLAlchemy's, or its driver is not installed.
    """
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        return sa.create_engine(url)
    except ArgumentError as error:
        raise no_address(url) from error
    except ImportError as error:
        raise no_address(url, f"its driver is not installed ({error})") from error
