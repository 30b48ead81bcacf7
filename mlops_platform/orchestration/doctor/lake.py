"""The catalog and the tables: may this user work there, is every table whole, does the engine answer a query.

Does not belong here: the files' place (`warehouse.py`).
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

from mlops_platform.contracts.table import ColumnType
from mlops_platform.errors import PlatformError, StorageError
from mlops_platform.orchestration.doctor.finding import Finding, said
from mlops_platform.orchestration.doctor.servers import aws, aws_errors, postgres, refused
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_platform.settings import Settings

QUERY_SECONDS = 40.0
# What a table is made from: where only the table is there, the other has gone.
_MADE_FROM = {
    "silver.customers": "bronze.crm_customers",
    "silver.transactions": "bronze.crm_transactions",
    "feature_store.customer_features": "silver.transactions",
    "ml.training_set": "feature_store.customer_features",
    "ml.predictions": "feature_store.customer_features",
}
_PRIVILEGES = """
SELECT has_schema_privilege(current_schema(), 'CREATE'),
       (SELECT coalesce(bool_and(has_table_privilege(to_regclass('iceberg_tables'), needed)), true)
        FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed),
       current_user, current_schema()
"""


def catalog(settings: Settings) -> Finding:
    """The catalog answers, and this user may write it."""
    if settings.catalog_url is not None:
        return _postgres_catalog(settings.catalog_url)
    return _glue_catalog(settings) if settings.profile == "aws" else _sqlite_catalog(settings)


def _sqlite_catalog(settings: Settings) -> Finding:
    path = settings.home / "catalog.db"
    if not path.is_file():
        return Finding("catalog", is_ok=False, message=f"there is no {path}", mend="mlops demo")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=3)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            tables = connection.execute("SELECT count(*) FROM iceberg_tables").fetchone()[0]
            connection.rollback()
    except sqlite3.Error as error:
        mend = f"make {path} yours to write, or bring it back with: mlops restore FILE.tar --home NEW_HOME"
        return Finding("catalog", is_ok=False, message=f"{path} can't be written: {error}", mend=mend)
    return Finding("catalog", is_ok=True, message=f"{path}, {tables} tables, may be written")


def _postgres_catalog(url: str) -> Finding:
    where = mask_secrets(url)
    with postgres(url, "MLOPS_CATALOG_URL") as cursor:
        cursor.execute(_PRIVILEGES)
        may_create, may_write, user, schema = cursor.fetchone()
    if not may_create:
        mend = f"psql DATABASE -c 'GRANT CREATE, USAGE ON SCHEMA {schema or 'public'} TO \"{user}\"'"
        return Finding("catalog", is_ok=False, message=f"{where}: {user} may not create tables", mend=mend)
    if not may_write:
        mend = f"psql DATABASE -c 'GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO \"{user}\"'"
        return Finding("catalog", is_ok=False, message=f"{where}: {user} may not write iceberg_tables", mend=mend)
    return Finding("catalog", is_ok=True, message=f"{where}: {user} may create and write tables")


def _glue_catalog(settings: Settings) -> Finding:
    try:
        who = aws("sts", settings).get_caller_identity()["Arn"]
    except aws_errors() as error:
        raise refused(error, "sts", "*") from error
    try:
        client = aws("glue", settings)
        names = sorted({name.partition(".")[0] for name in Lake(settings).contracts})
        for name in names:
            client.get_database(Name=name)
        tables = sum(len(client.get_tables(DatabaseName=name)["TableList"]) for name in names)
    except aws_errors() as error:
        raise refused(error, "glue", "arn:aws:glue:*:*:catalog") from error
    return Finding("catalog", is_ok=True, message=f"Glue as {who}: {len(names)} databases, {tables} tables")


def tables(settings: Settings) -> Finding:
    """Tables have been written, and each can be opened."""
    found = Lake(settings)
    written, problems = [], []
    for name, contract in found.contracts.items():
        try:
            if found.snapshot(contract).snapshot_id is not None:
                written.append(name)
        except (PlatformError, OSError) as error:
            problems.append(f"{name}: {said(error)}")
    if problems:
        mend = "bring the files back: mlops restore FILE.tar --home NEW_HOME, or the bucket's earlier versions"
        return Finding("tables", is_ok=False, message="; ".join(problems), mend=mend)
    if not written:
        return Finding("tables", is_ok=False, message="no table has been written", mend="mlops demo")
    if gone := sorted({source for name, source in _MADE_FROM.items() if name in written and source not in written}):
        message = f"gone, while tables made from it are there: {', '.join(gone)}"
        return Finding("tables", is_ok=False, message=message, mend="mlops demo makes it again from the CRM")
    missing = [name for name in found.contracts if name not in written]
    note = f"; not written yet: {', '.join(missing)}" if missing else ""
    return Finding("tables", is_ok=True, message=f"{len(written)} of {len(found.contracts)} tables{note}")


def test_query(settings: Settings) -> Finding:
    """Ten rows of every written table, read by the engine that is set."""
    if settings.engine == "spark":
        return _spark()
    ask: Callable[[Settings, str], int] = {"duckdb": _duckdb, "trino": _trino, "athena": _athena}[settings.engine]
    lake = Lake(settings)
    written = [c for c in lake.contracts.values() if lake.snapshot(c).snapshot_id is not None]
    if settings.engine != "duckdb":
        # A query costs there: one table of each namespace.
        written = list({contract.name.partition(".")[0]: contract for contract in written}.values())
    rows = 0
    for contract in written:
        # Athena unloads no timestamps.
        columns = [column.name for column in contract.columns if column.type is not ColumnType.TIMESTAMP]
        chosen = ", ".join(f'"{name}"' for name in columns)
        try:
            rows += ask(settings, f"SELECT {chosen} FROM {contract.name} LIMIT 10")
        except PlatformError as error:
            raise StorageError(
                f"{settings.engine} can't read {contract.name}: {error.problem}", hint=error.hint
            ) from error
    return Finding("query", is_ok=True, message=f"{settings.engine} read {rows} rows of {len(written)} tables")


def _duckdb(settings: Settings, sql: str) -> int:
    from mlops_platform.storage.query import query

    with query(Lake(settings), sql) as reader:
        return int(reader.read_all().num_rows)


def _trino(settings: Settings, sql: str) -> int:
    from mlops_platform.storage.trino import trino_rows

    return int(trino_rows(settings, sql).num_rows)


def _athena(settings: Settings, sql: str) -> int:
    from mlops_platform.storage.athena import athena_rows

    return int(athena_rows(settings, sql).num_rows)


def _spark() -> Finding:
    """Starting Spark takes longer than a look may: only whether it could start."""
    try:
        import pyspark
    except ModuleNotFoundError:
        mend = "pip install 'mlops-platform[spark]', or unset MLOPS_ENGINE"
        return Finding("query", is_ok=False, message="MLOPS_ENGINE is spark, but PySpark is not installed", mend=mend)
    java = shutil.which("java")
    if java is None:
        mend = "apt-get install default-jre-headless, or unset MLOPS_ENGINE"
        return Finding("query", is_ok=False, message="MLOPS_ENGINE is spark, but there is no Java", mend=mend)
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    version = (done.stderr or done.stdout).splitlines()[0]
    return Finding("query", is_ok=True, message=f"PySpark {pyspark.__version__} and {version} are there; not started")
