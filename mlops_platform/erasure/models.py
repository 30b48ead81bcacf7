"""Models whose training rows an erasure changed: marked as not rebuildable, and their drift reference kept going.

The training set that a model names may have a successor, the same rows but for the erased customers': the model then
names that one. Does not belong here: MLflow's own storage of artifacts (`files.py`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import STANDARD
from mlops_platform.erasure.tables import successors
from mlops_platform.training_pipeline.rebuild import NOT_REBUILDABLE_TAG
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.train import TRAINING_SNAPSHOT_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from mlflow import MlflowClient

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake

_PAGE = 1_000


def mark_models(lake: Lake, *, now: datetime) -> int:
    """Tags every run and model version whose training rows are gone; returns how many were not tagged before.

    Maintenance keeps all training sets, so that only an erasure can have taken one.

    Raises:
        StorageError: MLflow can't be reached.
    """
    if not _has_mlflow(lake.settings):
        return 0
    table = lake.snapshot(STANDARD.training_set).table
    held = {str(snapshot.snapshot_id) for snapshot in table.snapshots()} if table is not None else set()
    follow = successors(lake)
    words = f"a customer was erased on {now.astimezone(lake.settings.zone).date()}"
    client = MLflowManager(lake.settings).client
    marked = 0
    for tags, tag in (*_runs(client), *_versions(client)):
        named = tags.get(TRAINING_SNAPSHOT_TAG)
        if named is None or named in held:
            continue
        if NOT_REBUILDABLE_TAG not in tags:
            tag(NOT_REBUILDABLE_TAG, words)
            marked += 1
        if named in follow:
            tag(TRAINING_SNAPSHOT_TAG, follow[named])
    return marked


def _has_mlflow(settings: Settings) -> bool:
    # Asking a database that is not there would make one.
    return settings.mlflow_tracking_uri is not None or (settings.home / "mlflow.db").exists()


def _runs(client: MlflowClient) -> Iterator[tuple[dict[str, str], Callable[[str, str], Any]]]:
    """Tags of every run, and how to set one."""
    experiments = [str(found.experiment_id) for found in client.search_experiments()]
    token = None
    while True:
        page = client.search_runs(experiments, max_results=_PAGE, page_token=token)
        for run in page:
            yield dict(run.data.tags), partial(client.set_tag, str(run.info.run_id))
        token = page.token
        if not token:
            return


def _versions(client: MlflowClient) -> Iterator[tuple[dict[str, str], Callable[[str, str], Any]]]:
    """Tags of every model version, and how to set one."""
    token = None
    while True:
        page = client.search_model_versions(max_results=_PAGE, page_token=token)
        for version in page:
            tag = partial(client.set_model_version_tag, str(version.name), str(version.version))
            yield dict(version.tags or {}), tag
        token = page.token
        if not token:
            return
