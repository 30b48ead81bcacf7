"""Fixtures of the server profile: PostgreSQL and an object store, one each for a module.

These tests run by `make test-server` alone. Does not belong here: what one test alone needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mlops_platform_tests.integration import postgres
from mlops_platform_tests.integration.object_store import ObjectStore, running_store
from mlops_platform_tests.server.stack import Stack, running_stack

collect_ignore_glob = [] if os.environ.get("SERVER_PROOFS") == "1" else ["test_*.py"]


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Server]:
    """A PostgreSQL without any database of ours."""
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL server here; Debian's package is `postgresql`")
    with postgres.running(programs) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An object store without any bucket."""
    with running_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="module")
def stack(database: postgres.Server, store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Databases, a bucket and an MLflow server of the module's own."""
    with running_stack(database, store, tmp_path_factory.mktemp("mlflow")) as found:
        yield found
