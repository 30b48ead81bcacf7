"""Training with a real MLflow: one run an identity, failures that leave a mark, and files that can't run code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import InputError, ModelError
from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.training_pipeline import train as train_module
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.evaluation import best_threshold
from mlops_platform.training_pipeline.models import TRUSTED_TYPES, make_model
from mlops_platform.training_pipeline.registry import IDENTITY_TAG, MODEL_FILE, MODEL_PATH, MLflowManager
from mlops_platform.training_pipeline.serving_form import SERVING_PATH
from mlops_platform.training_pipeline.serving_form import load as load_form
from mlops_platform.training_pipeline.train import (
    MODEL_HASH_TAG,
    THRESHOLD_TAG,
    TRAINING_SNAPSHOT_TAG,
    TrainedModel,
    train,
)
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

SMALL = {"n_estimators": 8, "min_child_weight": 1}


class Untrusted(BaseEstimator):  # type: ignore[misc]
    """A type no saved model of ours may hold."""


@pytest.fixture(scope="module")
def trained(shop: Shop, mlflow: MLflowManager) -> TrainedModel:
    return train(shop.settings, mlflow, shop.training, hyperparameters=SMALL, tags={"who": "me"})


@pytest.fixture(scope="module")
def saved(mlflow: MLflowManager, trained: TrainedModel) -> Path:
    """The saved model's folder."""
    return Path(mlflow.client.download_artifacts(trained.run_id, MODEL_PATH))


@pytest.fixture
def load(mlflow: MLflowManager, shop: Shop, tmp_path: Path) -> Callable[[bytes], Any]:
    """Loads a model file's bytes as the model of a run of its own."""

    def from_bytes(content: bytes) -> Any:
        with mlflow.run(shop.settings.experiment_name, "given", {}) as run_id:
            path = tmp_path / MODEL_FILE
            path.write_bytes(content)
            mlflow.client.log_artifact(run_id, str(path), MODEL_PATH)
        return mlflow.load_model(run_id)

    return from_bytes


def runs(mlflow: MLflowManager, shop: Shop) -> list[Any]:
    return list(mlflow.client.search_runs([mlflow.experiment_id(shop.settings.experiment_name)]))


class TestIdentity:
    def test_the_same_again_is_the_same_run(self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel) -> None:
        before = len(runs(mlflow, shop))
        again = train(shop.settings, mlflow, shop.training, hyperparameters=SMALL)
        assert trained.is_new
        assert not again.is_new
        assert {f: getattr(again, f) for f in again.__slots__ if f != "is_new"} == {
            f: getattr(trained, f) for f in trained.__slots__ if f != "is_new"
        }
        assert len(runs(mlflow, shop)) == before

    def test_a_default_spelled_out_is_the_same_model(
        self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel
    ) -> None:
        again = train(shop.settings, mlflow, shop.training, hyperparameters={**SMALL, "max_depth": 3})
        assert again.run_id == trained.run_id

    def test_other_parameters_are_another_run(self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel) -> None:
        other = train(shop.settings, mlflow, shop.training, hyperparameters={**SMALL, "max_depth": 2})
        assert other.is_new
        assert other.run_id != trained.run_id
        assert other.identity != trained.identity

    @pytest.mark.parametrize("changed", ["data_digest", "code_digest"])
    def test_other_rows_or_code_are_another_identity(
        self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch, changed: str
    ) -> None:
        monkeypatch.setattr(train_module, changed, lambda *_: "other")
        monkeypatch.setattr(train_module, "_fit", lambda *_: 0.5)
        assert train(shop.settings, mlflow, shop.training, hyperparameters=SMALL).identity != trained.identity


