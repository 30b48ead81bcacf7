"""An S3 for tests: moto's server on loopback, on a free port, in this process.

Belongs here: the server and its buckets. Does not belong here: tests. It keeps objects in memory and asks for no key:
it shows how the platform speaks S3, not how fast or how durable a real one is.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

KEY, REGION = "tests", "us-east-1"


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own.

    Args:
        name: The bucket's name.
        endpoint: Address of its server.
        key: Its access key; moto takes any.
        secret: The secret of the key.
    """

    name: str
    endpoint: str
    key: str = KEY
    secret: str = KEY

    @classmethod
    def fresh(cls, endpoint: str, key: str = KEY, secret: str = KEY) -> Bucket:
        """A bucket with a name that no other test uses."""
        return cls(f"bucket-{uuid.uuid4().hex[:12]}", endpoint, key, secret)

    @property
    def url(self) -> str:
        """Where a lake may lie in it."""
        return f"s3://{self.name}/lake"

    def environment(self) -> dict[str, str]:
        """The variables by which PyArrow, boto3 and MLflow find the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def create(self) -> None:
        """Makes the bucket."""
        self._client().create_bucket(Bucket=self.name)

    def listed(self, prefix: str = "") -> list[str]:
        """The objects whose key begins so, sorted."""
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        """An object's bytes."""
        data: bytes = self._client().get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        """Writes an object."""
        self._client().put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        """Deletes an object."""
        self._client().delete_object(Bucket=self.name, Key=key)

    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )


@contextmanager
def running_s3() -> Iterator[str]:
    """The address of a running server; it is stopped, and its buckets are gone, at the end."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    # A line for every request would bury what a failed test says.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
