"""Rows staged on a branch by another engine, which PyIceberg stands in for here; Spark is in `engines`."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.errors import ConflictError, ContractError, StorageError
from mlops_platform.settings import Settings
from mlops_platform.storage import locks
from mlops_platform.storage.branch import Branch, open_branch
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain
from mlops_platform.storage.maintenance.orphans import listed
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.unit.storage.things import AT, FEB, JAN, RANGE, draft, on, rows


@pytest.fixture
def lake(home: Settings) -> Lake:
    return Lake(home)


@pytest.fixture
def branch(lake: Lake) -> Iterator[Branch]:
    found = open_branch(lake.settings, RANGE)
    yield found
    found.close()


def write(branch: Branch, table: pa.Table) -> None:
    """What another engine does: it appends to the branch."""
    schema = pa.schema([field.with_nullable(RANGE.column(field.name).nullable) for field in table.schema])
    Lake(branch.settings).catalog.load_table(RANGE.name).append(table.cast(schema), branch=branch.name)


def staged(branch: Branch, table: pa.Table, **options: Any) -> Draft:
    write(branch, table)
    return Draft(RANGE, branch.rows(), scope=on(JAN), **options)


def held(lake: Lake) -> list[str]:
    return sorted(lake.snapshot(RANGE).to_arrow()["thing"].to_pylist())


def refs(lake: Lake) -> list[str]:
    return sorted(lake.catalog.load_table(RANGE.name).refs())


def data_files(lake: Lake) -> int:
    table = lake.catalog.load_table(RANGE.name)
    return sum(file.path.endswith(".parquet") for file in listed(table.io, table.location()))


def test_nobody_sees_staged_rows_before_they_are_published(lake: Lake, branch: Branch) -> None:
    made = staged(branch, rows("a", "b"), properties={"colour-of-run": "red"}, marks={"by": "spark"})
    assert held(lake) == []
    result = lake.publish(made)
    assert (result.rows, result.is_new, held(lake)) == (2, True, ["a", "b"])
    assert lake.properties(RANGE)["colour-of-run"] == "red"
    assert lake.marks(RANGE) == {"by": "spark"}


def test_afterwards_the_branch_is_gone_and_the_history_is_one_commit_longer(lake: Lake) -> None:
    before = lake.publish(draft("old", "other", day=FEB)).snapshot_id
    branch = open_branch(lake.settings, RANGE)
    write(branch, rows("a"))
    result = lake.publish(staged(branch, rows("b")))
    table = lake.catalog.load_table(RANGE.name)
    assert refs(lake) == ["main"]
    assert [(s.snapshot_id, s.parent_snapshot_id) for s in table.snapshots()] == [
        (before, None),
        (result.snapshot_id, before),
    ]
    assert held(lake) == ["a", "b", "old", "other"]


def test_staged_rows_replace_exactly_their_range(lake: Lake) -> None:
    lake.publish(draft("old", "older"))
    # A file of the same month: its other rows stay.
    lake.publish(Draft(RANGE, rows("kept", day=JAN - timedelta(days=1)), scope=on(JAN - timedelta(days=1))))
    branch = open_branch(lake.settings, RANGE)
    lake.publish(staged(branch, rows("new")))
    assert held(lake) == ["kept", "new"]


def test_equal_rows_commit_nothing_and_leave_no_file(lake: Lake) -> None:
    first = lake.publish(draft("a", "b"))
    files = data_files(lake)
    branch = open_branch(lake.settings, RANGE)
    again = lake.publish(staged(branch, rows("b", "a", at=AT + timedelta(days=1))))
    assert (again.is_new, again.snapshot_id) == (False, first.snapshot_id)
    assert (refs(lake), data_files(lake)) == (["main"], files)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (rows("a", "a"), "key_is_unique"),
        (rows("a", size=101.0), "values_in_contract: size out of contract: 1"),
        (rows("a", day=FEB), "rows_in_range: 1 rows"),
    ],
    ids=["key", "value", "range"],
)
def test_a_failed_audit_leaves_the_table_and_no_branch(lake: Lake, wrong: pa.Table, message: str) -> None:
    lake.publish(draft("old"))
    files = data_files(lake)
    branch = open_branch(lake.settings, RANGE)
    with pytest.raises(ContractError, match=message):
        lake.publish(staged(branch, wrong))
    assert (held(lake), refs(lake), data_files(lake)) == (["old"], ["main"], files)


def test_a_publish_of_the_same_range_meanwhile_is_a_conflict(lake: Lake, branch: Branch) -> None:
    made = staged(branch, rows("mine"))
    lake.publish(draft("theirs"))
    with pytest.raises(ConflictError, match=r"another run has published these rows .* run this again"):
        lake.publish(made)
    assert (held(lake), refs(lake)) == (["theirs"], ["main"])


def test_a_publish_beside_the_range_meanwhile_is_none(lake: Lake, branch: Branch) -> None:
    made = staged(branch, rows("mine"))
    lake.publish(draft("theirs", day=FEB))
    assert lake.publish(made).is_new
    assert held(lake) == ["mine", "theirs"]


@pytest.mark.parametrize("what", ["removed", "written"])
def test_a_branch_that_somebody_touches_after_the_audit_is_refused(lake: Lake, branch: Branch, what: str) -> None:
    made = staged(branch, rows("mine"))
    if what == "removed":
        lake.catalog.load_table(RANGE.name).manage_snapshots().remove_branch(branch.name).commit()
    else:
        write(branch, rows("unaudited"))
    with pytest.raises(ConflictError, match="was removed or changed by somebody else"):
        lake.publish(made)
    assert held(lake) == []


def test_a_branch_that_no_longer_stands_on_its_base_is_refused(lake: Lake, branch: Branch) -> None:
    table = lake.catalog.load_table(RANGE.name)
    table.manage_snapshots().remove_branch(branch.name).commit()
    lake.publish(draft("other"))
    table.refresh()
    lake.publish(draft("other", "more"))
    table.refresh()
    table.maintenance.expire_snapshots().by_id(branch.base).commit()
    table.manage_snapshots().create_branch(table.metadata.current_snapshot_id, branch.name).commit()
    with pytest.raises(ConflictError, match="was removed or changed"):
        branch.rows()


def test_one_run_at_a_time_stages(lake: Lake, branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    assert branch.name in refs(lake)
    monkeypatch.setattr(locks, "TIMEOUT_SECONDS", 0.05)
    with pytest.raises(StorageError, match=r"test\.by_range\.branch has been locked"):
        open_branch(lake.settings, RANGE)
    # Who writes without a branch does not wait.
    assert lake.publish(draft("other")).is_new


def test_abandoning_removes_branch_and_files(lake: Lake) -> None:
    branch = open_branch(lake.settings, RANGE)
    write(branch, rows("a"))
    assert data_files(lake) == 1
    branch.abandon()
    assert (refs(lake), data_files(lake)) == (["main"], 0)


KILLED = """
import os, signal, sys
from mlops_platform.settings import load_settings
from mlops_platform.storage.branch import Branch
from mlops_platform_tests.unit.storage.test_branch import RANGE, Lake, open_branch, rows, staged
lake = Lake(load_settings(home=sys.argv[1]))
draft = staged(open_branch(lake.settings, RANGE), rows("new"))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "before the commit":
    die()
Branch.close = die
lake.publish(draft)
"""


@pytest.mark.parametrize(("when", "left"), [("before the commit", ["old"]), ("after the commit", ["new"])])
def test_killed_it_leaves_the_old_table_or_the_new_one(lake: Lake, when: str, left: list[str]) -> None:
    lake.publish(draft("old"))
    dead = subprocess.run([sys.executable, "-c", KILLED, str(lake.settings.home), when], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert (held(lake), len(refs(lake))) == (left, 2)
    # The next to stage finds that nobody uses it; the files may be the table's by now, and stay.
    branch = open_branch(lake.settings, RANGE)
    assert refs(lake) == sorted(["main", branch.name])
    branch.close()
    assert (held(lake), refs(lake)) == (left, ["main"])


def test_maintenance_removes_what_a_dead_run_left_once_it_is_old(lake: Lake, branch: Branch) -> None:
    write(branch, rows("a"))
    now = datetime.now(UTC)
    maintain(lake, now=now, keep=())
    assert len(refs(lake)) == 2
    maintain(lake, now=now + timedelta(days=4), keep=())
    assert (refs(lake), data_files(lake)) == (["main"], 0)