class TestRun:
    def test_it_says_what_was_trained_on_what(self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel) -> None:
        run = mlflow.client.get_run(trained.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags[IDENTITY_TAG] == trained.identity
        assert (
            run.data.tags[TRAINING_SNAPSHOT_TAG] == str(shop.training.snapshot_id) == str(trained.training_snapshot_id)
        )
        assert float(run.data.tags[THRESHOLD_TAG]) == trained.threshold
        assert run.data.tags["who"] == "me"
        assert run.data.params["n_estimators"] == "8"
        assert run.data.metrics["train_rows"] == split_rows(shop.training.to_arrow(), "train").num_rows

    def test_the_threshold_is_the_best_of_the_validation_rows(
        self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel
    ) -> None:
        rows = split_rows(shop.training.to_arrow(), "validation")
        probabilities = mlflow.load_model(trained.run_id).predict_proba(rows)[:, 1]
        assert trained.threshold == best_threshold(rows["churned"].to_numpy(), probabilities)

    def test_the_model_is_fitted_on_train_rows_only(
        self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel
    ) -> None:
        rows = split_rows(shop.training.to_arrow(order_by=("feature_date", "customer_id")), "train")
        model = make_model("xgboost", SMALL).fit(rows.select(STANDARD.names), rows["churned"].to_numpy())
        loaded = mlflow.load_model(trained.run_id)
        matrix = loaded["features"].transform(rows)
        assert np.array_equal(model["features"].transform(rows), matrix)
        assert np.array_equal(model.predict_proba(rows), loaded["classifier"].classifier.predict_proba(matrix))

    def test_the_serving_form_beside_it_gives_the_same_bits(
        self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel
    ) -> None:
        rows = shop.training.to_arrow()
        form = load_form(Path(mlflow.client.download_artifacts(trained.run_id, SERVING_PATH)))
        assert np.array_equal(form.churn_probability(rows), mlflow.load_model(trained.run_id).predict_proba(rows)[:, 1])

    def test_other_types_have_no_serving_form(self, shop: Shop, mlflow: MLflowManager) -> None:
        run_id = train(shop.settings, mlflow, shop.training, model_type="logistic_regression").run_id
        assert [file.path for file in mlflow.client.list_artifacts(run_id)] == ["environment.txt", MODEL_PATH]

    def test_the_environment_is_pinned(self, mlflow: MLflowManager, trained: TrainedModel) -> None:
        pins = Path(mlflow.client.download_artifacts(trained.run_id, "environment.txt")).read_text().splitlines()
        assert f"xgboost=={version('xgboost')}" in pins

    def test_equal_training_gives_an_equal_hash_in_another_process(
        self, shop: Shop, mlflow: MLflowManager, trained: TrainedModel
    ) -> None:
        code = (
            "import sys, pyarrow.parquet as pq\n"
            "from mlops_platform.contracts import STANDARD\n"
            "from mlops_platform.training_pipeline.fitting import fit\n"
            "from mlops_platform.training_pipeline.models import make_model\n"
            f"model = make_model('xgboost', {SMALL}).set_params(features__features=list(STANDARD.names))\n"
            "print(fit(model, pq.read_table(sys.argv[1])).hash)"
        )
        path = shop.settings.home / "rows.parquet"
        pq.write_table(shop.training.to_arrow(order_by=("feature_date", "customer_id")), path)
        found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == mlflow.client.get_run(trained.run_id).data.tags[MODEL_HASH_TAG]

    @pytest.mark.parametrize(
        ("model_type", "hyperparameters"), [("prophet", {}), ("xgboost", {"depth": 3})], ids=["type", "parameter"]
    )
    def test_what_is_unknown_is_refused_before_any_run(
        self, shop: Shop, mlflow: MLflowManager, model_type: str, hyperparameters: dict[str, Any]
    ) -> None:
        before = len(runs(mlflow, shop))
        with pytest.raises(InputError):
            train(shop.settings, mlflow, shop.training, model_type=model_type, hyperparameters=hyperparameters)
        assert len(runs(mlflow, shop)) == before

    def test_a_failed_fit_leaves_its_run_failed_and_is_not_taken_for_a_model(
        self, shop: Shop, mlflow: MLflowManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unlucky = {**SMALL, "random_state": 1}
        with monkeypatch.context() as patch:
            patch.setattr(MLflowManager, "log_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                train(shop.settings, mlflow, shop.training, hyperparameters=unlucky)
        failed = runs(mlflow, shop)[0]
        assert failed.info.status == "FAILED"
        again = train(shop.settings, mlflow, shop.training, hyperparameters=unlucky)
        assert again.is_new
        assert again.run_id != failed.info.run_id
        assert again.identity == failed.data.tags[IDENTITY_TAG]

    def test_a_value_the_model_refuses_is_the_users_mistake(self, shop: Shop, mlflow: MLflowManager) -> None:
        with pytest.raises(InputError, match="max_depth"):
            train(shop.settings, mlflow, shop.training, hyperparameters={**SMALL, "max_depth": "deep"})


class TestSavedFile:
    def test_it_is_skops_and_nothing_pickled(self, saved: Path) -> None:
        files = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
        assert MODEL_FILE in files
        assert not [name for name in files if Path(name).suffix in {".pkl", ".pickle", ".cloudpickle", ".joblib"}]
        with zipfile.ZipFile(saved / MODEL_FILE) as archive:
            assert "schema.json" in archive.namelist()
            assert not [name for name in archive.namelist() if archive.read(name).startswith(b"\x80\x04")]

    def test_its_signature_names_every_feature(self, saved: Path) -> None:
        described = (saved / "MLmodel").read_text()
        assert all(name in described for name in STANDARD.names)

    def test_it_needs_no_other_trust_than_ours(self, saved: Path) -> None:
        assert set(skops.io.get_untrusted_types(file=saved / MODEL_FILE)) <= set(TRUSTED_TYPES)


class TestLoading:
    def test_a_type_that_is_not_trusted_is_refused(self, load: Callable[[bytes], Any]) -> None:
        model = Pipeline([("features", FeatureTransformer()), ("classifier", Untrusted())])
        with pytest.raises(ModelError, match=r"types that are not trusted: .*Untrusted"):
            load(skops.io.dumps(model))

    def test_a_function_that_is_not_trusted_is_refused(self, load: Callable[[bytes], Any]) -> None:
        from sklearn.preprocessing import FunctionTransformer

        with pytest.raises(ModelError, match=r"types that are not trusted: .*rmtree"):
            load(skops.io.dumps(Pipeline([("features", FunctionTransformer(shutil.rmtree))])))

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
    def test_a_truncated_file_is_refused(self, load: Callable[[bytes], Any], saved: Path, share: float) -> None:
        content = (saved / MODEL_FILE).read_bytes()
        with pytest.raises(ModelError, match="has no readable model"):
            load(content[: int(len(content) * share)])

    @pytest.mark.parametrize("schema", ["{}", "[]"])
    def test_an_archive_that_skops_did_not_write_is_refused(self, load: Callable[[bytes], Any], schema: str) -> None:
        content = BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("schema.json", schema)
        with pytest.raises(ModelError):
            load(content.getvalue())

    def test_what_is_no_pipeline_is_refused(self, load: Callable[[bytes], Any]) -> None:
        with pytest.raises(ModelError):
            load(skops.io.dumps({"classifier": 1}))

    def test_a_pickle_under_its_name_is_refused_and_not_run(self, load: Callable[[bytes], Any], tmp_path: Path) -> None:
        import pickle

        mark = tmp_path / "mark"

        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (mark,)

        with pytest.raises(ModelError, match="has no readable model"):
            load(pickle.dumps(Bomb()))
        assert not mark.exists()

    def test_a_run_without_a_model_is_named(self, mlflow: MLflowManager, shop: Shop) -> None:
        with mlflow.run(shop.settings.experiment_name, "empty", {}) as run_id:
            pass
        for unknown in (run_id, "0" * 32):
            with pytest.raises(ModelError, match=f"run {unknown} has no readable model"):
                mlflow.load_model(unknown)

    def test_damaged_bytes_never_end_in_another_error(
        self, load: Callable[[bytes], Any], mlflow: MLflowManager, saved: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = (saved / MODEL_FILE).read_bytes()
        rng = np.random.default_rng(4)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / MODEL_FILE
            monkeypatch.setattr(type(mlflow.client), "download_artifacts", lambda *_: str(path))
            refused = 0
            for position in rng.integers(0, len(content), 60):
                damaged = bytearray(content)
                damaged[position] ^= 0xFF
                path.write_bytes(damaged)
                try:
                    mlflow.load_model("run")
                except ModelError:
                    refused += 1
        assert refused > 30

    def test_scores_survive_the_file(self, mlflow: MLflowManager, trained: TrainedModel, shop: Shop) -> None:
        rows: pa.Table = shop.training.to_arrow()
        one, other = (mlflow.load_model(trained.run_id).predict_proba(rows) for _ in range(2))
        assert np.array_equal(one, other)
