"""Servers that several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlops_platform_tests.integration.postgres import Server, find_programs, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL of the tests' own."""
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    with running(programs) as found:
        yield found
