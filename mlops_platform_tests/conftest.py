"""Fixtures of every test: a clean environment, a home of one's own, and its tables.

Does not belong here: data and contracts of particular tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_platform.settings import ENV_PREFIX, Settings, load_settings
from mlops_platform.storage.lake import Lake


def pytest_configure(config: pytest.Config) -> None:
    # As the platform's own processes have it; OpenMP reads it when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Ibis 12 still calls DuckDB by the name that DuckDB 2 deprecates: https://github.com/ibis-project/ibis.
    config.addinivalue_line("filterwarnings", r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning:ibis")


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No setting of the person who runs the tests reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.upper().startswith(ENV_PREFIX) or name.upper() == "MLFLOW_TRACKING_URI":
                patch.delenv(name)
        yield


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings of an empty home."""
    return load_settings(home=tmp_path / "home")


@pytest.fixture
def lake(home: Settings) -> Lake:
    """The tables of an empty home."""
    return Lake(home)
