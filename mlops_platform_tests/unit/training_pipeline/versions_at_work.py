"""Registered versions without a model behind them, and processes that change their stages. Not here: assertions."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import PROMOTIONS
from mlops_platform.errors import ModelError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager
from mlops_platform.training_pipeline.stages import promote, rollback
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG

if TYPE_CHECKING:
    import threading
    from multiprocessing.connection import Connection

    from mlops_platform.training_pipeline.history import Row

AT = datetime(2024, 7, 1, 2, tzinfo=UTC)
SERVABLE = {THRESHOLD_TAG: "0.5", TRAINING_SNAPSHOT_TAG: "1"}


def later(hours: int) -> datetime:
    """So many hours after `AT`."""
    return AT + timedelta(hours=hours)


def add_versions(manager: MLflowManager, name: str, number: int = 3, **tags: str) -> list[str]:
    """Registers versions that could serve, each of a run of its own."""
    found = []
    for _ in range(number):
        with manager.run("versions", "empty", {}) as run_id:
            pass
        found.append(manager.register_model(f"runs:/{run_id}/model", name, SERVABLE | tags).version)
    return found


def decisions(lake: Lake, name: str) -> list[dict[str, Any]]:
    """A model's rows of ml.promotions, by number of the change."""
    rows = lake.snapshot(PROMOTIONS).to_arrow(order_by=["change_number", "decided_at"]).to_pylist()
    return [row for row in rows if row["model_name"] == name]


def change_often(answer: Connection, home: Path, name: str, writer: int, changes: int) -> None:
    """Changes the Production version so many times, by promotions and rollbacks; sends the ids of its decisions."""
    settings = load_settings(home=home)
    manager, lake = MLflowManager(settings), Lake(settings)
    made: list[str] = []
    number = writer
    while len(made) < changes:
        number += 1
        # Refused while no version was in Production before.
        with suppress(ModelError):
            row: Row | None
            if number % 3 == 0:
                row = rollback(manager, lake, name, at=later(number))
            else:
                row = promote(manager, lake, name, number % 4 + 1, at=later(number))
            made += [row["decision_id"]] if row is not None else []
    answer.send(made)


def look(manager: MLflowManager, name: str, stop: threading.Event, seen: Counter[str]) -> None:
    """Looks at the Production version until told to stop, in every way a reader has; counts what it found."""
    # Readers without a pause leave a SQLite database hardly a moment to be written in.
    while not stop.wait(0.02):
        seen[f"served {manager.production(name).version}"] += 1
        staged = [version for version in manager.versions(name) if version.stage == PRODUCTION]
        seen[f"{len(staged)} in Production"] += 1
        seen[f"alias {manager.client.get_model_version_by_alias(name, PRODUCTION.lower()).version}"] += 1
