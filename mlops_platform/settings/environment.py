"""The environment of other tools and of child processes: what they must be told to work on the same home.

Does not belong here: reading settings from the environment (`loading.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_platform.settings.drivers import with_driver

if TYPE_CHECKING:
    from mlops_platform.settings.declaration import Settings


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """This process's environment with the home's settings added, for a child process or `mlops env`."""
    return {**os.environ, **exports(settings), **extra}


def exports(settings: Settings) -> dict[str, str]:
    """Variables that point other tools (mlflow, dagster, bentoml) at this home."""
    found = {
        "MLOPS_HOME": str(settings.home),
        "MLOPS_TIMEZONE": settings.timezone,
        "DAGSTER_HOME": str(settings.dagster_home),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        # It takes no other value of DO_NOT_TRACK than true.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ORT_DISABLE_TELEMETRY": "1",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        # An MLflow server's client would print the run's address into `mlops demo --json`.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        # Threads that wait spin otherwise: a fit with two threads beside two busy processes took 12.8 s and not 1.9 s.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        # BentoML keeps a service's metrics there: two homes must not share them.
        "BENTOML_HOME": str(settings.home / "bentoml"),
    }
    return found | _of_the_home(settings)


def apply_exports(settings: Settings) -> None:
    """Sets in this process what libraries read from the environment themselves; another home may have another CRM."""
    os.environ.update({key: value for key, value in exports(settings).items() if key not in _of_the_home(settings)})


def _of_the_home(settings: Settings) -> dict[str, str]:
    """Settings that another process of the home must have from us, whether they came from a file or an argument."""
    mlflow = settings.mlflow_backend_store_uri
    found = {
        "MLOPS_PROFILE": settings.profile,
        "MLOPS_SECRETS_DIR": str(settings.secrets_dir or ""),
        "MLOPS_CRM_URL": settings.crm_url,
        "MLOPS_CATALOG_URL": settings.catalog_url,
        "MLOPS_WAREHOUSE_URL": settings.warehouse_url,
        # Dagster and MLflow hand these two to SQLAlchemy as they are.
        "MLOPS_DAGSTER_STORAGE_URL": with_driver(settings.dagster_storage_url or ""),
        "MLOPS_FEATURES_MODULE": settings.features_module,
        "MLFLOW_BACKEND_STORE_URI": with_driver(mlflow.get_secret_value() if mlflow else ""),
    }
    return {name: value for name, value in found.items() if value}


@contextmanager
def variable_kept(name: str, value: str | None = None) -> Iterator[None]:
    """An environment variable is afterwards what it was before, whatever a library sets it to.

    Args:
        name: The variable.
        value: What it is meanwhile; None: what it was.
    """
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
