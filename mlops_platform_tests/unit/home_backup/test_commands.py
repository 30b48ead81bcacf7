"""`mlops backup`, `mlops restore`, and what `mlops doctor` says of a home that was moved by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlops_platform.orchestration.doctor import Finding, examine
from mlops_platform.settings import load_settings
from mlops_platform_tests.integration.commands import mlops
from mlops_platform_tests.unit.home_backup.homes import fill, history


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fill(load_settings(home=tmp_path / "a home"))
    return tmp_path / "a home"


def test_there_and_elsewhere(home: Path, tmp_path: Path) -> None:
    archive, new = tmp_path / "a.tar.gz", tmp_path / "new"
    done = mlops("backup", archive, "--home", home)
    assert done.code == 0, done
    assert "copying test.by_range" in done.err
    for words in ("test.by_range", "4", "run two was not finished", f"mlops restore {archive} --home NEW_HOME"):
        assert words in done.out
    rows = history(home)
    shutil.rmtree(home)
    done = mlops("restore", archive, "--home", new)
    assert done.code == 0, done
    assert "checking test.by_range" in done.err
    for words in ("test.by_range", f"{new}: the home {home} as of", f"mlops doctor --home {new}"):
        assert words in done.out
    assert history(new).keys() == rows.keys()
    assert mlops("restore", archive, "--home", new).is_refusal("is not empty", "--home DIR")


def test_mistakes_are_one_message(home: Path, tmp_path: Path) -> None:
    assert mlops("backup", tmp_path / "a.zip", "--home", home).is_refusal("a.zip", "Expected: ", ".tar.gz")
    assert mlops("restore", tmp_path / "a.tar", "--home", tmp_path / "b").is_refusal("there is no archive")
    assert not (tmp_path / "b").exists()


def look(home: Path) -> dict[str, Finding]:
    """What doctor finds of the home and its tables; the rest needs a real MLflow and Dagster."""
    settings = load_settings(home=home)
    return {finding.subject: finding for finding in examine(settings, ("home", "tables"))}


class TestDoctor:
    def test_at_home(self, home: Path) -> None:
        assert look(home)["home"].is_ok

    def test_through_another_name(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(home)
        assert look(tmp_path / "link")["home"].is_ok

    @pytest.mark.parametrize("is_copy", [False, True])
    def test_moved_by_hand(self, home: Path, tmp_path: Path, is_copy: bool) -> None:
        moved = tmp_path / "moved"
        if is_copy:
            shutil.copytree(home, moved)
        else:
            home.rename(moved)
        found = look(moved)
        assert not found["home"].is_ok
        assert found["home"].message.startswith(f"home was moved: made at {home}, now at {moved}")
        assert "mlops backup" in found["home"].mend
        assert "mlops restore" in found["home"].mend
        assert not found["tables"].is_ok
        assert found["tables"].message == "not looked at: the home was moved"
