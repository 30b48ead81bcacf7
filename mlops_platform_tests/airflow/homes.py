"""Homes for the DAGs to work on: a CRM ingested, features computed, and no model yet, or a small one.

Does not belong here: Airflow (`airflows.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.data_pipeline.crm_load import seed
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.orchestration.jobs import INGEST, TRAINING
from mlops_platform.orchestration.runner import Runner
from mlops_platform.settings import Settings, load_settings, pin
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.labels import labelled_dates
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.stages import promote

UNTIL = date(2025, 3, 31)
# What the schedules of training and inference stand for on the day after.
NIGHT = datetime.combine(UNTIL + timedelta(days=1), time(2), tzinfo=UTC)
MORNING = datetime.combine(UNTIL + timedelta(days=1), time(6), tzinfo=UTC)
FEATURES = dg.AssetKey(["feature_store", "customer_features"])


@dataclass(frozen=True)
class Prepared:
    """A home as last night's ingestion left it.

    Args:
        settings: Of the home.
    """

    settings: Settings

    @property
    def lake(self) -> Lake:
        """Its tables."""
        return Lake(self.settings)

    def task_runs(self, dag: str, run_id: str) -> dict[str, list[dg.DagsterRun]]:
        """The Dagster runs of a DAG run, by task, the newest first."""
        found: dict[str, list[dg.DagsterRun]] = {}
        with open_instance(self.settings) as instance:
            tags = {"airflow/dag_id": dag, "airflow/run_id": run_id}
            for run in instance.get_runs(dg.RunsFilter(tags=tags)):
                found.setdefault(run.tags["airflow/task_id"], []).append(run)
        return found

    def made(self, asset: str) -> dict[str, Any]:
        """Metadata of an asset's last materialization."""
        with open_instance(self.settings) as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def prepare(folder: Path, *, customers: int, days: int, generator: int) -> Prepared:
    """Seeds a CRM, and prepares a home of it."""
    url = f"sqlite:///{folder / 'crm.db'}"
    seed(url, customers=customers, days=days, seed=generator, until=UNTIL)
    return ingested(folder, url, UNTIL - timedelta(days=days - 1), UNTIL)


def ingested(folder: Path, url: str, start: date, until: date) -> Prepared:
    """Ingests a CRM, and computes the features that a training as of its last day needs."""
    settings = pin(load_settings(home=folder / "home"), history_start=start, crm_url=url)
    with running(settings, until) as runner:
        runner.run(INGEST, until.isoformat())
        for day in sorted({*labelled_dates(until, start, settings.horizon_days).all} - {until}):
            runner.run(INGEST, day.isoformat(), only=[FEATURES])
    return Prepared(settings)


def with_model(folder: Path) -> Prepared:
    """A small home whose model the gate refuses and a person put into Production all the same."""
    prepared = prepare(folder, customers=400, days=245, generator=11)
    with running(prepared.settings) as runner:
        runner.run(TRAINING, UNTIL.isoformat())
    manager = MLflowManager(prepared.settings)
    promote(manager, prepared.lake, prepared.settings.model_name, "1", at=NIGHT, reason="for the tests")
    return prepared


@contextmanager
def running(settings: Settings, until: date = UNTIL) -> Iterator[Runner]:
    """Runs jobs of the home in this process, as of its last day."""
    from mlops_platform.definitions import build_definitions

    with open_instance(settings) as instance:
        definitions = build_definitions(settings.model_copy(update={"as_of": until}))
        yield Runner(definitions, instance, lambda line: None)
