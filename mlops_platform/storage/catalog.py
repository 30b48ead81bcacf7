"""The Iceberg catalog and the tables' Iceberg form: open the catalog, create a table from its contract, add columns.

Does not belong here: writing rows (`publish.py`) or reading them (`read.py`).
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import suppress
from functools import lru_cache
from time import sleep
from typing import TYPE_CHECKING

from mlops_platform.contracts.table import Column, ColumnType, TableContract
from mlops_platform.errors import StorageError
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table, Transaction
    from pyiceberg.types import IcebergType

    from mlops_platform.settings import Settings

_OPENING_ATTEMPTS, _OPENING_WAIT = 3, 0.2

TIMEZONE_PROPERTY = "mlops.timezone"

# Four writers on one SQLite catalog: PyIceberg's default of 4 retries fails 5-15 % of commits, 20 fail none.
TABLE_PROPERTIES = {
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "50",
    "commit.retry.total-timeout-ms": "60000",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}


def open_catalog(settings: Settings) -> Catalog:
    """Opens the home's catalog: Glue in the AWS profile, else a SQL catalog in the home's SQLite file or PostgreSQL.

    Raises:
        SettingsError: The AWS profile lacks the extra `aws`, a region, credentials, or a bucket.
        StorageError: The home can't be written, or the catalog can't be reached.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if settings.profile == "aws":
        return _glue_catalog(os.getpid(), settings.warehouse_location, **settings.file_properties)
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        if settings.warehouse_url is None:
            settings.warehouse.mkdir(exist_ok=True)
        where = {"uri": settings.catalog_uri, "warehouse": settings.warehouse_location, **settings.file_properties}
        if settings.catalog_url is not None:
            # A server that was restarted has broken the connections that are held.
            return _server_catalog(os.getpid(), pool_pre_ping="true", **where)
        return _new_catalog(where)
    except (OSError, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        if settings.catalog_url is not None:
            raise StorageError(
                f"the catalog {mask_secrets(settings.catalog_url)} can't be opened: {mask_secrets(str(cause)).strip()}",
                expected="a PostgreSQL database this user may create tables in",
                hint="check MLOPS_CATALOG_URL and that the server runs.",
            ) from error
        raise StorageError(
            f"the home {settings.home} can't be written: {cause}",
            expected="a folder this user can create and write",
            hint="choose another with --home DIR or MLOPS_HOME, or mend its permissions.",
        ) from error


def outages() -> tuple[type[Exception], ...]:
    """What asking the catalog or the files raises where they do not answer, or refuse."""
    from sqlalchemy.exc import SQLAlchemyError

    # Whoever has not loaded botocore can't get its errors.
    aws = sys.modules.get("botocore.exceptions")
    return (SQLAlchemyError, OSError, *((aws.BotoCoreError, aws.ClientError) if aws is not None else ()))


@lru_cache(maxsize=4)
def _server_catalog(_process: int, **where: str) -> Catalog:
    """One catalog a process: each holds connections, of which a server has few. A fork must not share them."""
    return _new_catalog(where)


@lru_cache(maxsize=4)
def _glue_catalog(_process: int, warehouse: str, **files: str) -> Catalog:
    from mlops_platform.storage.glue import glue_catalog

    return glue_catalog(warehouse, files)


def _new_catalog(where: dict[str, str]) -> Catalog:
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import SQLAlchemyError

    def opened() -> Catalog:
        catalog = SqlCatalog("mlops", **where)
        # PyIceberg closes no catalog: the connections that its pool holds are closed when nobody has it any more.
        weakref.finalize(catalog, catalog.engine.dispose)
        return catalog

    for _ in range(_OPENING_ATTEMPTS - 1):
        # Two processes that open a new catalog at the same instant both make its tables: one fails, once.
        with suppress(SQLAlchemyError):
            return opened()
        sleep(_OPENING_WAIT)
    return opened()


def load_table(catalog: Catalog, contract: TableContract, timezone: str) -> Table | None:
    """The table, or None if it was never created.

    Raises:
        StorageError: The table was written in another business time zone.
    """
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    try:
        table = catalog.load_table(contract.name)
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
    pinned = table.properties.get(TIMEZONE_PROPERTY, timezone)
    if pinned != timezone:
        raise StorageError(
            f"{contract.name} was written in the business time zone {pinned}, the settings say {timezone}",
            expected="the time zone the home was made with, since days and features depend on it",
            hint=f"set MLOPS_TIMEZONE={pinned}, or use a new --home.",
        )
    return table


def ensure_table(catalog: Catalog, contract: TableContract, timezone: str) -> Table:
    """The table, created on first use.

    Columns and properties that the contract gained are added; none is ever dropped or changed. A column that the
    contract has no longer, or allows null in by now, becomes optional: rows are written without it from now on.

    Raises:
        StorageError: The table belongs to another time zone, or holds a column in another type than the contract's.
    """
    table = load_table(catalog, contract, timezone)
    if table is None:
        return _create(catalog, contract, timezone)
    known = {field.name: field for field in table.schema().fields}
    for column in contract.columns:
        held = column_type(known[column.name].field_type) if column.name in known else column.type
        if held is not column.type:
            raise StorageError(
                f"{contract.name} holds the column {column.name} as {known[column.name].field_type}, it is declared as "
                f"{column.type.value}",
                expected="one type for good, since rows of it stand in the table's history",
                hint="give the column another name.",
            )
    columns = [column for column in contract.columns if column.name not in known]
    required = {column.name for column in contract.columns if not column.nullable}
    optional = [name for name, field in known.items() if field.required and name not in required]
    properties = {key: value for key, value in TABLE_PROPERTIES.items() if key not in table.properties}
    if columns or optional or properties:
        with table.transaction() as transaction:
            if columns or optional:
                _evolve(transaction, columns, optional)
            if properties:
                transaction.set_properties(properties)
    return table


def _create(catalog: Catalog, contract: TableContract, timezone: str) -> Table:
    from pyiceberg.exceptions import TableAlreadyExistsError
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import parse_transform
    from sqlalchemy.exc import IntegrityError

    schema = iceberg_schema(contract)
    spec = PartitionSpec(
        *(
            PartitionField(
                source_id=schema.find_field(partition.column).field_id,
                field_id=1000 + index,
                transform=parse_transform(partition.transform),
                name=f"{partition.column}_{partition.transform}",
            )
            for index, partition in enumerate(contract.partitions)
        )
    )
    properties = TABLE_PROPERTIES | {TIMEZONE_PROPERTY: timezone, "comment": contract.description}
    namespace = contract.name.split(".")[0]
    # Asked first: a role that may write tables need not be one that may make Glue databases.
    if not catalog.namespace_exists(namespace):
        with suppress(IntegrityError):
            # Fails when another process makes the namespace at the same instant.
            catalog.create_namespace_if_not_exists(namespace)
    try:
        return catalog.create_table(contract.name, schema=schema, partition_spec=spec, properties=properties)
    except TableAlreadyExistsError:
        # Another process was first: its table is made from the same contract.
        return catalog.load_table(contract.name)


def iceberg_schema(contract: TableContract) -> Schema:
    """The contract's Iceberg schema, with each column's meaning as its doc."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    fields = [
        NestedField(
            field_id=index,
            name=column.name,
            field_type=_iceberg_type(column.type),
            required=not column.nullable,
            doc=column.description,
        )
        for index, column in enumerate(contract.columns, start=1)
    ]
    return Schema(*fields)


def _iceberg_type(kind: ColumnType) -> IcebergType:
    from pyiceberg import types

    return {
        ColumnType.STRING: types.StringType(),
        ColumnType.INT: types.IntegerType(),
        ColumnType.LONG: types.LongType(),
        ColumnType.DOUBLE: types.DoubleType(),
        ColumnType.BOOLEAN: types.BooleanType(),
        ColumnType.MONEY: types.DecimalType(18, 2),
        ColumnType.DATE: types.DateType(),
        ColumnType.TIMESTAMP: types.TimestamptzType(),
    }[kind]


def _evolve(transaction: Transaction, columns: Sequence[Column], optional: Sequence[str]) -> None:
    with transaction.update_schema() as update:
        for column in columns:
            # A column added later is optional: rows written before have no value for it.
            update.add_column(column.name, _iceberg_type(column.type), doc=column.description, required=False)
        for name in optional:
            update.make_column_optional(name)


def stored_contract(table: Table) -> TableContract:
    """The table's own columns as a contract, whatever ours says by now, but for types that we don't write."""
    columns = tuple(
        Column(field.name, kind, field.doc or field.name, nullable=not field.required)
        for field in table.schema().fields
        if (kind := column_type(field.field_type)) is not None
    )
    return TableContract(name=".".join(table.name()), description="", columns=columns)


def column_type(kind: IcebergType) -> ColumnType | None:
    """The type of an Iceberg type; None for one that we don't write."""
    return {_iceberg_type(each): each for each in ColumnType}.get(kind)
