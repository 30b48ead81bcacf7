"""Databases are made on first use where the user may, and where not the message says what to run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_platform.errors import StorageError
from mlops_platform.storage.database import ensure_database
from mlops_platform_tests.integration import postgres

NAMES = "SELECT datname FROM pg_database WHERE datname LIKE 'made%' ORDER BY 1"


def test_a_missing_database_is_made_once(database: postgres.Server) -> None:
    url = database.url("made-once")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ensure_database(url, "MLOPS_CATALOG_URL"), range(8)))
    assert database.run(NAMES) == [("made-once",)]
    ensure_database(url, "MLOPS_CATALOG_URL")


def test_who_may_not_is_told_what_to_run(database: postgres.Server) -> None:
    database.run("CREATE ROLE ana LOGIN NOCREATEDB")
    with pytest.raises(StorageError, match='CREATE DATABASE "made_by_ana" OWNER "ana"') as refused:
        ensure_database(database.url("made_by_ana", user="ana").replace("ana@", "ana:hunter2@"), "MLOPS_CATALOG_URL")
    assert "hunter2" not in str(refused.value)


def test_one_that_is_there_but_closed_is_no_missing_one(database: postgres.Server) -> None:
    database.run("CREATE DATABASE made_closed", "ALTER DATABASE made_closed ALLOW_CONNECTIONS false")
    with pytest.raises(StorageError, match=r"can't be reached.*not currently accepting connections"):
        ensure_database(database.url("made_closed"), "MLOPS_CATALOG_URL")


def test_a_user_whom_the_server_does_not_know(database: postgres.Server) -> None:
    with pytest.raises(StorageError, match=r'reached.*role "nobody_here" does not exist'):
        ensure_database(database.url("made_by_nobody", user="nobody_here"), "MLOPS_CATALOG_URL")
