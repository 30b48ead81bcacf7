"""The tests on real Airflow run by `make test-airflow` alone: they need an environment that no other test does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mlops_platform.airflow_pack.generate import make_pack, write_pack
from mlops_platform.definitions import build_definitions
from mlops_platform.settings import load_settings
from mlops_platform_tests.airflow.airflows import Airflow
from mlops_platform_tests.airflow.homes import Prepared, with_model

collect_ignore_glob = [] if os.environ.get("AIRFLOW_PROOFS") == "1" else ["test_*.py"]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with its tables made, to be copied: making them takes longer than many a test."""
    airflow = Airflow(tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("no-dags"))
    airflow.run("db", "migrate")
    return airflow.home


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A small home with a model in Production."""
    return with_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def airflow(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """An Airflow with the committed pack."""
    return made(migrated, tmp_path_factory.mktemp("module"))


def made(migrated: Path, folder: Path, *, runner: str = "bash", sensor: str = "cli") -> Airflow:
    """An Airflow of one's own with a pack generated now."""
    home, dags = folder / "airflow", folder / "dags"
    shutil.copytree(migrated, home)
    (home / "airflow.cfg").unlink(missing_ok=True)
    settings = load_settings(home=folder / "no-home")
    write_pack(make_pack(settings, build_definitions, runner=runner, sensor=sensor), dags)  # type: ignore[arg-type]
    return Airflow(home, dags)
