"""One publish whose PostgreSQL dies at its worst moment: with the answer to the commit, or with the writer's lock.

Does not belong here: whole runs (`test_outages.py`), answers that are lost while the server lives
(integration/test_lake_survives.py).
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import OperationalError

from mlops_platform.errors import ConflictError
from mlops_platform.settings import load_settings
from mlops_platform.storage import publish as publishing
from mlops_platform.storage.commit import commit
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration.postgres import Server
from mlops_platform_tests.unit.storage.things import APPEND, JAN, RANGE, on, rows


@pytest.fixture
def lake(database: Server, tmp_path: Any) -> Lake:
    database.run("DROP DATABASE IF EXISTS catalog WITH (FORCE)", "CREATE DATABASE catalog")
    found = Lake(load_settings(home=tmp_path / "home", catalog_url=database.url("catalog")))
    for contract in (APPEND, RANGE):
        found.publish(draft(contract, "old"))
    return found


def draft(contract: Any, thing: str) -> Draft:
    return Draft(contract, rows(thing), scope=on(JAN) if contract is RANGE else ())


def things(lake: Lake, contract: Any) -> list[str]:
    return sorted(lake.snapshot(contract).to_arrow(["thing"])["thing"].to_pylist())


@pytest.mark.parametrize("contract", [APPEND, RANGE], ids=lambda contract: contract.name)
def test_a_commit_whose_answer_died_with_the_server_has_one_effect(
    lake: Lake, contract: Any, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, back = SqlCatalog.commit_table, threading.Timer(1.0, database.start)

    def commit_table(self: SqlCatalog, *args: Any, **more: Any) -> Any:
        real(self, *args, **more)
        monkeypatch.setattr(SqlCatalog, "commit_table", real)
        database.kill()
        # Not at once: nobody can be asked at first whether the commit took effect.
        back.start()
        raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    assert lake.publish(draft(contract, "new")).is_new
    back.join()
    assert things(lake, contract) == (["new", "old"] if contract is APPEND else ["new"])
    assert len(lake.catalog.load_table(contract.name).snapshots()) == 2


@pytest.mark.parametrize("contract", [APPEND, RANGE], ids=lambda contract: contract.name)
def test_a_writer_whose_lock_died_with_the_server_does_not_commit_over_another(
    lake: Lake, contract: Any, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*arguments: Any) -> None:
        monkeypatch.setattr(publishing, "commit", commit)
        database.kill()
        database.start()
        # The lock is free again, and taken.
        assert lake.publish(draft(contract, "other")).is_new
        commit(*arguments)

    monkeypatch.setattr(publishing, "commit", late)
    with pytest.raises(ConflictError, match="was changed meanwhile"):
        lake.publish(draft(contract, "late"))
    others = ["old", "other"] if contract is APPEND else ["other"]
    assert things(lake, contract) == others
    lake.publish(draft(contract, "late"))
    assert things(lake, contract) == (["late", *others] if contract is APPEND else ["late"])
