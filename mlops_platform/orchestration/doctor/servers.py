"""Reaching the servers of a profile, each within seconds: PostgreSQL, an S3-protocol store, AWS.

Does not belong here: what is looked at there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlops_platform.errors import InputError, StorageError
from mlops_platform.orchestration.doctor.finding import CONNECT_SECONDS, said
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.glue import DENIED, UNKNOWN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_platform.settings import Settings

START_SERVERS = "docker compose up -d"
_NOT_THERE = {"404", "NoSuchBucket"}
# Operations of boto3 whose IAM action has another name.
_ACTIONS = {"ListObjectsV2": "s3:ListBucket", "HeadBucket": "s3:ListBucket"}


@contextmanager
def postgres(url: str, variable: str) -> Iterator[Any]:
    """A cursor of a PostgreSQL database, whose statements end within seconds; nothing it does stays.

    Raises:
        InputError: The driver is not installed.
        StorageError: The server does not answer, or lets us in not.
    """
    try:
        import psycopg2  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise InputError("PostgreSQL's driver is not installed", hint='pip install "mlops-platform[server]"') from error
    try:
        connection = psycopg2.connect(url, connect_timeout=CONNECT_SECONDS, options="-c statement_timeout=5000")
    except psycopg2.OperationalError as error:
        raise _no_database(url, variable, said(error)) from error
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _no_database(url: str, variable: str, why: str) -> StorageError:
    where = mask_secrets(url)
    if "password" in why or "authentication" in why or 'role "' in why:
        hint = f"correct user and password in {variable}"
    elif "does not exist" in why:
        hint = f"createdb --maintenance-db={where.rpartition('/')[0]}/postgres {urlsplit(url).path.strip('/')}"
    else:
        hint = f"start the server, such as by `{START_SERVERS} postgres`, or correct {variable}"
    return StorageError(f"{where} can't be used: {why}", hint=hint)


def aws(service: str, settings: Settings) -> Any:
    """A client of boto3 that gives up within seconds.

    Raises:
        InputError: boto3 is not installed.
    """
    try:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise InputError("boto3 is not installed", hint='pip install "mlops-platform[server]"') from error
    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=CONNECT_SECONDS, retries={"total_max_attempts": 1})
    region = settings.file_properties.get("s3.region")
    endpoint = settings.file_properties.get("s3.endpoint") if service == "s3" else None
    # A session of its own: looks run beside each other, and the shared one is not made for that.
    return boto3.Session().client(service, config=config, region_name=region, endpoint_url=endpoint)


def aws_errors() -> tuple[type[Exception], ...]:
    """What a client of boto3 raises."""
    from botocore import exceptions  # type: ignore[import-untyped]

    return exceptions.BotoCoreError, exceptions.ClientError


def refused(error: Exception, service: str, resource: str) -> StorageError:
    """What AWS, or a store that speaks its protocol, said no to, with the action that would have to be allowed.

    Args:
        error: What boto3 raised.
        service: Such as s3.
        resource: On what, as IAM's policies name it.
    """
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        hint = f"start the server, such as by `{START_SERVERS}`, or correct AWS_ENDPOINT_URL and the network"
        return StorageError(f"{service} does not answer: {said(error)}", hint=hint)
    operation, code = str(getattr(error, "operation_name", "")), str(response.get("Error", {}).get("Code", ""))
    action = _ACTIONS.get(operation, f"{service}:{operation}")
    if code in _NOT_THERE:
        return StorageError(f"{resource} does not exist", hint=f"aws s3 mb {bucket_of(resource)}, or correct the name")
    if code in UNKNOWN_KEY:
        hint = "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with AWS_PROFILE"
        return StorageError(f"{service} does not know the key: {code}", hint=hint)
    if code in DENIED:
        hint = f"allow {action} on {resource} in the role's policy, as those under deploy/aws do"
        return StorageError(f"{action} on {resource} is refused: {code}", hint=hint)
    return StorageError(f"{action} on {resource} failed: {said(error)}", hint=f"aws {service} help names {code}")


def bucket_of(resource: str) -> str:
    """The s3:// address of a resource's bucket."""
    return "s3://" + resource.removeprefix("arn:aws:s3:::").removeprefix("s3://").partition("/")[0]
