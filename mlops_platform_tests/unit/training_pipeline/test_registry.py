"""`MLflowManager.register_model` and the ways a caller can be wrong. Stages: `test_stages.py`."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mlops_platform.errors import InputError, ModelError, StorageError
from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline.registry import PRODUCTION, STAGING, MLflowManager
from mlops_platform_tests.unit.training_pipeline.versions_at_work import add_versions


def unique(request: pytest.FixtureRequest) -> str:
    """A model name that no other test has."""
    return f"registry_{request.node.originalname}"


@pytest.fixture
def run_id(mlflow: MLflowManager) -> str:
    with mlflow.run("versions", "empty", {}) as made:
        return made


class TestRegisterModel:
    def test_as_documented(self, mlflow: MLflowManager, run_id: str, request: pytest.FixtureRequest) -> None:
        tags = {"model_type": "xgboost", "data_version": "v1.2", "feature_version": "v1.2"}
        name = unique(request)
        found = mlflow.register_model(
            model_uri=f"runs:/{run_id}/model", name=name, tags=tags, description="Customer churn prediction model"
        )
        assert (found.name, found.version, found.run_id, found.stage) == (name, "1", run_id, "None")
        kept = mlflow.client.get_model_version(name, "1")
        assert (kept.tags, kept.description) == (tags, "Customer churn prediction model")
        assert mlflow.version(name, 1) == found

    def test_a_run_has_one_version_and_takes_on_tags(
        self, mlflow: MLflowManager, run_id: str, request: pytest.FixtureRequest
    ) -> None:
        name, uri = unique(request), f"runs:/{run_id}/model"
        mlflow.register_model(uri, name, {"threshold": "0.5", "a": "1"})
        again = mlflow.register_model(uri, name, {"a": "2", "b": "3"})
        assert again.version == "1"
        assert again.tags == {"threshold": "0.5", "a": "2", "b": "3"}
        assert mlflow.versions(name) == [again]

    def test_at_the_same_time_it_has_one_version_too(
        self, mlflow: MLflowManager, run_id: str, request: pytest.FixtureRequest
    ) -> None:
        name, found, barrier = unique(request), [], threading.Barrier(4)

        def register() -> None:
            barrier.wait()
            found.append(mlflow.register_model(f"runs:/{run_id}/model", name).version)

        threads = [threading.Thread(target=register) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == ["1"] * 4
        assert len(mlflow.versions(name)) == 1

    @pytest.mark.parametrize("uri", ["runs:/0123456789abcdef0123456789abcdef/model", "runs:/no run/model", "model.pkl"])
    def test_of_no_run_nothing_is_registered(
        self, mlflow: MLflowManager, uri: str, request: pytest.FixtureRequest
    ) -> None:
        with pytest.raises(InputError, match=r"runs:/RUN_ID/model"):
            mlflow.register_model(uri, unique(request))
        assert not mlflow.client.search_registered_models(filter_string=f"name = '{unique(request)}'")

    @pytest.mark.parametrize("name", ["", "a/b", "../../outside", "a:b"])
    def test_a_name_that_can_be_none(self, mlflow: MLflowManager, run_id: str, name: str) -> None:
        with pytest.raises(InputError, match="can't be registered"):
            mlflow.register_model(f"runs:/{run_id}/model", name)


class TestMistakes:
    def test_no_such_model(self, mlflow: MLflowManager, request: pytest.FixtureRequest) -> None:
        add_versions(mlflow, unique(request), 1)
        for name in ("no_such_model", "it's", "../../outside", ""):
            with pytest.raises(InputError, match=r"there is no model .*Expected: one of .*"):
                mlflow.transition_model_stage(name, "1", PRODUCTION)

    @pytest.mark.parametrize("version", ["9", "latest", "", "-1", 2, "1.0"])
    def test_no_such_version(self, mlflow: MLflowManager, version: str, request: pytest.FixtureRequest) -> None:
        name = unique(request)
        if not mlflow.versions(name):
            add_versions(mlflow, name, 1)
        with pytest.raises(InputError, match=rf"has no version {version}\. Expected: one of 1\."):
            mlflow.transition_model_stage(name, version, PRODUCTION)

    @pytest.mark.parametrize("stage", ["Prod", "", "Deleted_Internal"])
    def test_no_such_stage(self, mlflow: MLflowManager, stage: str) -> None:
        with pytest.raises(InputError, match=r"one of None, Staging, Production, Archived"):
            mlflow.transition_model_stage("any", "1", stage)

    def test_archiving_the_others_of_a_stage_that_holds_many(self, mlflow: MLflowManager) -> None:
        with pytest.raises(InputError, match="no meaning for the stage Archived"):
            mlflow.transition_model_stage("any", "1", "archived", archive_existing_versions=True)

    def test_nothing_in_production(self, mlflow: MLflowManager, request: pytest.FixtureRequest) -> None:
        (version,) = add_versions(mlflow, unique(request), 1)
        mlflow.transition_model_stage(unique(request), version, STAGING)
        with pytest.raises(ModelError, match=r"no version of .* is in Production.*mlops models history"):
            mlflow.production(unique(request))

    def test_mlflow_down(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        uri = f"sqlite:///{tmp_path}/file/mlflow.db"
        manager = MLflowManager(load_settings(home=tmp_path / "home", mlflow_tracking_uri=uri))
        with pytest.raises(StorageError, match=r"MLflow at .* can't be reached"):
            manager.register_model("runs:/0123456789abcdef0123456789abcdef/model", "m")
