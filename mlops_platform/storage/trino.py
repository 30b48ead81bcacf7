"""Trino: one query's rows as Arrow, from the server of MLOPS_TRINO_URL.

The client is an optional extra. Does not belong here: what is asked (`feature_pipeline.sql_engines`), Athena
(`athena.py`).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlops_platform.errors import InputError, SettingsError, StorageError
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.rows import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from mlops_platform.settings import Settings

_PORTS = {"http": 8080, "https": 443}
_SCHEMES = {"trino": "http", "trino+http": "http", "trino+https": "https"}


def trino_rows(settings: Settings, sql: str) -> pa.Table:
    """What a query returns.

    Args:
        settings: Where Trino is, and the time zone of its session.
        sql: One query in Trino's SQL.

    Returns:
        Its columns in Arrow's equivalents of Trino's types: DOUBLE, DECIMAL, DATE and whole numbers are exact. Beside
        the table itself, memory holds the Python values of one batch of 100,000 rows.

    Raises:
        InputError: The client is not installed.
        SettingsError: MLOPS_TRINO_URL is missing or malformed.
        StorageError: Trino can't be reached, or the query failed there.
    """
    import pyarrow as pa

    try:
        import requests
        import trino
    except ModuleNotFoundError as error:
        raise InputError(
            "MLOPS_ENGINE is trino, but Trino's client is not installed",
            hint="pip install 'mlops-platform[trino]', or unset MLOPS_ENGINE: DuckDB computes the same features.",
        ) from error
    connect: Any = trino.dbapi.connect
    arguments = _arguments(settings)
    where = f"Trino at {arguments['host']}:{arguments['port']}"
    try:
        # Closing a cursor cancels what still runs.
        with closing(connect(**arguments)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(sql)
            schema = _schema(cursor.description)
            return pa.Table.from_batches(_batches(cursor, schema), schema)
    except trino.exceptions.TrinoQueryError as error:
        raise StorageError(
            f"{where} could not run the query {error.query_id}: {error.error_name}: {mask_secrets(error.message)}",
            hint="look at it in Trino's page; its catalog must be the one of these tables.",
        ) from error
    except (trino.exceptions.Error, trino.exceptions.HttpError, requests.RequestException) as error:
        raise StorageError(
            f"{where} does not answer: {mask_secrets(str(error))}",
            expected="a running Trino that lets this user in",
            hint="check MLOPS_TRINO_URL, and that the server runs.",
        ) from error


def _batches(cursor: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows, as they come."""
    import pyarrow as pa

    while rows := cursor.fetchmany(BATCH_ROWS):
        columns = zip(*rows, strict=True)
        cells = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(cells, schema=schema)


def _schema(described: Any) -> pa.Schema:
    """The Arrow types of a cursor's columns."""
    import pyarrow as pa
    from ibis.backends.sql.datatypes import TrinoType

    return pa.schema([(column.name, TrinoType.from_string(column.type_code).to_pyarrow()) for column in described])


def _arguments(settings: Settings) -> dict[str, Any]:
    """What the client is called with.

    Raises:
        SettingsError: MLOPS_TRINO_URL is missing or malformed, or has a password that would go over the wire readable.
    """
    expected = "trino://user@host:8080/catalog, or trino+https://user:password@host/catalog"
    if not settings.trino_url:
        raise SettingsError("MLOPS_ENGINE is trino, but MLOPS_TRINO_URL is not set", expected=expected)
    shown = mask_secrets(settings.trino_url)
    try:
        url = urlsplit(settings.trino_url)
        port = url.port
    except ValueError as error:
        raise SettingsError(f"MLOPS_TRINO_URL is {shown}: {error}", expected=expected) from error
    scheme, catalog = _SCHEMES.get(url.scheme), url.path.strip("/")
    if scheme is None or not url.hostname or not url.username or not catalog or "/" in catalog or url.query:
        raise SettingsError(f"MLOPS_TRINO_URL is {shown}", expected=expected)
    if url.password and scheme != "https":
        raise SettingsError(
            f"MLOPS_TRINO_URL is {shown}: without TLS everybody on the way could read the password",
            expected="trino+https:// where there is a password",
        )
    user = unquote(url.username)
    return {
        "host": url.hostname,
        "port": port or _PORTS[scheme],
        "http_scheme": scheme,
        "user": user,
        "auth": _basic(user, unquote(url.password)) if url.password else None,
        "catalog": unquote(catalog),
        "source": "mlops-platform",
        "timezone": settings.timezone,
    }


def _basic(user: str, password: str) -> Any:
    from trino.auth import BasicAuthentication

    return BasicAuthentication(user, password)
