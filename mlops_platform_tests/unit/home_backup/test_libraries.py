"""MLflow and Dagster themselves find what is theirs in a restored home."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.home_backup.backup import back_up
from mlops_platform.home_backup.restore import restore
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.settings import Settings, load_settings
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager
from mlops_platform_tests.unit.home_backup.homes import AT, naming, quiet, write


def use_mlflow(settings: Settings) -> str:
    """A run with a model file, in Production."""
    manager = MLflowManager(settings)
    write(settings.home / "tmp/model/MLmodel", "flavors: {}")
    with manager.run("production_training", "first", {}) as run_id:
        manager.client.log_artifacts(run_id, str(settings.home / "tmp/model"), "model")
        manager.log_metrics(run_id, {"roc_auc": 0.8})
    version = manager.register_model(f"runs:/{run_id}/model", "churn")
    manager.transition_model_stage("churn", version.version, PRODUCTION)
    return run_id


def use_dagster(settings: Settings) -> None:
    """A run whose asset reports a file of the home."""

    @dg.asset
    def report() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"report": dg.MetadataValue.path(str(settings.reports / "r.html"))})

    with open_instance(settings) as instance:
        assert dg.materialize([report], instance=instance).success


@pytest.mark.parametrize("name", ["new", "Ana's new hôme"])
def test_in_a_new_place(home: Settings, tmp_path: Path, name: str) -> None:
    run_id = use_mlflow(home)
    use_dagster(home)
    archive = back_up(home, tmp_path / "a.tar.gz", created_at=AT, say=quiet).archive
    shutil.rmtree(home.home)
    there = load_settings(home=tmp_path / name)
    restore(there, archive, say=quiet)
    assert naming(there.home, str(home.home)) == set()

    manager = MLflowManager(there)
    found = manager.production("churn")
    assert found.run_id == run_id
    assert Path(manager.client.download_artifacts(run_id, "model/MLmodel")).read_text() == "flavors: {}"
    assert manager.client.get_run(run_id).data.metrics == {"roc_auc": 0.8}
    again = use_mlflow(there)
    assert (there.mlflow_artifacts / "production_training" / again / "artifacts/model/MLmodel").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [name]

    with open_instance(there) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("report"))
        assert event is not None
        materialization = event.asset_materialization
        assert materialization is not None
        assert materialization.metadata["report"].value == str(there.reports / "r.html")
    use_dagster(there)
