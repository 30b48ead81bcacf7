"""Athena: one query's rows as Arrow, through PyAthena, which the extra `aws` brings.

Belongs here: running a statement, and Athena's refusals as messages that say what to do. Does not belong here: what is
asked (`feature_pipeline.sql_engines`), a user's SELECT (`athena_query.py`), Trino (`trino.py`).
"""

from __future__ import annotations

import logging
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError, SettingsError, StorageError
from mlops_platform.storage.glue import aws_configured, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from pyathena.connection import Connection

    from mlops_platform.settings import Settings

BYTES_SCANNED = b"athena.bytes-scanned"
CATALOG = "awsdatacatalog"
_POLL_SECONDS = 0.5
_log = logging.getLogger("mlops_platform.athena")
# What stands in Athena's reason, and what to do about it.
_HINTS = {
    "_NOT_FOUND": "a table is there once its pipeline has run; AWS_REGION must be the region the platform writes in.",
    "Bytes scanned limit": "raise the limit of the workgroup (bytes_scanned_limit in deploy/aws), or ask for less.",
    "ccess Denied": "give the role what deploy/aws/iam/pipelines.json has, the bucket of the results included.",
    "not authorized": "give the role what deploy/aws/iam/pipelines.json has.",
}


def athena_rows(settings: Settings, sql: str) -> pa.Table:
    """What a query returns, exactly: Athena unloads it into Parquet files, which are read from the bucket.

    Args:
        settings: The workgroup and the place of results.
        sql: One SELECT, with or without WITH, whose columns have a name each; none may be a timestamp with time zone,
            which Athena does not unload.

    Returns:
        Its columns, in no order of rows; a table without columns where there are no rows. The bytes that Athena scanned
        stand in the schema's metadata as `BYTES_SCANNED`.

    Raises:
        SettingsError: PyAthena is not installed, AWS is not configured, or results have no place.
        StorageError: AWS refuses, or the query failed there.
    """
    with connected(settings) as connection:
        place = settings.athena_results_url or _workgroups_place(connection, settings.athena_workgroup)
        # A folder of its own, which Athena wants empty; the bucket's lifecycle rule clears it away.
        folder = f"{place.rstrip('/')}/unload/{uuid.uuid4().hex}/"
        with connection.cursor() as cursor:
            cursor.execute(f"UNLOAD (\n{sql}\n) TO '{folder}' WITH (format = 'PARQUET', compression = 'ZSTD')")
            scanned = noted(cursor)
    return _unloaded(settings, folder).replace_schema_metadata({BYTES_SCANNED: str(scanned)})


def _unloaded(settings: Settings, folder: str) -> pa.Table:
    """The rows of the files in a folder.

    PyAthena's own Arrow cursor reads them too, but from AWS's public endpoint only.
    """
    import pyarrow as pa
    from pyarrow import dataset, fs
    from pyiceberg.io.pyarrow import PyArrowFileIO

    files = PyArrowFileIO(settings.file_properties).fs_by_scheme("s3", None)
    try:
        found = files.get_file_info(fs.FileSelector(folder.removeprefix("s3://"), allow_not_found=True))
        paths = [each.path for each in found if each.type is fs.FileType.File]
        return dataset.dataset(paths, filesystem=files, format="parquet").to_table() if paths else pa.table({})
    except OSError as error:
        raise StorageError(
            f"Athena's rows in {folder} can't be read: {error}",
            hint="give the role s3:ListBucket and s3:GetObject there, as deploy/aws/iam/pipelines.json does.",
        ) from error


@contextmanager
def connected(settings: Settings) -> Iterator[Connection[Any]]:
    """A connection to Athena over the platform's tables.

    Raises:
        SettingsError: PyAthena is not installed, or AWS is not configured.
        StorageError: AWS refuses, or a query failed there.
    """
    with aws_configured():
        try:
            from pyathena import connect
            from pyathena.error import Error
        except ModuleNotFoundError as error:
            raise SettingsError(
                "MLOPS_ENGINE is athena, but PyAthena is not installed",
                hint="install the extra: pip install 'mlops-platform[aws]'.",
            ) from error
        try:
            with connect(
                work_group=settings.athena_workgroup,
                # Empty: the workgroup's own place.
                s3_staging_dir=settings.athena_results_url or "",
                catalog_name=CATALOG,
                region_name=settings.file_properties.get("s3.region"),
                poll_interval=_POLL_SECONDS,
            ) as connection:
                yield connection
        except Error as error:
            raise _problem(settings, error) from error


def noted(cursor: Any) -> int:
    """The bytes a finished query scanned, which is what it costs; the log has them too."""
    scanned = int(cursor.data_scanned_in_bytes or 0)
    millis = cursor.engine_execution_time_in_millis
    _log.info("Athena query %s scanned %s bytes in %s ms", cursor.query_id, f"{scanned:,}", millis)
    return scanned


def _workgroups_place(connection: Connection[Any], workgroup: str) -> str:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    try:
        found = connection.client.get_work_group(WorkGroup=workgroup)["WorkGroup"]
    except ClientError as error:
        raise _refused("GetWorkGroup", workgroup, error) from error
    place = found.get("Configuration", {}).get("ResultConfiguration", {}).get("OutputLocation")
    if not place:
        raise _no_place(workgroup)
    return str(place)


def _no_place(workgroup: str) -> SettingsError:
    return SettingsError(
        f"Athena has no place for results: neither MLOPS_ATHENA_RESULTS_URL nor the workgroup {workgroup} names one",
        hint="set MLOPS_ATHENA_RESULTS_URL=s3://bucket/athena.",
    )


def _refused(operation: str, workgroup: str, error: Any) -> Exception:
    """What an error of Athena's API means for a person."""
    found = error.response.get("Error", {})
    message = str(found.get("Message", error))
    if "output location" in message.lower():
        return _no_place(workgroup)
    if "WorkGroup" in message and "not found" in message:
        return SettingsError(
            f"Athena has no workgroup {workgroup}", hint="set MLOPS_ATHENA_WORKGROUP to one of this region."
        )
    return refusal("athena", operation, found) or StorageError(f"Athena does not take the query: {message}")


def _problem(settings: Settings, error: Exception) -> Exception:
    from botocore.exceptions import ClientError

    if isinstance(error.__cause__, ClientError):
        return _refused(error.__cause__.operation_name, settings.athena_workgroup, error.__cause__)
    reason = str(error)
    hint = next((hint for sign, hint in _HINTS.items() if sign in reason), None)
    kind = InputError if "_NOT_FOUND" in reason else StorageError
    return kind(f"Athena could not run the query: {reason}", hint=hint)
