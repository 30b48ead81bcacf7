"""Tables that survive: sudden death at any point, lost answers, many writers, poisoned batches under a reader.

Some rounds run here, all of them with `make test-lake`. Does not belong here: one publish by itself (unit/storage).
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from sqlalchemy.exc import OperationalError

from mlops_platform.errors import ContractError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage import commit as committing
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration.lines import (
    LINE,
    change_crm,
    content,
    count_points,
    killed_at,
    open_home,
    run_line,
)
from mlops_platform_tests.integration.postgres import Server
from mlops_platform_tests.integration.writers import append_and_replace, poll, start
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.unit.storage.things import APPEND, FEB, JAN, RANGE, on, rows


class TestDeath:
    # 8 × 25 deaths, each in young homes: a line takes longer with every snapshot that its tables hold.
    @pytest.mark.parametrize("episode", range(rounds(full=8, share=1)))
    def test_no_row_is_lost_or_doubled(self, tmp_path: Path, episode: int) -> None:
        crm, homes = tmp_path / "crm.db", [tmp_path / name for name in ("killed", "whole")]
        killed, whole = (open_home(home) for home in homes)
        change_crm(crm, 0)
        for home in homes:
            run_line(home, crm, 0)
        deaths, number = 0, 0
        wanted = rounds(full=25, share=3)
        while deaths < wanted:
            number += 1
            before = {contract.name: content(killed, contract) for contract in LINE}
            change_crm(crm, number)
            points = count_points(homes[1], crm, number)
            # Spread over the points of a line, whatever their number.
            point = ((episode * wanted + deaths) * 7919) % points + 1
            deaths += killed_at(homes[0], crm, number, point)
            after = {contract.name: content(whole, contract) for contract in LINE}
            for contract in LINE:
                assert content(killed, contract) in (before[contract.name], after[contract.name]), (number, point)
            run_line(homes[0], crm, number)
            for contract in LINE:
                assert content(killed, contract) == after[contract.name], (number, point, contract.name)


ERRORS: list[Callable[[], Exception]] = [
    lambda: CommitStateUnknownException("no answer"),
    lambda: CommitFailedException("the proxy asked twice"),
    lambda: OSError("connection reset"),
    lambda: OperationalError("COMMIT", {}, Exception("server closed the connection")),
]


class TestLostAnswers:
    def test_each_has_exactly_one_effect(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(committing, "WAITS", (0.0, 0.0))
        real = SqlCatalog.commit_table
        lake.publish(Draft(APPEND, rows("first")))
        lake.publish(Draft(RANGE, rows("first"), scope=on(JAN)))
        expected = ["first"]
        cases = itertools.cycle(itertools.product(ERRORS, (APPEND, RANGE)))
        for number, (make_error, contract) in zip(range(rounds(full=100, share=24)), cases, strict=False):
            answers = iter([make_error()])

            def commit_table(self: SqlCatalog, *args: Any, answers: Iterator[Exception] = answers, **more: Any) -> Any:
                done = real(self, *args, **more)
                for error in answers:
                    raise error
                return done

            thing = f"thing {number}"
            snapshots = len(lake.catalog.load_table(contract.name).snapshots())
            with monkeypatch.context() as patch:
                patch.setattr(SqlCatalog, "commit_table", commit_table)
                assert lake.publish(Draft(contract, rows(thing), scope=on(JAN) if contract is RANGE else ())).is_new
            assert len(lake.catalog.load_table(contract.name).snapshots()) == snapshots + 1
            found = sorted(lake.snapshot(contract).to_arrow(["thing"])["thing"].to_pylist())
            expected += [thing] if contract is APPEND else []
            assert found == (sorted(expected) if contract is APPEND else [thing])


class TestWriters:
    @pytest.fixture(params=["sqlite", "postgresql"])
    def shared(self, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
        if request.param == "sqlite":
            return load_settings(home=tmp_path / "home")
        server: Server = request.getfixturevalue("server")
        server.run("DROP DATABASE IF EXISTS catalog", "CREATE DATABASE catalog")
        return load_settings(home=tmp_path / "home", catalog_url=server.url("catalog"))

    def test_nothing_is_lost_or_doubled_and_nobody_fails(self, shared: Settings) -> None:
        writers, commits = 4, rounds(full=50, share=6)
        processes = [start(append_and_replace, shared.home, shared.catalog_url, w, commits) for w in range(writers)]
        for process in processes:
            process.join(600)
        assert [process.exitcode for process in processes] == [0] * writers
        lake = Lake(shared)
        appended = sorted(lake.snapshot(APPEND).to_arrow(["thing"])["thing"].to_pylist())
        assert appended == sorted(f"{writer}/{n}" for writer in range(writers) for n in range(commits))
        # Each writer replaced a day of its own, again and again: its last rows are there, once.
        replaced = sorted(lake.snapshot(RANGE).to_arrow(["thing"])["thing"].to_pylist())
        assert replaced == sorted(f"{writer}/{commits - 1}/{k}" for writer in range(writers) for k in (0, 1))


POISONS: list[Callable[[], tuple[pa.Table, Any]]] = [
    lambda: (rows("bad", "bad"), on(JAN)),
    lambda: (rows("bad", size=101.0), on(JAN)),
    lambda: (rows("bad", size=float("nan")), on(JAN)),
    lambda: (rows("bad", colour="green"), on(JAN)),
    lambda: (rows(None), on(JAN)),  # type: ignore[arg-type]
    lambda: (rows("bad", day=FEB), on(JAN)),
    lambda: (rows("bad", at=None), on(JAN)),  # type: ignore[arg-type]
    lambda: (rows("bad").drop_columns(["price"]), on(JAN)),
]


def test_a_reader_never_sees_a_row_of_a_poisoned_batch(lake: Lake) -> None:
    lake.publish(Draft(RANGE, rows("good 0"), scope=on(JAN)))
    stop, seen = threading.Event(), Counter[str]()
    reader = threading.Thread(target=poll, args=(lake.settings.home, stop, seen))
    reader.start()
    try:
        for number, poison in zip(range(50), itertools.cycle(POISONS), strict=False):
            bad, scope = poison()
            with pytest.raises(ContractError):
                lake.publish(Draft(RANGE, bad, scope=scope))
            if number % 5 == 0:
                lake.publish(Draft(RANGE, rows(f"good {number}"), scope=on(JAN)))
    finally:
        stop.set()
        reader.join()
    assert seen.pop("polls") >= 50
    assert {name.partition(" ")[0] for name in seen} == {"good"}
