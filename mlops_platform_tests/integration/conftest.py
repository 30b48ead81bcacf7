"""Servers that several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlops_platform_tests.integration.buckets import Bucket, running_s3
from mlops_platform_tests.integration.postgres import Server, find_programs, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL of the tests' own."""
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    with running(programs) as found:
        yield found


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of an S3 of the tests' own, which holds everything in memory."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A fresh, empty bucket; the environment's AWS variables lead to it."""
    found = Bucket.fresh(s3_endpoint)
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    found.create()
    return found
