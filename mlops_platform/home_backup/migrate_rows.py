"""MLflow's database on a server: its tables are made there, and all rows copied in one transaction.

Belongs here: how rows get from a SQLite file into PostgreSQL, whose rows may be there already, and that both hold the
same. Does not belong here: what the rows say (`migrate_registry.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError, StorageError
from mlops_platform.settings import mask_secrets, with_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from sqlalchemy import Connection, Engine, MetaData, Table

Digest = tuple[int, int]

# What a server that runs on the database keeps for itself: none of it is anybody's history.
_SERVERS_OWN = {"alembic_version", "scheduler_leases", "job_locks"}
# MLflow makes these two rows itself, on first use.
_MADE_BY_MLFLOW = {"workspaces": "name = 'default'", "experiments": "experiment_id = 0 AND name = 'Default'"}
_BATCH_ROWS = 1_000
_MARKER = "mlops_migration"


def upgrade(database: Path) -> None:
    """Brings a copy of a home's MLflow database to the schema of the installed MLflow.

    Raises:
        StorageError: It is none, or a newer MLflow made it.
    """
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    utils, engine = _mlflow(), _engine(f"sqlite:///{database}")
    try:
        if utils._get_schema_version(engine) != utils._get_latest_schema_revision():
            utils._upgrade_db(engine)
    except (CommandError, MlflowException, SQLAlchemyError) as error:
        raise StorageError(
            f"the home's MLflow database can't be read: {str(error).splitlines()[0]}",
            expected="a database that this version of MLflow, or an older one, made",
        ) from error


@dataclass(frozen=True)
class TrackingDatabase:
    """An MLflow database on a PostgreSQL server.

    Args:
        url: Its address, postgresql://…
    """

    url: str

    @property
    def uri(self) -> str:
        """The address as MLflow takes it: by itself, SQLAlchemy would look for another driver."""
        return with_driver(self.url)

    @cached_property
    def engine(self) -> Engine:
        """Connections to the database; each is closed after use."""
        return _engine(self.uri)

    def require_free(self, home: str) -> None:
        """The database can be used, and holds nobody else's runs; MLflow's tables are made where there are none.

        Raises:
            InputError: It can't be reached, or holds runs that are not this home's.
            StorageError: Another version of MLflow made its tables.
        """
        from sqlalchemy.exc import OperationalError

        try:
            self.engine.connect().close()
        except OperationalError as error:
            raise InputError(
                f"the database {mask_secrets(self.url)} can't be reached: {_cause(error)}",
                hint="check --tracking-uri or MLFLOW_TRACKING_URI, and that the server runs.",
            ) from error
        utils = _mlflow()
        utils._safe_initialize_tables(self.engine)
        found, known = utils._get_schema_version(self.engine), utils._get_latest_schema_revision()
        if found != known:
            raise StorageError(
                f"MLflow's tables in {mask_secrets(self.url)} have the version {found}, this MLflow's is {known}",
                hint="use the same MLflow here and on the server; `mlflow db upgrade` brings older tables up.",
            )
        with self.engine.connect() as connection:
            self._held(connection, home)

    def copy(self, database: Path, home: str, say: Callable[[str], None]) -> bool:
        """Copies every row of a SQLite file, all or none, and compares both sides.

        Args:
            database: A copy of the home's MLflow database, its paths changed already.
            home: The home, which is recorded beside the rows.
            say: Called with each line of progress.

        Returns:
            Whether rows were copied; False: an earlier run had.

        Raises:
            StorageError: A row can't be stored, or what is there already differs.
        """
        from sqlalchemy.exc import SQLAlchemyError

        with _engine(f"sqlite:///{database}").connect() as here, self.engine.begin() as there:
            # No run can be added by a server meanwhile: it would need a share in its experiment.
            there.exec_driver_sql("LOCK TABLE experiments IN EXCLUSIVE MODE")
            source, target = _reflected(here), _reflected(there)
            tables = [table for table in target.sorted_tables if table.name in source.tables]
            is_new = not self._held(there, home)
            try:
                if is_new:
                    say(f"copying MLflow's {len(tables)} tables")
                    for table in reversed(tables):
                        there.execute(table.delete())
                    for table in tables:
                        _copy_rows(here, source.tables[table.name], there, table)
                    _record(there, home)
            except (SQLAlchemyError, ValueError) as error:
                # ValueError: a text with a zero byte, which PostgreSQL does not store.
                raise StorageError(f"MLflow's history can't be stored in PostgreSQL: {_cause(error)}") from error
            say("checking MLflow's tables")
            self._require_equal(here, source, there, tables)
        return is_new

    def _held(self, connection: Connection, home: str) -> bool:
        """Whether the database holds this home's rows; False: nobody's."""
        from sqlalchemy import inspect

        where = f"{mask_secrets(self.url)} holds"
        hint = "give --tracking-uri an empty database; without a tracking address only the tables are migrated."
        if inspect(connection).has_table(_MARKER):
            (whose,) = connection.exec_driver_sql(f"SELECT home FROM {_MARKER}").fetchone() or ("",)
            if whose != home:
                raise InputError(f"{where} the runs of another home, {whose}", hint=hint)
            return True
        for table in _reflected(connection).sorted_tables:
            condition = f" WHERE NOT ({_MADE_BY_MLFLOW[table.name]})" if table.name in _MADE_BY_MLFLOW else ""
            if connection.exec_driver_sql(f'SELECT 1 FROM "{table.name}"{condition} LIMIT 1').fetchone():
                raise InputError(f"{where} rows in MLflow's {table.name} already", hint=hint)
        return False

    def _require_equal(self, here: Connection, source: MetaData, there: Connection, tables: Iterable[Table]) -> None:
        for table in tables:
            names = _stored(table)
            ours, theirs = _digest(here, source.tables[table.name], names), _digest(there, table, names)
            if ours != theirs:
                raise StorageError(
                    f"MLflow's {table.name} has {theirs[0]:,} rows on the server, {ours[0]:,} in the home, or other "
                    "values in them",
                    expected="the same rows",
                    hint="if the server, or the home, was used since an earlier run, leave the tracking address out, "
                    "or give an empty database.",
                )


def _mlflow() -> Any:
    """MLflow's own functions for its tables: the same as `mlflow server` and `mlflow db upgrade` use; without types."""
    from mlflow.store.db import utils

    return utils


