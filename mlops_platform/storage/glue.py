"""The Glue catalog of the AWS profile: opening it, and AWS's refusals as messages that say what is missing.

Region, endpoint and credentials are the ecosystem's own AWS_* variables; what only Glue has, such as another account's
catalog id, is PyIceberg's PYICEBERG_CATALOG__MLOPS__GLUE__*. Does not belong here: tables (`catalog.py`), locks.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import all_contracts
from mlops_platform.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyiceberg.catalog.glue import GlueCatalog
    from pyiceberg.typedef import RecursiveDict

# The platform's Glue databases.
DATABASES = tuple(sorted({name.partition(".")[0] for name in all_contracts()}))
# AWS's codes for who is not known, and for who is known and may not.
UNKNOWN_KEY = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "Forbidden", "UnauthorizedOperation"})
_CREDENTIALS = "an ECS task's role, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def glue_catalog(warehouse: str, files: Mapping[str, str]) -> GlueCatalog:
    """Opens the account's Glue catalog in the region of the environment.

    Args:
        warehouse: s3:// address of the tables' files.
        files: `Settings.file_properties`.

    Raises:
        SettingsError: The extra `aws` is not installed, no region or credentials are found, or the bucket lies in
            another region.
        StorageError: The bucket is not there or may not be listed; and later, of any call, that AWS refuses it.
    """
    with aws_configured():
        from pyiceberg.utils.config import Config, merge_config

        region = {"client.region": files["s3.region"]} if "s3.region" in files else {}
        ours: RecursiveDict = {"warehouse": warehouse, **files, **region}
        catalog = _platform_catalog(merge_config(Config().get_catalog_config("mlops") or {}, ours))
        catalog.glue.meta.events.register("after-call.glue", _refuse)
        _require_bucket(warehouse, catalog.glue.meta.region_name)
    return catalog


def _platform_catalog(properties: Mapping[str, Any]) -> GlueCatalog:
    from pyiceberg.catalog.glue import GlueCatalog

    class PlatformCatalog(GlueCatalog):
        """Sees the platform's databases only: a role that may write them need not be one that may list others."""

        def list_namespaces(self, namespace: str | tuple[str, ...] = ()) -> list[tuple[str, ...]]:
            return [] if namespace else [(name,) for name in DATABASES if self.namespace_exists(name)]

        def create_namespace(
            self, namespace: str | tuple[str, ...], properties: Mapping[str, Any] | None = None
        ) -> None:
            # Where the SQL catalogs put it; PyIceberg's place on Glue would be `silver.db`.
            where = f"{self.properties['warehouse']}/{self.identifier_to_database(namespace)}"
            super().create_namespace(namespace, {"location": where, **(properties or {})})

    return PlatformCatalog("mlops", **properties)


@contextmanager
def aws_configured() -> Iterator[None]:
    """Says what to set where boto3 finds no region or credentials, or is not there itself.

    Raises:
        SettingsError: One of these.
    """
    try:
        import boto3  # type: ignore[import-untyped]
        from botocore import exceptions  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError(
            f"the AWS profile needs {error.name}, which is not installed",
            hint="install the extra: pip install 'mlops-platform[aws]'.",
        ) from error
    try:
        if boto3.Session().get_credentials() is None:
            raise exceptions.NoCredentialsError
        yield
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
        raise SettingsError(
            f"there are no AWS credentials: {error}",
            expected=_CREDENTIALS,
            hint="`aws sts get-caller-identity` shows who you are, in the same shell.",
        ) from error
    except exceptions.NoRegionError as error:
        raise SettingsError("no AWS region is set", hint="set AWS_REGION, such as sa-east-1.") from error


def refusal(service: str, operation: str, found: Mapping[str, Any]) -> StorageError | None:
    """What an answer of AWS means for a person; None where it is no refusal.

    Args:
        service: Such as glue; IAM's actions begin with it.
        operation: The API's name of the call.
        found: `Error` of the answer: its Code and Message.
    """
    code, message = str(found.get("Code", "")), str(found.get("Message", "")).rstrip(".")
    if code in UNKNOWN_KEY:
        return StorageError(
            f"AWS does not take the credentials ({code}): {message}",
            expected=_CREDENTIALS,
            hint="renew them; `aws sts get-caller-identity` shows who you are.",
        )
    if code in DENIED:
        return StorageError(
            f"AWS refuses {service}:{operation}: {message}",
            expected=f"a role that allows {service}:{operation} there, as deploy/aws/iam does",
            hint="check the task's role, and that AWS_REGION is the region the platform was deployed to.",
        )
    return None


def _refuse(parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
    """Called by botocore with every answer, before it makes an error of it.

    Raises:
        StorageError: AWS refused the call.
    """
    found = refusal("glue", model.name, parsed.get("Error", {}))
    if found is not None:
        raise found


def _require_bucket(warehouse: str, region: str) -> None:
    import boto3
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    bucket = warehouse.removeprefix("s3://").partition("/")[0]
    try:
        answer = boto3.Session().client("s3", region_name=region).head_bucket(Bucket=bucket)
    except ClientError as error:
        found = error.response.get("Error", {})
        if found.get("Code") == "404":
            raise StorageError(
                f"there is no bucket {bucket}", expected="the bucket of MLOPS_WAREHOUSE_URL", hint="see deploy/aws."
            ) from error
        refused = refusal("s3", "ListBucket", found)
        if refused is None:
            raise
        raise refused from error
    where = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
    if where != region:
        raise SettingsError(
            f"the bucket {bucket} lies in {where}, AWS_REGION says {region}",
            expected="one region for the bucket, Glue and Athena",
            hint=f"set AWS_REGION={where}.",
        )
