"""Writers beside each other, and writers that are killed: readers see the old state or the new one, never another."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from filelock import FileLock

from mlops_platform.errors import StorageError
from mlops_platform.storage import locks
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.locks import table_lock
from mlops_platform_tests.unit.storage.things import RANGE, draft
from mlops_platform_tests.unit.storage.writers import (
    CONTEXT,
    PATIENCE_SECONDS,
    publish_and_die,
    publish_when_free,
    start,
)

OLD, NEW = ["a"], ["b", "c"]


def things(lake: Lake) -> list[str]:
    return lake.snapshot(RANGE).to_arrow(["thing"], order_by=["thing"])["thing"].to_pylist()


def test_a_second_writer_waits_for_the_first(lake: Lake) -> None:
    first = lake.publish(draft("a"))
    waiting = CONTEXT.Event()
    with table_lock(lake.settings, RANGE.name):
        writer = start(publish_when_free, lake.settings.home, waiting)
        assert waiting.wait(PATIENCE_SECONDS)
        assert lake.snapshot(RANGE).snapshot_id == first.snapshot_id
    writer.join(PATIENCE_SECONDS)
    assert writer.exitcode == 0
    assert things(lake) == ["b"]


def test_waiting_too_long_is_a_storage_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.publish(draft("a"))
    monkeypatch.setattr(locks, "TIMEOUT_SECONDS", 0)
    with (
        FileLock(lake.settings.home / "locks" / f"{RANGE.name}.lock"),
        pytest.raises(StorageError, match=r"test\.by_range has been locked"),
    ):
        lake.publish(draft("b"))
    assert things(lake) == OLD


def test_a_lock_is_of_one_table(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TIMEOUT_SECONDS", 0)
    with table_lock(lake.settings, "test.other"):
        assert lake.publish(draft("a")).is_new


# The files of this publish, in order: data file, manifests of what is added and removed, their list, and the table's
# metadata, which the catalog's commit writes before it points to it.
DEATHS = [("file", "before", n) for n in (1, 2, 5)] + [("file", "after", n) for n in (1, 3, 5)]
COMMIT_DEATHS = [("commit", "before", 1), ("commit", "after", 1)]


@pytest.fixture
def old(lake: Lake) -> Iterator[Lake]:
    lake.publish(draft(*OLD))
    yield lake


@pytest.mark.parametrize("death", [*DEATHS, *COMMIT_DEATHS], ids=lambda death: " ".join(map(str, death)))
def test_a_killed_writer_leaves_the_old_state_or_the_new(old: Lake, death: tuple[str, str, int]) -> None:
    writer = start(publish_and_die, old.settings.home, *death)
    writer.join(PATIENCE_SECONDS)
    assert writer.exitcode == -signal.SIGKILL
    has_committed = death == ("commit", "after", 1)
    assert things(old) == (NEW if has_committed else OLD)

    again = old.publish(draft(*NEW))
    assert again.is_new is not has_committed
    assert things(old) == NEW
    assert len(old.catalog.load_table(RANGE.name).snapshots()) == 2  # old and new


@pytest.mark.parametrize("death", [("file", "after", 1), ("commit", "before", 1)], ids=lambda d: " ".join(map(str, d)))
def test_a_writer_killed_while_it_makes_the_table_leaves_none_or_an_empty_one(
    lake: Lake, death: tuple[str, str, int]
) -> None:
    writer = start(publish_and_die, lake.settings.home, *death)
    writer.join(PATIENCE_SECONDS)
    assert writer.exitcode == -signal.SIGKILL
    assert things(lake) == []
    assert lake.publish(draft(*NEW)).is_new
    assert things(lake) == NEW