def _engine(uri: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(uri, poolclass=NullPool)


def _reflected(connection: Connection) -> MetaData:
    """MLflow's tables as they are in the database; others may share it."""
    from sqlalchemy import JSON, MetaData, Text, inspect

    known = set(_mlflow().Base.metadata.tables) & set(inspect(connection).get_table_names())
    found = MetaData()
    found.reflect(connection, only=sorted(known - _SERVERS_OWN))
    for table in found.tables.values():
        for column in table.columns:
            # As text: no value changes, and SQL's null stays apart from JSON's.
            if isinstance(column.type, JSON):
                column.type = Text()
    return found


def _stored(table: Table) -> list[str]:
    """A table's columns but for computed ones."""
    return [column.name for column in table.columns if column.computed is None]


def _copy_rows(here: Connection, source: Table, there: Connection, target: Table) -> None:
    from sqlalchemy import func, select

    names = _stored(target)
    found = here.execution_options(yield_per=_BATCH_ROWS).execute(select(*(source.c[name] for name in names)))
    for batch in found.partitions():
        there.execute(target.insert(), [dict(zip(names, row, strict=True)) for row in batch])
    for column in target.primary_key:
        # The next row must not get a number that was copied.
        sequence = there.scalar(select(func.pg_get_serial_sequence(target.name, column.name)))
        if sequence:
            last = there.scalar(select(func.max(column))) or 0
            there.execute(select(func.setval(sequence, max(last, 1), last > 0)))


def _digest(connection: Connection, table: Table, names: list[str]) -> Digest:
    """Number of rows, and the sum of each row's hash: the order does not matter."""
    from sqlalchemy import select

    rows = total = 0
    found = connection.execution_options(yield_per=_BATCH_ROWS).execute(select(*(table.c[name] for name in names)))
    for row in found:
        rows += 1
        total += int.from_bytes(hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).digest())
    return rows, total


def _record(connection: Connection, home: str) -> None:
    from sqlalchemy import text

    connection.execute(text(f"CREATE TABLE {_MARKER} (home TEXT NOT NULL)"))
    connection.execute(text(f"INSERT INTO {_MARKER} VALUES (:home)"), {"home": home})


def _cause(error: Exception) -> str:
    """What the database said; SQLAlchemy's own text would hold the row."""
    return mask_secrets(str(getattr(error, "orig", None) or error)).strip()
