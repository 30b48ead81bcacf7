"""Spark's sessions: the local Spark that the platform starts, or the one that is there, and how it finds the tables.

Where the tables' catalog is PostgreSQL or Glue, Spark reads and writes them through Iceberg's own Spark runtime. Does
not belong here: what it computes (`spark.py`) or writes (`spark_write.py`).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from mlops_platform.errors import InputError, StorageError
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_platform.settings import Settings

# PyIceberg's SQL catalog keeps its tables under this name.
CATALOG = "mlops"
JARS = "iceberg-spark-runtime-4.0_2.13, iceberg-aws-bundle, and postgresql where that holds the catalog"
_INSTALL = "pip install 'mlops-platform[spark]', or unset MLOPS_ENGINE: DuckDB computes the same features."
# Less than this and Spark refuses to start: 1.5 times the 300 MB it reserves.
_SMALLEST_HEAP_MB = 512
_LOGGING = Path(__file__).with_name("spark_log4j2.properties")
_PREFIX = f"spark.sql.catalog.{CATALOG}"
# Of an address of PostgreSQL, what is no option of Spark's: those stand in logs and on command lines.
_SECRET = {"password", "passwd", "pwd", "sslpassword"}
_MISSING_JARS = ("Cannot find catalog plugin class", "NoClassDefFoundError", "ClassNotFound", "No suitable driver")


def is_on_iceberg(settings: Settings) -> bool:
    """Whether Spark reaches the tables through Iceberg: their catalog is a server's, their files are in a bucket."""
    return settings.warehouse_url is not None and (settings.catalog_url is not None or settings.profile == "aws")


def spark_options(settings: Settings) -> dict[str, str]:
    """Options by which any Spark finds the home's tables as `mlops.namespace.table`, for one's own `spark-submit`.

    Without secrets: keys of the bucket come from AWS's own chain, on each executor, and the database's password from
    PostgreSQL's password file (`PGPASSFILE`).

    Raises:
        InputError: The tables are where only this machine's processes find them.
    """
    if not is_on_iceberg(settings) or settings.warehouse_url is None:
        raise InputError(
            f"Spark finds no Iceberg catalog of the tables in {settings.warehouse_location}",
            expected="a warehouse in a bucket (MLOPS_WAREHOUSE_URL), with its catalog in PostgreSQL or Glue",
            hint="unset MLOPS_ENGINE: DuckDB computes the same features.",
        )
    files = settings.file_properties
    options = {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".warehouse": settings.warehouse_url,
        ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        # Branches come and go under it.
        ".cache-enabled": "false",
    }
    if "s3.region" in files:
        options[".client.region"] = files["s3.region"]
    if "s3.endpoint" in files:
        options |= {".s3.endpoint": files["s3.endpoint"], ".s3.path-style-access": "true"}
    is_glue = settings.profile == "aws"
    options |= {".type": "glue"} if is_glue else _jdbc(settings.catalog_url or "")
    return {_PREFIX + key: value for key, value in options.items()}


def _jdbc(address: str) -> dict[str, str]:
    parts = urlsplit(address)
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if key.lower() not in _SECRET])
    place = f"{parts.netloc.rpartition('@')[2]}{parts.path}" + (f"?{query}" if query else "")
    options = {".type": "jdbc", ".uri": f"jdbc:postgresql://{place}"}
    return options | ({".jdbc.user": unquote(parts.username)} if parts.username else {})


def _secrets(settings: Settings) -> dict[str, str]:
    """Options that are set in a session alone, whose values Spark keeps out of its pages and logs."""
    parts = urlsplit(settings.catalog_url or "")
    found = {key.lower(): value for key, value in parse_qsl(parts.query) if key.lower() in _SECRET}
    if parts.password:
        found["password"] = unquote(parts.password)
    return {f"{_PREFIX}.jdbc.{key}": value for key, value in found.items()}


