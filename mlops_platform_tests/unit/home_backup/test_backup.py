"""What a backup refuses, what it holds while the home is in use, and that it leaves the home as it was."""

from __future__ import annotations

import errno
import sqlite3
import tarfile
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from pyiceberg.manifest import DataFile, DataFileContent

from mlops_platform.errors import InputError, PlatformError, StorageError
from mlops_platform.home_backup import archive as archives
from mlops_platform.home_backup import staging
from mlops_platform.home_backup.backup import back_up
from mlops_platform.home_backup.restore import restore
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.unit.home_backup.homes import AT, cell, database, fill, history, publish_tables, quiet, write
from mlops_platform_tests.unit.storage.things import RANGE, TABLE, rows
from mlops_platform_tests.unit.storage.writers import CONTEXT, PATIENCE_SECONDS, start


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that tests only read."""
    settings = load_settings(home=tmp_path_factory.mktemp("made") / "home")
    fill(settings)
    return settings


def bare(folder: Path) -> Settings:
    """A home without tables."""
    write(folder / "home/mlops.toml", "")
    return load_settings(home=folder / "home")


def refused(settings: Settings, archive: Path, *words: str, error: type[PlatformError] = InputError) -> None:
    """Refused with these words, without an archive or half of one."""
    before = sorted(archive.parent.iterdir()) if archive.parent.is_dir() else None
    with pytest.raises(error) as raised:
        back_up(settings, archive, created_at=AT, say=quiet)
    assert all(word in str(raised.value) for word in words), raised.value
    assert (sorted(archive.parent.iterdir()) if archive.parent.is_dir() else None) == before
    assert not list((settings.home / "tmp").glob("*"))


class TestRefused:
    def test_no_home(self, tmp_path: Path) -> None:
        for home in (tmp_path / "none", tmp_path):
            refused(load_settings(home=home), tmp_path / "a.tar", "is no home", "--home DIR")

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.zst", ".tar", "a"])
    def test_no_such_format(self, tmp_path: Path, name: str) -> None:
        refused(bare(tmp_path), tmp_path / name, "no known format", ".tar.gz")

    def test_a_file_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_text("an older backup")
        refused(bare(tmp_path), tmp_path / "a.tar", "is there already")
        assert (tmp_path / "a.tar").read_text() == "an older backup"

    def test_inside_the_home(self, tmp_path: Path) -> None:
        refused(bare(tmp_path), tmp_path / "home/a.tar", "lies inside the home")

    def test_no_folder(self, tmp_path: Path) -> None:
        refused(bare(tmp_path), tmp_path / "no/a.tar", "there is no folder", "mkdir -p")

    def test_tables_on_a_server(self, tmp_path: Path) -> None:
        for server in ({"catalog_url": "postgresql://me:hunter2@host/x"}, {"warehouse_url": "s3://bucket/x"}):
            settings = bare(tmp_path).model_copy(update=server)
            with pytest.raises(InputError, match=r"not in its folder.*embedded.*Next") as raised:
                back_up(settings, tmp_path / "a.tar", created_at=AT, say=quiet)
            assert "hunter2" not in str(raised.value)
            with pytest.raises(InputError, match="embedded"):
                restore(settings, tmp_path / "a.tar", say=quiet)

    @pytest.mark.parametrize(
        "pattern", ["data/**/*.parquet", "metadata/*-m0.avro", "metadata/snap-*", "metadata/*json"]
    )
    def test_a_table_lacks_a_file(self, home: Settings, tmp_path: Path, pattern: str) -> None:
        publish_tables(home)
        min((home.home / "warehouse/test/appended").glob(pattern)).unlink()
        if pattern.endswith("json"):
            # Old metadata may be gone, the current may not.
            back_up(home, tmp_path / "old.tar", created_at=AT, say=quiet)
            for path in (home.home / "warehouse/test/appended").glob(pattern):
                path.unlink()
        refused(home, tmp_path / "a.tar", "appended", error=StorageError)

    def test_a_table_holds_delete_files(self, home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """They name data files by paths, inside Parquet."""
        publish_tables(home)
        monkeypatch.setattr(DataFile, "content", property(lambda _: DataFileContent.POSITION_DELETES))
        refused(home, tmp_path / "a.tar", "test.appended holds delete files", "compact", error=StorageError)

    def test_a_table_lies_elsewhere(self, home: Settings, tmp_path: Path) -> None:
        publish_tables(home)
        change = "UPDATE iceberg_tables SET metadata_location = 'file:///elsewhere/x.metadata.json'"
        database(home.home / "catalog.db", change)
        refused(home, tmp_path / "a.tar", "lies outside the home: file:///elsewhere", error=StorageError)

    def test_a_database_is_broken(self, tmp_path: Path) -> None:
        settings = bare(tmp_path)
        (settings.home / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
        refused(settings, tmp_path / "a.tar", "mlflow.db can't be read", error=StorageError)

    def test_a_file_that_changes_while_it_is_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = bare(tmp_path)
        write(settings.home / "mlflow-artifacts/model", "one")
        write_list = archives._write_list

        def change_first(tar: tarfile.TarFile, manifest: archives.Manifest) -> None:
            write_list(tar, manifest)
            (settings.home / "mlflow-artifacts/model").write_text("two")

        monkeypatch.setattr(archives, "_write_list", change_first)
        refused(settings, tmp_path / "a.tar", "was changed while it was copied", error=StorageError)

    def test_a_disk_that_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(archives.os, "fsync", full)
        refused(bare(tmp_path), tmp_path / "a.tar", "No space left", "run this again", error=StorageError)


def test_an_artifact_is_kept_whatever_it_is_called(tmp_path: Path) -> None:
    names = {"uv.lock", "x.tmp", "x-wal", "cache/x", "logs/x"}
    settings = bare(tmp_path)
    for name in names | {"x"}:
        write(settings.home / "mlflow-artifacts" / name, name)
    write(settings.home / "reports/x-journal", "no database is beside it")
    back_up(settings, tmp_path / "a.tar", created_at=AT, say=quiet)
    with tarfile.open(tmp_path / "a.tar") as tar:
        held = set(tar.getnames())
    assert held >= {f"home/mlflow-artifacts/{name}" for name in names} | {"home/reports/x-journal"}


def test_links_are_followed_once(tmp_path: Path) -> None:
    settings = bare(tmp_path)
    write(tmp_path / "disk/one", "1")
    (settings.home / "mlflow-artifacts").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/round").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/two").symlink_to(tmp_path / "disk/one")
    (tmp_path / "disk/three").symlink_to("one")
    back_up(settings, tmp_path / "a.tar", created_at=AT, say=quiet)
    restore(load_settings(home=tmp_path / "new"), tmp_path / "a.tar", say=quiet)
    found = {path.name: path.read_text() for path in (tmp_path / "new/mlflow-artifacts").iterdir()}
    assert found == {"one": "1", "two": "1", "three": "1"}
    assert not any(path.is_symlink() for path in (tmp_path / "new").rglob("*"))


def test_what_lies_elsewhere_is_told(tmp_path: Path) -> None:
    write(tmp_path / "home/mlops.toml", '[sources]\nshop = "postgresql://me:hunter2@host/shop"\n')
    where = {"crm_url": "sqlite:////elsewhere/crm.db", "mlflow_tracking_uri": "http://host:5000"}
    settings = load_settings(home=tmp_path / "home", **where)
    notes = back_up(settings, tmp_path / "a.tar", created_at=AT, say=quiet).notes
    assert [note.split(" is at ")[0] for note in notes] == ["MLflow", "the source crm", "the source shop"]
    assert "hunter2" not in " ".join(notes)
    inside = settings.model_copy(update={"crm_url": settings.demo_crm_url, "mlflow_tracking_uri": None, "sources": {}})
    assert back_up(inside, tmp_path / "b.tar", created_at=AT, say=quiet).notes == ()


class TestTheHomeStaysAsItWas:
    def test_every_byte(self, made: Settings, tmp_path: Path) -> None:
        def state() -> dict[str, bytes]:
            return {
                path.relative_to(made.home).as_posix(): path.read_bytes()
                for path in made.home.rglob("*")
                if path.is_file() and "locks" not in path.parts
            }

        before = state()
        back_up(made, tmp_path / "a.tar", created_at=AT, say=quiet)
        assert state() == before

    def test_files_without_hard_links_are_copied(
        self, made: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("no hard links here")

        with monkeypatch.context() as patch:
            patch.setattr(staging.os, "link", refuse)
            archive = back_up(made, tmp_path / "a.tar", created_at=AT, say=quiet).archive
        restore(load_settings(home=tmp_path / "new"), archive, say=quiet)
        assert history(tmp_path / "new").keys() == history(made.home).keys()

    def test_the_same_home_makes_the_same_archive(self, made: Settings, tmp_path: Path) -> None:
        first, second = (back_up(made, tmp_path / name, created_at=AT, say=quiet) for name in ("a.tar", "b.tar"))
        assert first.archive.read_bytes() == second.archive.read_bytes()

    def test_what_a_killed_backup_left_is_removed(self, tmp_path: Path) -> None:
        settings = bare(tmp_path)
        write(settings.home / "tmp/backup-0/half", "x")
        write(tmp_path / "a.tar.partial", "half")
        back_up(settings, tmp_path / "a.tar", created_at=AT, say=quiet)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "home"]
        assert list((settings.home / "tmp").iterdir()) == []


class TestInUse:
    def test_a_database_that_is_written_to(self, tmp_path: Path) -> None:
        """What was committed is in the copy, also from the log beside the file; what was not is not."""
        settings = bare(tmp_path)
        path = settings.home / "dagster/history/runs.db"
        database(path, "PRAGMA journal_mode = WAL", "CREATE TABLE runs (run_id TEXT, status TEXT)")
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("INSERT INTO runs VALUES ('one', 'SUCCESS')")
            writer.execute("BEGIN")
            writer.execute("INSERT INTO runs VALUES ('two', 'SUCCESS')")
            back_up(settings, tmp_path / "a.tar", created_at=AT, say=quiet)
        restore(load_settings(home=tmp_path / "new"), tmp_path / "a.tar", say=quiet)
        assert cell(tmp_path / "new/dagster/history/runs.db", "SELECT group_concat(run_id) FROM runs") == "one"

    def test_it_waits_for_a_writer(self, home: Settings, tmp_path: Path) -> None:
        publish_tables(home)
        waiting = CONTEXT.Event()
        with table_lock(home, RANGE.name):
            backup = start(back_up_there, home.home, tmp_path / "a.tar", waiting)
            assert waiting.wait(PATIENCE_SECONDS)
            backup.join(1)
            assert backup.is_alive()
        backup.join(PATIENCE_SECONDS)
        assert backup.exitcode == 0
        assert (tmp_path / "a.tar").is_file()

    def test_while_tables_are_published(self, home: Settings, tmp_path: Path) -> None:
        """Each archive is a state that the tables had, whole."""
        publish_tables(home)
        begun, end = CONTEXT.Event(), CONTEXT.Event()
        writer = start(publish_for_ever, home.home, begun, end)
        known = set[int]()
        try:
            assert begun.wait(PATIENCE_SECONDS)
            for number in range(4):
                archive = back_up(home, tmp_path / f"{number}.tar", created_at=AT, say=quiet).archive
                there = tmp_path / f"home-{number}"
                done = restore(load_settings(home=there), archive, say=quiet)
                snapshot = Lake(load_settings(home=there)).snapshot(TABLE)
                things = snapshot.to_arrow(["thing"])["thing"].to_pylist()
                assert len(set(things)) == len(things) == done.tables[TABLE.name].rows
                known.add(snapshot.snapshot_id or 0)
        finally:
            end.set()
            writer.join(PATIENCE_SECONDS)
        assert writer.exitcode == 0
        assert len(known) > 1


def back_up_there(home: Path, archive: Path, waiting: Event) -> None:
    """Backs up; sets `waiting` when it begins to wait for the tables' writers."""

    def say(line: str) -> None:
        if line.startswith("waiting"):
            waiting.set()

    back_up(load_settings(home=home), archive, created_at=AT, say=say)


def publish_for_ever(home: Path, begun: Event, end: Event) -> None:
    """Publishes ever more things; expires all snapshots but the current, and deletes the files of the others."""
    lake, number = Lake(load_settings(home=home)), 0
    while not end.is_set():
        number += 1
        lake.publish(Draft(TABLE, rows(*(f"t{n}" for n in range(number)))))
        begun.set()
        if number % 3:
            continue
        with table_lock(lake.settings, TABLE.name):
            table = lake.snapshot(TABLE).table
            assert table is not None
            current = table.metadata.current_snapshot_id
            old = [s.snapshot_id for s in table.snapshots() if s.snapshot_id != current]
            table.maintenance.expire_snapshots().by_ids(old).commit()
            table.refresh()
            needed = {task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()}
            for path in (home / "warehouse/test/whole/data").rglob("*.parquet"):
                if str(path) not in needed:
                    path.unlink()
