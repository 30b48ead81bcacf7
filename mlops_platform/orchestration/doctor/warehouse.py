"""The tables' files: a folder of the home or a bucket, where a small object is written, read, listed and deleted.

Does not belong here: the tables (`lake.py`).
"""

from __future__ import annotations

import secrets
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlops_platform.orchestration.doctor.finding import Finding
from mlops_platform.orchestration.doctor.servers import aws, aws_errors, refused

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_platform.settings import Settings

# In a namespace, since a role may write nowhere else, and outside every table's folder.
PLACE, PROBE = "ml", ".mlops-doctor"


def warehouse(settings: Settings) -> Finding:
    """A probe can be written, read, listed and deleted where the tables' files are."""
    if settings.warehouse_url is None:
        return _folder(settings.warehouse)
    return _bucket(settings, settings.warehouse_url)


def _folder(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding("warehouse", is_ok=False, message=f"there is no folder {folder}", mend="mlops demo")
    probe = folder / f"{PROBE}-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"probe")
        probe.read_bytes()
        probe.unlink()
        found = sum(1 for _ in folder.iterdir())
    except OSError as error:
        mend = f"chown -R $(id -un) {shlex.quote(str(folder))} && chmod -R u+rwX {shlex.quote(str(folder))}"
        return Finding("warehouse", is_ok=False, message=f"{folder} is not ours to write: {error.strerror}", mend=mend)
    return Finding("warehouse", is_ok=True, message=f"{folder}: {found} namespaces; a probe written, read, deleted")


def _bucket(settings: Settings, url: str) -> Finding:
    parts = urlsplit(url)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    key = f"{prefix}/{PLACE}/{PROBE}-{secrets.token_hex(4)}".lstrip("/")
    client = aws("s3", settings)
    resource = f"arn:aws:s3:::{bucket}"
    try:
        listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1000)
        resource = f"arn:aws:s3:::{bucket}/{key.rpartition('/')[0]}/*"
        client.put_object(Bucket=bucket, Key=key, Body=b"probe")
        try:
            client.get_object(Bucket=bucket, Key=key)["Body"].read()
        finally:
            client.delete_object(Bucket=bucket, Key=key)
    except aws_errors() as error:
        raise refused(error, "s3", resource) from error
    count = f"{listed['KeyCount']}{' or more' if listed.get('IsTruncated') else ''}"
    return Finding("warehouse", is_ok=True, message=f"{url}: {count} objects; a probe written, read, listed, deleted")


def bucket_date(settings: Settings) -> str | None:
    """The store's Date header; None where the warehouse is a folder."""
    if settings.warehouse_url is None:
        return None
    bucket = urlsplit(settings.warehouse_url).netloc
    try:
        answer: dict[str, Any] = aws("s3", settings).head_bucket(Bucket=bucket)
    except aws_errors() as error:
        # A refusal carries the time as well; S3 refuses requests that are a quarter of an hour off.
        answer = getattr(error, "response", {})
        if not answer:
            raise refused(error, "s3", f"arn:aws:s3:::{bucket}") from error
    found = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return str(found) if found else None
