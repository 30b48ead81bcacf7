"""A demo's home, moved by backup and restore: the platform goes on there as if nothing had been.

Does not belong here: what an archive holds and refuses (`unit/home_backup`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform_tests.integration.commands import mlops
from mlops_platform_tests.scale import only_whole
from mlops_platform_tests.unit.home_backup.homes import naming

SEED = ("--customers", 150, "--days", 190, "--until", "2024-06-30", "--seed", 3)
SETTINGS = {"MLOPS_HORIZON_DAYS": "30"}


def demo(home: Path, *more: str) -> dict[str, Any]:
    """Runs the demo; its result."""
    done = mlops("demo", "--home", home, "--json", *more, **SETTINGS)
    assert done.code == 0, done
    found: dict[str, Any] = json.loads((home / "demo.json").read_text())
    return found


def snapshots(result: dict[str, Any]) -> dict[str, object]:
    return {stage["asset"]: stage["snapshot_id"] for stage in result["stages"]}


@only_whole
def test_a_demo_goes_on_in_another_place(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "the new place"
    old.mkdir()
    shop = f"sqlite:///{old / 'shop.db'}"
    assert mlops("crm", "seed", "--into", shop, *SEED).code == 0
    first = demo(old, "--crm", shop)
    assert mlops("backup", tmp_path / "home.tar", "--home", old).code == 0
    shutil.rmtree(old)
    assert mlops("restore", tmp_path / "home.tar", "--home", new).code == 0
    assert naming(new, str(old)) == set()

    settings = load_settings(home=new)
    manager = MLflowManager(settings)
    for version in manager.client.search_model_versions(f"name = '{settings.model_name}'"):
        assert manager.load_model(version.run_id) is not None
    # The same data in the same home: every table keeps its snapshot, and the model is known.
    assert settings.crm_url == f"sqlite:///{new / 'shop.db'}"
    assert "150" in mlops("query", "SELECT count(*) AS n FROM silver.customers", "--home", new).out
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [new.name]
    # In a process of its own: MLflow remembers for a process where a run's files are.
    command = [sys.executable, "-m", "mlops_platform.cli", "demo", "--home", str(new), "--crm", settings.crm_url]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | SETTINGS)
    second: dict[str, Any] = json.loads((new / "demo.json").read_text())
    assert snapshots(second) == snapshots(first)
