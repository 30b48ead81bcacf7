"""`mlops features list` and `record`, as a person types them. Does not belong here: what a record holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.contracts.feature_record import STANDARD_RECORD
from mlops_platform_tests.integration.commands import mlops, working_in
from mlops_platform_tests.unit.own_features import FORTNIGHT, IMPORTS, LAST_HOUR, write_module

MLOPS = str(Path(sys.executable).with_name("mlops"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of one feature."""
    (tmp_path / "my_features.py").write_text(f"{IMPORTS}FEATURES = [{FORTNIGHT}]\n")
    return tmp_path


def run(folder: Path, *arguments: str, module: str = "my_features") -> subprocess.CompletedProcess[str]:
    """The installed command, whose own folder is all that Python would look in."""
    environment = {**os.environ, "MLOPS_FEATURES_MODULE": module, "MLOPS_HOME": str(folder / "home"), "COLUMNS": "120"}
    command = [MLOPS, "features", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_module_in_the_working_directory_is_found(folder: Path) -> None:
    done = run(folder, "list")
    assert done.returncode == 0, done.stderr
    assert "32 features, version v1.0+u0" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "total_transactions_14d" in line]
    assert line.split() == ["total_transactions_14d", "int", "purchases", "14", "days", "Purchases", "in", "14", "days"]
    (line,) = [line for line in done.stdout.splitlines() if "preferred_category" in line]
    assert line.split()[:5] == ["preferred_category", "string", "–", "90", "days"]
    assert next(line for line in done.stdout.splitlines() if "tenure_days" in line).split()[3] == "all"
    assert not (folder / "home").exists()


def test_a_module_that_is_nowhere_ends_in_one_message(folder: Path) -> None:
    done = run(folder, "list", module="their_features")
    assert done.returncode == 2
    assert done.stderr.startswith("mlops: MLOPS_FEATURES_MODULE names the module their_features, which can't be found.")
    assert str(folder) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["my_features.py", "./my_features.py", "folder/my_features"])
def test_a_file_in_place_of_a_module_is_refused(file: str) -> None:
    done = mlops("features", "list", MLOPS_FEATURES_MODULE=file)
    assert done.is_refusal("MLOPS_FEATURES_MODULE", "must be a module's name")


class TestRecord:
    def mlops(self, folder: Path, module: str, *arguments: str) -> str:
        with working_in(folder):
            done = mlops("features", "record", *arguments, MLOPS_FEATURES_MODULE=module, MLOPS_HOME=str(folder / "h"))
        assert done.code == 0, done
        return done.out + done.err

    def test_what_changed_what_it_is_now_and_what_to_do_next(self, tmp_path: Path) -> None:
        standard = STANDARD_RECORD.read_bytes()
        module = write_module(tmp_path, FORTNIGHT)
        said = self.mlops(tmp_path, module)
        assert f"standard features: {STANDARD.version}, nothing to record" in said
        assert "features of your own: u0 → u1, added total_transactions_14d" in said
        assert "mlops features backfill --from DAY --to DAY" in said
        assert "make docs" not in said

        write_module(tmp_path, FORTNIGHT.replace("14)", "15)"), LAST_HOUR, name=module)
        said = self.mlops(tmp_path, module)
        assert "u1 → u2, added usual_hour; changed total_transactions_14d" in said

        said = self.mlops(tmp_path, module)
        assert "features of your own: u2, nothing to record" in said
        assert "Next" not in said
        assert json.loads((tmp_path / f"{module}.features.json").read_text())["version"] == "u2"
        assert STANDARD_RECORD.read_bytes() == standard

    def test_the_version_stays_when_the_meaning_does(self, tmp_path: Path) -> None:
        module = write_module(tmp_path, FORTNIGHT)
        self.mlops(tmp_path, module)
        write_module(tmp_path, FORTNIGHT.replace("le=5_000", "le=6_000"), name=module)
        assert "features of your own: u1, changed total_transactions_14d" in self.mlops(
            tmp_path, module, "--keep-version"
        )