def local_session(settings: Settings) -> Any:
    """A Spark session for one query over local files: views and options set in it touch no other.

    Raises:
        InputError: PySpark is not installed, or finds no Java.
    """
    return _in_the_zone(_running(settings).newSession(), settings.timezone)


def iceberg_session(settings: Settings) -> Any:
    """A Spark session that knows the home's tables as `mlops.namespace.table`; one a process, as it holds connections.

    What a session that is there already says of the catalog, or has as jars, stands.

    Raises:
        InputError: PySpark is not installed, finds no Java, or lacks Iceberg's jars; or the tables are local.
        StorageError: The catalog does not answer.
    """
    options = spark_options(settings) | _secrets(settings)
    return _iceberg_session(_running(settings), settings.timezone, tuple(options.items()))


@lru_cache(maxsize=1)
def _iceberg_session(running: Any, timezone: str, options: tuple[tuple[str, str], ...]) -> Any:
    session = _in_the_zone(running.newSession(), timezone)
    for key, value in options:
        if session.conf.get(key, None) is None:
            session.conf.set(key, value)
    with explained("open the catalog of the tables"):
        session.sql(f"SHOW NAMESPACES IN {CATALOG}").collect()
    return session


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Says in one message what Spark's Java says in a hundred lines.

    Args:
        doing: What Spark is asked for, as in "Spark can't …".

    Raises:
        InputError: Spark lacks Iceberg's jars.
        StorageError: Anything else that Spark raises.
    """
    from py4j.protocol import Py4JError  # type: ignore[import-not-found]
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        found = mask_secrets(_said(error))
        if any(sign in found for sign in _MISSING_JARS):
            raise InputError(
                f"Spark can't {doing}: {found}",
                expected=f"Iceberg's jars for Spark: {JARS}",
                hint="name their files in MLOPS_SPARK_JARS, or configure Spark with them; see docs/feature-store.md.",
            ) from error
        raise StorageError(
            f"Spark can't {doing}: {found}", hint="check that catalog and bucket answer, then run this again."
        ) from error


def _said(error: Exception) -> str:
    """The first lines of an error and of what caused it."""
    lines = [str(error).splitlines()[0]]
    cause = getattr(error, "java_exception", None)
    if cause is not None:
        lines = []
    while cause is not None:
        lines.append(str(cause.toString()).splitlines()[0])
        cause = cause.getCause()
    return ": ".join(dict.fromkeys(lines))


def _in_the_zone(session: Any, timezone: str) -> Any:
    session.conf.set("spark.sql.session.timeZone", timezone)
    return session


def _running(settings: Settings) -> Any:
    """The session that this process has, else a local one, which stays up: starting it takes 4 s.

    Raises:
        InputError: PySpark is not installed, or finds no Java.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise InputError("MLOPS_ENGINE is spark, but PySpark is not installed", hint=_INSTALL) from error
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    try:
        session = SparkSession.builder.config(map=_local_options(settings)).getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise InputError(
            "MLOPS_ENGINE is spark, but Spark's Java did not start; what it said is above",
            expected="Java 17 or newer on PATH, or JAVA_HOME",
            hint="install it, or unset MLOPS_ENGINE: DuckDB computes the same features.",
        ) from error
    # Its own choice is the first python3 on PATH.
    session.sparkContext.pythonExec = sys.executable
    return session


def _local_options(settings: Settings) -> dict[str, str]:
    memory = max(settings.memory_limit_mb, _SMALLEST_HEAP_MB)
    scratch = settings.home / "tmp"
    jars = {"spark.jars": settings.spark_jars} if settings.spark_jars else {}
    return {
        "spark.app.name": "mlops-platform",
        "spark.master": "local[*]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}",
        "spark.driver.memory": f"{memory}m",
        "spark.local.dir": str(scratch),
        "spark.sql.catalogImplementation": "in-memory",
        # Spark's own 200 are tasks of milliseconds each on one machine.
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.warehouse.dir": str(scratch / "spark-warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **jars,
    }
