"""Rebuilding: equal inputs give the same model and predictions again, and whatever is not equal is named."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import InputError, ModelError, StorageError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain, referenced_snapshots
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline import rebuild as rebuild_module
from mlops_platform.training_pipeline import train as train_module
from mlops_platform.training_pipeline.dataset import data_digest
from mlops_platform.training_pipeline.models import code_digest
from mlops_platform.training_pipeline.rebuild import (
    CODE_DIGEST_TAG,
    DATA_DIGEST_TAG,
    NOT_REBUILDABLE_TAG,
    Rebuild,
    parameter_value,
    rebuild,
)
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform.training_pipeline.train import MODEL_HASH_TAG, TRAINING_SNAPSHOT_TAG, fit_frame
from mlops_platform_tests.unit.training_pipeline.traced import SMALL, Traced, open_traced
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF

LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return open_traced(tmp_path_factory.mktemp("traced") / "home")


@pytest.fixture(scope="module")
def told(traced: Traced) -> dict[str, str]:
    """Tags that tell rows from code."""
    return {
        DATA_DIGEST_TAG: data_digest(traced.shop.settings, traced.shop.training),
        CODE_DIGEST_TAG: code_digest("xgboost"),
    }


def again(traced: Traced, model: RegisteredModel, **arguments: Any) -> Rebuild:
    return rebuild(traced.manager, traced.lake, model.name, model.version, **arguments)


def tag(traced: Traced, model: RegisteredModel, name: str, value: object) -> None:
    traced.manager.client.set_tag(model.run_id, name, str(value))


def changed_training_set(traced: Traced) -> int:
    """Another snapshot of ml.training_set, one feature other than it was; the table goes back to what it held."""
    contract, rows = STANDARD.training_set, traced.shop.training.to_arrow()
    place = rows.column_names.index("days_since_last_transaction")
    other = rows.set_column(place, rows.schema.field(place), pc.multiply(rows.column(place), 2).cast(pa.int32()))
    made = traced.lake.properties(contract)
    properties = {key: made[key] for key in made if key not in {"publish-id", "code-version", "partition-range"}}
    snapshot_id = traced.lake.publish(Draft(contract, other, properties=properties)).snapshot_id
    traced.lake.publish(Draft(contract, rows, properties=properties))
    assert snapshot_id is not None
    return snapshot_id


class TestTheSame:
    def test_training_twice_gives_an_equal_hash(self, traced: Traced) -> None:
        # Runs are looked for in their own experiment.
        runs = [traced.manager.client.get_run(traced.version(name).run_id) for name in ("once", "twice")]
        assert runs[0].info.run_id != runs[1].info.run_id
        assert runs[0].data.tags[MODEL_HASH_TAG] == runs[1].data.tags[MODEL_HASH_TAG]

    @pytest.mark.parametrize("model_type", ["xgboost", "logistic_regression", "random_forest", "average"])
    def test_model_test_rows_and_twenty_predictions(self, traced: Traced, model_type: str) -> None:
        small = {"xgboost": SMALL, "random_forest": {"n_estimators": 5}, "average": {"weights": [1, 3]}}
        done = again(traced, traced.serve(model_type, model_type=model_type, hyperparameters=small.get(model_type, {})))
        assert (done.differences, done.changes) == ([], ())
        assert done.is_identical
        assert done.hash == done.saved_hash
        test = traced.shop.training.count([Condition("split", "=", "test")])
        assert (done.test_rows.rows, done.test_rows.identical) == (test, test)
        assert (done.predictions.rows, done.predictions.identical, done.predictions.lost) == (20, 20, 0)
        assert done.predictions.largest_difference == 0.0

    def test_none_is_a_value(self, traced: Traced) -> None:
        done = again(traced, traced.version("none", hyperparameters={**SMALL, "subsample": None, "max_depth": None}))
        assert (done.differences, done.changes) == ([], ())
        assert done.predictions.rows == 0

    def test_the_training_set_comes_from_its_features_and_labels(self, traced: Traced) -> None:
        model = traced.version("features")
        assert again(traced, model).is_training_set_equal is None
        assert again(traced, model, from_features=True).is_training_set_equal
        # Horizon and history are those of the training set, whatever the settings say by now.
        settings = traced.shop.settings.model_copy(update={"horizon_days": 30, "history_start": None})
        done = rebuild(traced.manager, Lake(settings), model.name, 1, from_features=True)
        assert done.is_training_set_equal

    def test_nothing_is_written(self, traced: Traced) -> None:
        def state() -> object:
            runs = traced.manager.client.search_runs([traced.manager.experiment_id("written")])
            held = [traced.lake.snapshot(c).snapshot_id for c in traced.lake.contracts.values()]
            return len(runs), len(traced.manager.versions("written")), held

        model = traced.serve("written")
        before = state()
        again(traced, model, from_features=True)
        assert state() == before

    def test_it_survives_newer_features_training_sets_and_maintenance(self, traced: Traced) -> None:
        model = traced.serve("old")
        changed_training_set(traced)
        contract, on_day = STANDARD.customer_features, (Condition("feature_date", "=", AS_OF),)
        rows = traced.shop.features.to_arrow(where=on_day)
        place = rows.column_names.index("churn_score")
        other = rows.set_column(place, rows.schema.field(place), pc.subtract(1.0, rows["churn_score"]))
        traced.lake.publish(Draft(contract, other, scope=on_day))
        done = maintain(traced.lake, now=LATER, keep=referenced_snapshots(traced.lake), keep_days=1)
        assert sum(each.snapshots_expired for each in done)
        found = again(traced, model, from_features=True)
        assert found.differences == []
        assert found.predictions.rows == 20
        assert found.is_training_set_equal


class TestWhatDiffers:
    def test_the_training_rows(self, traced: Traced, told: dict[str, str]) -> None:
        model = traced.serve("rows", **told)
        tag(traced, model, TRAINING_SNAPSHOT_TAG, changed_training_set(traced))
        done = again(traced, model, from_features=True)
        assert not done.is_identical
        assert done.test_rows.identical < done.test_rows.rows
        assert [line.split(":")[0] for line in done.changes] == ["the training rows"]
        words = "\n".join(done.differences)
        assert all(word in words for word in ("hash", "test rows differ", "predictions differ", "holds other rows"))

    def test_a_hyperparameter(self, traced: Traced, told: dict[str, str], tmp_path: Path) -> None:
        model = traced.version("parameter", **told)
        client, run = traced.manager.client, traced.manager.client.get_run(model.run_id)
        tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.runName"}
        with traced.manager.run("parameter", "copy", tags) as run_id:
            for name, value in (run.data.params | {"max_depth": "1"}).items():
                client.log_param(run_id, name, value)
            client.log_artifacts(run_id, client.download_artifacts(model.run_id, "", str(tmp_path)))
        done = again(traced, traced.manager.register_model(f"runs:/{run_id}/model", "parameter", {}))
        assert done.changes == ("the hyperparameters",)
        assert len(done.differences) == 2
        assert 0 < done.test_rows.largest_difference < 1

    def test_the_code(self, traced: Traced, told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        model, untold = traced.version("code", **told), traced.version("code-untold")
        for name in told.keys() & traced.manager.client.get_run(untold.run_id).data.tags:
            traced.manager.client.delete_tag(untold.run_id, name)
        monkeypatch.setattr(rebuild_module, "code_digest", lambda _: "other")
        monkeypatch.setattr(train_module, "code_digest", lambda _: "other")
        done = again(traced, model)
        assert done.changes == (f"the code that shapes a model: its digest is other, and was {told[CODE_DIGEST_TAG]}",)
        # What changed had no effect.
        assert done.is_identical
        assert again(traced, untold).changes == ("the training rows, the hyperparameters or the code",)

    def test_a_library(self, traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
        model = traced.version("library")
        pins = train_module.environment()
        now = [line if not line.startswith("xgboost==") else "xgboost==0.1" for line in pins.splitlines()]
        monkeypatch.setattr(rebuild_module, "environment", lambda: "\n".join([*now, "unrelated==1"]))
        (line,) = again(traced, model).changes
        assert line.startswith("xgboost: 0.1, and was ")

    def test_a_prediction_by_its_last_bit(self, traced: Traced) -> None:
        model = traced.version("bit")
        rows = traced.predict(model)
        place = rows.column_names.index("churn_probability")
        off = np.nextafter(rows["churn_probability"].to_numpy(), 0)
        traced.publish(rows.set_column(place, "churn_probability", pa.array(off)))
        done = again(traced, model)
        assert (done.predictions.rows, done.predictions.identical) == (20, 0)
        assert 0 < done.predictions.largest_difference < 1e-15
        assert done.hash == done.saved_hash
        assert ["predictions" in line for line in done.differences] == [True]

    def test_predictions_without_their_features_are_counted(self, traced: Traced) -> None:
        model = traced.version("lost")
        rows = traced.predict(model)
        place = rows.column_names.index("feature_snapshot_id")
        gone = pa.array([1] * 15 + rows["feature_snapshot_id"].to_pylist()[15:], pa.int64())
        traced.publish(rows.slice(0, 18).set_column(place, "feature_snapshot_id", gone.slice(0, 18)))
        done = again(traced, model)
        assert (done.predictions.rows, done.predictions.identical, done.predictions.lost) == (3, 3, 15)

    def test_other_settings_make_another_training_set(self, traced: Traced) -> None:
        model = traced.version("population")
        lake = Lake(traced.shop.settings.model_copy(update={"population_days": 30}))
        done = rebuild(traced.manager, lake, model.name, 1, from_features=True)
        assert done.is_training_set_equal is False
        assert [line for line in done.differences if "holds other rows" in line] == done.differences


class TestRefused:
    def test_rows_of_a_frame(self, traced: Traced) -> None:
        rows = traced.shop.training.to_arrow(["tenure_days", "churned"]).to_pandas()
        run_id, _ = fit_frame(traced.shop.settings, traced.manager, rows[["tenure_days"]], rows["churned"])
        model = traced.manager.register_model(f"runs:/{run_id}/model", "frame", {})
        with pytest.raises(InputError, match=r"frame version 1 can't be rebuilt.*query.*mlops train"):
            again(traced, model)

    def test_a_customer_was_erased(self, traced: Traced) -> None:
        model = traced.version("erased")
        tag(traced, model, NOT_REBUILDABLE_TAG, "a customer was erased on 2026-07-01")
        with pytest.raises(InputError, match="can't be rebuilt: a customer was erased on 2026-07-01"):
            again(traced, model)

    def test_a_run_without_a_hash(self, traced: Traced) -> None:
        model = traced.version("hashless")
        traced.manager.client.delete_tag(model.run_id, MODEL_HASH_TAG)
        with pytest.raises(InputError, match="keeps no hash"):
            again(traced, model)

    def test_the_training_set_is_gone(self, traced: Traced) -> None:
        model = traced.version("gone")
        tag(traced, model, TRAINING_SNAPSHOT_TAG, 1)
        with pytest.raises(StorageError, match=r"gone version 1 can't be rebuilt: ml.training_set has no snapshot 1"):
            again(traced, model)

    def test_there_is_no_such_version(self, traced: Traced) -> None:
        traced.version("few")
        with pytest.raises(InputError, match="few has no version 7"):
            rebuild(traced.manager, traced.lake, "few", 7)

    def test_the_run_is_gone(self, traced: Traced) -> None:
        client = traced.manager.client
        client.create_registered_model("foreign")
        client.create_model_version("foreign", source="file:///nowhere", run_id=None)
        with pytest.raises(ModelError, match=r"MLflow run \(none\) of foreign version 1 is gone"):
            rebuild(traced.manager, traced.lake, "foreign", 1)

    def test_a_feature_is_no_longer_declared(self, traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
        model = traced.version("undeclared")
        fewer = type(STANDARD)(tuple(f for f in STANDARD.features if f.name != "peak_hour_transactions"))
        monkeypatch.setattr(rebuild_module, "training_set", lambda *_, **__: Draft(fewer.training_set, pa.table({})))
        with pytest.raises(InputError, match=r"peak_hour_transactions is no longer declared.*without --from-features"):
            again(traced, model, from_features=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8), ("0.05", 0.05), ("1e-05", 1e-5), ("True", True), ("[1, 3]", [1, 3]), ("{'a': (1,)}", {"a": (1,)}),
        ("binary:logistic", "binary:logistic"), ("l2", "l2"), ("cuda:0", "cuda:0"), ("inf", math.inf),
        ("__import__('os').abort()", "__import__('os').abort()"),
    ],
)  # fmt: skip
def test_texts_become_the_values_they_were(text: str, value: object) -> None:
    found = parameter_value(text)
    assert (found, type(found)) == (value, type(value))


def test_the_text_of_nan_is_nan() -> None:
    assert math.isnan(parameter_value("nan"))
