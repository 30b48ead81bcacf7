"""`mlops doctor` beside a real Airflow: a DAG file it can't import is named, with what writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.orchestration.doctor import examine
from mlops_platform.settings import load_settings
from mlops_platform_tests.airflow.conftest import made


def test_import_errors(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = made(migrated, tmp_path)
    for name, value in airflow.environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(home=tmp_path / "home")
    (found,) = examine(settings, ["Airflow"])
    assert (found.is_ok, found.mend) == (True, "")
    assert "airflow dags list-import-errors" in found.message
    bad = airflow.dags / "bad.py"
    bad.write_text("from airflow.sdk import dag\nimport nothing_of_that_name\n")
    (found,) = examine(settings, ["Airflow"])
    assert not found.is_ok
    assert found.message == f"{bad}: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert found.mend == f"mlops airflow generate --out {airflow.dags}, then: airflow dags reserialize"
