"""A home backed up and restored: every table at every snapshot, every file, and no word of where it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from mlops_platform.errors import InputError
from mlops_platform.home_backup.backup import Backup, back_up
from mlops_platform.home_backup.restore import Restored, restore
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.home_backup.homes import (
    AT,
    KEY,
    TABLES,
    WIDER,
    History,
    cell,
    fill,
    history,
    naming,
    quiet,
)
from mlops_platform_tests.unit.storage.things import FEB, JAN, RANGE, draft

# Plain; and with all that a path is written in several ways for.
NAMES = ["home", "Ana's hôme 😀"]


@dataclass(frozen=True)
class Kept:
    """A home that is gone, and its archive."""

    home: Path
    rows: History
    backup: Backup


@pytest.fixture(scope="module", params=NAMES)
def kept(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    home = folder / "deep" / request.param
    fill(load_settings(home=home))
    rows = history(home)
    backup = back_up(load_settings(home=home), folder / "home.tar", created_at=AT, say=quiet)
    # Whatever still looks for a file there fails from here on.
    shutil.rmtree(home)
    return Kept(home, rows, backup)


@pytest.fixture(scope="module", params=NAMES)
def restored(kept: Kept, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Restored:
    """Restored once to each place; tests only look."""
    home = tmp_path_factory.mktemp("other") / "place" / request.param
    return restore(load_settings(home=home), kept.backup.archive, say=quiet)


def put(kept: Kept, home: Path) -> Lake:
    """Restores to a place of the test's own, to be changed."""
    restore(load_settings(home=home), kept.backup.archive, say=quiet)
    return Lake(load_settings(home=home))


class TestWhatIsThere:
    def test_every_table_at_every_snapshot(self, kept: Kept, restored: Restored) -> None:
        found = history(restored.home)
        assert found.keys() == kept.rows.keys()
        for name, snapshots in kept.rows.items():
            assert len(snapshots) >= 3
            assert found[name].keys() == snapshots.keys()
            for snapshot_id, rows in snapshots.items():
                assert found[name][snapshot_id].equals(rows)

    def test_no_file_names_the_old_place(self, kept: Kept, restored: Restored) -> None:
        # The CRM is data: what its customers' names say is theirs.
        assert naming(restored.home, str(kept.home)) == {"crm.db"}
        assert restored.left == ()

    def test_the_new_place_is_named_instead(self, restored: Restored) -> None:
        home, uri = str(restored.home), restored.home.as_uri()
        index = restored.home / "dagster/history/runs/index.db"
        event = json.loads(str(cell(index, "SELECT event FROM event_logs")))
        assert event["path"] == f"{home}/reports/r.html"
        assert json.loads(event["inner"])["text"] == f"é\n{home}/reports"
        located = str(cell(restored.home / "mlflow.db", "SELECT artifact_location FROM experiments"))
        assert located in {f"{uri}/mlflow-artifacts/e", f"file://{home}/mlflow-artifacts/e"}
        assert json.loads((restored.home / "references/ml/model/latest.json").read_text())["é"] == home
        assert load_settings(home=restored.home).crm_url == f"sqlite:///{home}/crm.db"

    def test_what_only_looks_alike_stays(self, kept: Kept, restored: Restored) -> None:
        log = (restored.home / "dagster/storage/r/compute_logs/a.err").read_text()
        assert log == f"\x1b[34m{restored.home}\x1b[0m and {kept.home}2/other\n"
        assert cell(restored.home / "mlflow.db", "SELECT name || twice FROM runs") == "no path6"
        assert cell(restored.home / "crm.db", "SELECT name FROM customers") == f"lives in {kept.home}"

    def test_scratch_is_left_out_and_state_is_not(self, restored: Restored) -> None:
        home = restored.home
        assert {path.name for path in home.iterdir()} - {"locks"} == {
            "catalog.db", "crm.db", "dagster", "hmac.key", "mlflow-artifacts", "mlflow.db", "mlops.toml",
            "prediction-log", "references", "reports", "warehouse",
        }  # fmt: skip
        assert not (home / "references/ml/x.1.tmp").exists()
        assert (home / "warehouse/ml/export.parquet").read_text() == "a user's own file"

    def test_the_key_stays_secret(self, kept: Kept, restored: Restored) -> None:
        key = restored.home / "hmac.key"
        assert key.read_bytes() == KEY
        assert key.stat().st_mode & 0o777 == 0o600
        assert kept.backup.archive.stat().st_mode & 0o777 == 0o600

    def test_a_line_that_was_being_written_is_left_out(self, restored: Restored) -> None:
        assert (restored.home / "prediction-log/predictions-1.jsonl").read_text() == '{"prediction_id": 1}\n'

    def test_journal_modes_stay(self, restored: Restored) -> None:
        assert cell(restored.home / "dagster/history/runs/index.db", "PRAGMA journal_mode") == "wal"
        assert cell(restored.home / "mlflow.db", "PRAGMA journal_mode") == "delete"

    def test_the_result_tells_what_there_is(self, kept: Kept, restored: Restored) -> None:
        assert (restored.was, restored.created_at) == (kept.home, AT)
        assert restored.tables == kept.backup.tables
        rows = {name: state.rows for name, state in restored.tables.items()}
        assert rows == {name: snapshots[0].num_rows for name, snapshots in kept.rows.items()}

    def test_unfinished_runs_are_told(self, kept: Kept) -> None:
        assert len(kept.backup.notes) == 1
        assert "run two" in kept.backup.notes[0]


