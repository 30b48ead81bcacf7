"""Deleting what nothing refers to: that every reachable file stays, and that foreign files are never touched."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import TableUpkeep, maintain
from mlops_platform.storage.maintenance.orphans import plain, reachable
from mlops_platform.storage.rows import stage
from mlops_platform_tests.unit.storage.things import RANGE, draft, rows

NOW = datetime.now(UTC)
WEEK = timedelta(days=7)


def folder(lake: Lake) -> Path:
    return lake.settings.warehouse / "test" / "by_range"


def upkeep(lake: Lake, **arguments: Any) -> TableUpkeep:
    done = maintain(lake, **{"now": NOW, "keep": (), **arguments})
    return next(entry for entry in done if entry.table == RANGE.name)


def age(*paths: Path) -> None:
    """Makes files a week old."""
    then = (NOW - WEEK).timestamp()
    for path in paths:
        os.utime(path, (then, then))


def test_only_old_files_that_nothing_reaches_go(lake: Lake) -> None:
    lake.publish(draft("a"))
    lake.publish(draft("b"))
    stray = [folder(lake) / "data" / "day_month=2024-01" / "stray.parquet", folder(lake) / "metadata" / "stray-m0.avro"]
    for path in stray:
        path.write_bytes(b"12345")
    age(*(path for path in folder(lake).rglob("*") if path.is_file()))
    young = folder(lake) / "metadata" / "young.avro"
    young.write_bytes(b"1")
    done = upkeep(lake)
    assert (done.orphans, done.bytes_freed) == (2, 10)
    assert young.exists()
    assert not any(path.exists() for path in stray)
    assert lake.snapshot(RANGE).count() == 1


def test_all_that_an_expired_snapshot_alone_reached_goes(lake: Lake) -> None:
    for thing in "abcd":
        lake.publish(draft(thing))
    upkeep(lake, now=NOW + timedelta(days=60))
    table = lake.catalog.load_table(RANGE.name)
    assert len(list((folder(lake) / "data").rglob("*.parquet"))) == 1
    assert len(list((folder(lake) / "metadata").glob("snap-*.avro"))) == 1
    left = {plain(str(path)) for path in folder(lake).rglob("*") if path.is_file()}
    assert left == set(reachable(table))


def test_rows_on_their_way_into_the_table_stay(lake: Lake) -> None:
    lake.publish(draft("a"))
    staged = stage(lake.settings, RANGE, rows("b", day=draft("a").rows["day"][0].as_py()).to_batches())
    assert upkeep(lake).orphans == 0
    assert all(Path(file.file_path.removeprefix("file://")).exists() for file in staged.files)


def test_the_folder_of_a_dropped_table_is_only_reported(lake: Lake) -> None:
    lake.publish(draft("a"))
    lake.catalog.drop_table(RANGE.name)
    files = sorted(folder(lake).rglob("*"))
    [entry] = maintain(lake, now=NOW + WEEK, keep=())
    assert entry.table == str(folder(lake))
    assert "left alone" in entry.note
    assert sorted(folder(lake).rglob("*")) == files


def test_the_files_of_another_homes_table_stay(lake: Lake, tmp_path: Path) -> None:
    """Two homes may be pointed at one bucket, with a table of the same name in the same folder."""
    lake.publish(draft("a"))
    other = Lake(load_settings(home=tmp_path / "other"))
    other.settings.home.mkdir()
    other.settings.warehouse.symlink_to(lake.settings.warehouse)
    shared = f"file://{lake.settings.warehouse}"
    other.catalog.properties["warehouse"] = shared
    other.publish(draft("theirs"))
    done = upkeep(lake, now=NOW + WEEK)
    assert done.orphans == 0
    assert "another catalog's table" in done.note
    assert other.snapshot(RANGE).count() == 1


def test_a_folder_shared_by_two_names_is_left_alone(lake: Lake) -> None:
    lake.publish(draft("a"))
    table = lake.catalog.load_table(RANGE.name)
    lake.catalog.register_table("test.alias", table.metadata_location)
    lake.publish(draft("b"))
    done = maintain(lake, now=NOW + timedelta(days=60), keep=())
    assert [entry.orphans for entry in done] == [0, 0]
    assert all("shares its folder" in entry.note for entry in done)


def test_metadata_elsewhere_means_hands_off(lake: Lake, tmp_path: Path) -> None:
    lake.publish(draft("a"))
    table = lake.catalog.load_table(RANGE.name)
    with table.transaction() as transaction:
        transaction.set_properties({"write.metadata.path": f"file://{tmp_path / 'elsewhere'}"})
        transaction.set_properties({"note": "moved"})
    table.transaction().set_properties({"note": "again"}).commit_transaction()
    done = upkeep(lake, now=NOW + WEEK)
    assert done.orphans == 0
    assert "its metadata is not in" in done.note


def test_scratch_that_a_killed_process_left(lake: Lake) -> None:
    lake.publish(draft("a"))
    scratch = lake.settings.home / "tmp"
    scratch.mkdir(exist_ok=True)
    old, new = scratch / "duckdb_temp_storage-0.tmp", scratch / "duckdb_temp_storage-1.tmp"
    for path in (old, new):
        path.write_bytes(b"spilled")
    age(old)
    done = maintain(lake, now=NOW, keep=())
    assert done[-1] == TableUpkeep(str(scratch), orphans=1, bytes_freed=7)
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("spelling", ["file:/w/x", "file:///w/x", "/w/x", "file:////w//x/"])
def test_engines_spell_paths_differently(spelling: str) -> None:
    assert plain(spelling) == "w/x"
    assert plain("s3://b/w/x") == plain("s3a://b/w/x") == "b/w/x"