class TestItIsAHome:
    def test_publishing_goes_on(self, kept: Kept, tmp_path: Path) -> None:
        lake = put(kept, tmp_path / "home")
        assert not lake.publish(draft("a", "e", day=JAN, size=2.5)).is_new
        assert lake.publish(draft("h", day=FEB)).is_new
        found = lake.snapshot(RANGE).to_arrow(["thing"])["thing"].to_pylist()
        assert sorted(found) == ["a", "e", "h"]
        assert history(tmp_path / "home")[WIDER.name].keys() > kept.rows[WIDER.name].keys()

    def test_snapshots_expire(self, kept: Kept, tmp_path: Path) -> None:
        lake = put(kept, tmp_path / "home")
        table = lake.snapshot(WIDER).table
        assert table is not None
        old = [s.snapshot_id for s in table.snapshots() if s.snapshot_id != table.metadata.current_snapshot_id]
        table.maintenance.expire_snapshots().by_ids(old).commit()
        rows = Lake(lake.settings).snapshot(WIDER)
        assert rows.to_arrow(order_by=["thing", "day", "price", "size"]).equals(kept.rows[WIDER.name][0])

    def test_it_moves_on(self, kept: Kept, tmp_path: Path) -> None:
        first, second = tmp_path / "one", tmp_path / "and" / "two"
        put(kept, first)
        again = back_up(load_settings(home=first), tmp_path / "again.tar.gz", created_at=AT, say=quiet)
        shutil.rmtree(first)
        restore(load_settings(home=second), again.archive, say=quiet)
        assert history(second)[WIDER.name].keys() == kept.rows[WIDER.name].keys()
        assert not naming(second, str(first))

    def test_back_where_it_was(self, kept: Kept) -> None:
        put(kept, kept.home)
        try:
            assert history(kept.home)[WIDER.name][0].equals(kept.rows[WIDER.name][0])
        finally:
            shutil.rmtree(kept.home)

    def test_a_home_moved_by_hand_can_be_moved_on(self, kept: Kept, tmp_path: Path) -> None:
        put(kept, tmp_path / "made")
        (tmp_path / "made").rename(tmp_path / "moved")
        archive = tmp_path / "moved.tar"
        back_up(load_settings(home=tmp_path / "moved"), archive, created_at=AT + timedelta(1), say=quiet)
        shutil.rmtree(tmp_path / "moved")
        restore(load_settings(home=tmp_path / "right"), archive, say=quiet)
        found = history(tmp_path / "right")
        assert all(found[c.name][0].equals(kept.rows[c.name][0]) for c in TABLES)
        assert naming(tmp_path / "right", str(tmp_path / "made")) == set()


class TestWhereItMayGo:
    def test_an_empty_folder_will_do(self, kept: Kept, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        put(kept, tmp_path / "home")
        assert [path.name for path in tmp_path.iterdir()] == ["home"]

    def test_through_a_symbolic_link(self, kept: Kept, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "home").symlink_to(tmp_path / "disk")
        put(kept, tmp_path / "home")
        assert (tmp_path / "disk" / "catalog.db").is_file()
        assert history(tmp_path / "home")[WIDER.name][0].equals(kept.rows[WIDER.name][0])

    @pytest.mark.parametrize("name", ["home.txt", "folder"])
    def test_nothing_is_written_over(self, kept: Kept, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/mine").write_text("mine")
        (tmp_path / "home.txt").write_text("mine")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError, match=r"Expected: a folder that does not exist yet, or is empty.*--home DIR"):
            restore(load_settings(home=tmp_path / name), kept.backup.archive, say=quiet)
        assert sorted(tmp_path.rglob("*")) == before

    def test_not_a_path_that_breaks_json(self, kept: Kept, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="can't be a home"):
            restore(load_settings(home=tmp_path / 'a "home"'), kept.backup.archive, say=quiet)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["Ana's hôme 😀"])
def test_the_forms_of_a_path_differ(tmp_path: Path, home: str) -> None:
    """Else the odd name would prove nothing."""
    forms = {str(tmp_path / home), json.dumps(str(tmp_path / home))[1:-1], quote(str(tmp_path / home))}
    assert len(forms) == 3
