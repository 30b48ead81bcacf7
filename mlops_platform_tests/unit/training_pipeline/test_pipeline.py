"""`TrainingPipeline`: the documented calls as they stand in the documentation, on a small shop of its own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from mlops_platform import settings as settings_module
from mlops_platform.contracts import PROMOTIONS, STANDARD
from mlops_platform.errors import InputError, NotEnoughDataError, QueryError, StorageError
from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline import TrainingPipeline, model_type
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.evaluation import best_threshold
from mlops_platform.training_pipeline.fitting import calibrate
from mlops_platform.training_pipeline.models import MODEL_TYPES, make_model
from mlops_platform.training_pipeline.registry import STAGING
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, main
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, Shop, history, open_shop

QUERY = "SELECT * FROM feature_store.customer_features WHERE feature_date >= '2024-01-01'"
ALL = "SELECT * FROM feature_store.customer_features"
SMALL = {"n_estimators": 8, "min_child_weight": 1, "n_jobs": 1}
E = AS_OF - timedelta(days=90)
DOCUMENTED_METRICS = {"accuracy", "precision", "recall", "f1", "roc_auc"}
MORE_METRICS = {"pr_auc", "brier", "log_loss", "threshold", "lift_over_recency_only"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose registry these tests fill."""
    settings = load_settings(home=tmp_path_factory.mktemp("own") / "home", as_of=AS_OF)
    return open_shop(settings, history(), also=[AS_OF])


@pytest.fixture(scope="module")
def pipeline(own: Shop) -> TrainingPipeline:
    return TrainingPipeline(settings=own.settings)


@pytest.fixture
def as_documented(own: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of someone whose home is the shop's."""
    monkeypatch.setenv("MLOPS_HOME", str(own.settings.home))
    monkeypatch.setenv("MLOPS_AS_OF", AS_OF.isoformat())
    monkeypatch.setenv("MLOPS_HISTORY_START", str(own.settings.history_start))
    monkeypatch.setattr(settings_module, "apply_exports", lambda _: None)


@pytest.fixture(scope="module")
def result(pipeline: TrainingPipeline) -> dict[str, Any]:
    return pipeline.run(query=ALL, hyperparameters=SMALL)


class TestRun:
    @pytest.mark.usefixtures("as_documented")
    def test_the_documented_call(self) -> None:
        pipeline = TrainingPipeline(experiment_name="production_training", model_name="customer_churn_model")
        results = pipeline.run(
            query="SELECT * FROM feature_store.customer_features WHERE feature_date >= '2024-01-01'",
            model_type="xgboost",
            hyperparameters={"n_estimators": 100, "max_depth": 10, "learning_rate": 0.1},
            register_model=True,
        )
        assert results["model_name"] == "customer_churn_model"
        assert set(results["metrics"]) >= DOCUMENTED_METRICS | MORE_METRICS
        run = pipeline.manager.client.get_run(results["run_id"])
        assert pipeline.manager.client.get_experiment(run.info.experiment_id).name == "production_training"
        assert (run.data.params["max_depth"], run.data.params["n_estimators"]) == ("10", "100")
        registered = pipeline.manager.client.get_model_version("customer_churn_model", results["model_version"])
        assert registered.run_id == results["run_id"]
        assert results["stage"] == registered.current_stage == STAGING

    def test_metrics_are_those_of_the_test_rows(self, own: Shop, pipeline: TrainingPipeline, result: Any) -> None:
        test = split_rows(own.draft().rows, "test")
        labels = test["churned"].to_numpy()
        scores = pipeline.manager.load_model(result["run_id"]).predict_proba(test)[:, 1]
        found = result["metrics"]
        assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, scores))
        assert found["pr_auc"] == pytest.approx(average_precision_score(labels, scores))
        assert found["log_loss"] == pytest.approx(log_loss(labels, scores), rel=1e-6)
        recency = roc_auc_score(labels, test["days_since_last_transaction"].to_numpy())
        assert found["lift_over_recency_only"] == pytest.approx(found["roc_auc"] - recency)
        logged = pipeline.manager.client.get_run(result["run_id"]).data.metrics
        assert {name: logged[f"test_{name}"] for name in found} == found

    def test_the_threshold_is_the_best_of_the_validation_rows(
        self, own: Shop, pipeline: TrainingPipeline, result: Any
    ) -> None:
        model = pipeline.manager.load_model(result["run_id"])
        best = {}
        for name in ("validation", "test"):
            rows = split_rows(own.draft().rows, name)
            best[name] = best_threshold(rows["churned"].to_numpy(), model.predict_proba(rows)[:, 1])
        assert result["metrics"]["threshold"] == best["validation"] != best["test"]
        assert float(pipeline.manager.client.get_run(result["run_id"]).data.tags[THRESHOLD_TAG]) == best["validation"]

    def test_what_was_left_out_is_counted(self, own: Shop, pipeline: TrainingPipeline, result: Any) -> None:
        days = own.features.to_arrow(["feature_date"])["feature_date"].to_pylist()
        immature = sum(day > E for day in days)
        assert result["dropped"] == {
            "immature": immature, "outside_population": 0, "label_window_past_evaluation": 0
        }  # fmt: skip
        assert sum(result["rows"].values()) == len(days) - immature
        assert pipeline.manager.client.get_run(result["run_id"]).data.metrics["dropped_immature"] == immature

    def test_the_run_says_where_its_rows_come_from(self, own: Shop, pipeline: TrainingPipeline, result: Any) -> None:
        tags = pipeline.manager.client.get_run(result["run_id"]).data.tags
        assert tags["mlops.query"] == ALL
        assert tags["data_version"] == f"feature_store.customer_features@{own.features.snapshot_id}"
        assert tags["mlops.label-snapshot-id"] == str(own.transactions.snapshot_id)

    def test_again_it_is_the_same_run_and_version(self, pipeline: TrainingPipeline, result: Any) -> None:
        assert pipeline.run(query=f"{ALL} ORDER BY customer_id DESC", hyperparameters=SMALL) == result

    def test_trained_anew_it_gives_the_same_probabilities(
        self, own: Shop, pipeline: TrainingPipeline, result: Any
    ) -> None:
        rows = own.draft().rows
        train = split_rows(rows, "train")
        names = list(pipeline.manager.load_model(result["run_id"])["features"].feature_names_in_)
        model = make_model("xgboost", SMALL).set_params(features__features=names)
        model.fit(train, train["churned"].to_numpy())
        anew = calibrate(model, split_rows(rows, "validation")).predict_proba(rows)
        assert np.array_equal(anew, pipeline.manager.load_model(result["run_id"]).predict_proba(rows))

    def test_without_registration(self, pipeline: TrainingPipeline) -> None:
        before = len(pipeline.manager.client.search_model_versions())
        results = pipeline.run(query=ALL, model_type="logistic_regression", register_model=False)
        assert (results["model_version"], results["stage"]) == (None, None)
        assert len(pipeline.manager.client.search_model_versions()) == before
        assert pipeline.manager.load_model(results["run_id"])["classifier"].classifier.named_steps["logistic"].C == 1.0

    def test_a_stratified_split(self, pipeline: TrainingPipeline) -> None:
        results = pipeline.run(query=ALL, hyperparameters=SMALL, split="stratified", register_model=False)
        total = sum(results["rows"].values())
        assert results["rows"]["test"] == pytest.approx(total / 5, abs=1)

    def test_a_file_with_labels_of_its_own(self, own: Shop, pipeline: TrainingPipeline, tmp_path: Path) -> None:
        rows = own.draft().rows.rename_columns(
            ["target" if name == "churned" else name for name in own.draft().rows.column_names]
        )
        pq.write_table(rows, tmp_path / "rows.parquet")
        results = pipeline.run(s3_path=str(tmp_path / "rows.parquet"), hyperparameters=SMALL, register_model=False)
        assert results["rows"]["test"] == split_rows(rows, "test").num_rows
        assert results["metrics"]["roc_auc"] > 0.5

    def test_a_type_of_ones_own(self, pipeline: TrainingPipeline) -> None:
        @model_type("plain_logistic")
        def plain_logistic() -> Any:
            return LogisticRegression(max_iter=10_000, C=1e-4)

        try:
            results = pipeline.run(query=ALL, model_type="plain_logistic", register_model=False)
        finally:
            del MODEL_TYPES["plain_logistic"]
        assert results["model_type"] == "plain_logistic"
        assert pipeline.manager.load_model(results["run_id"])["classifier"].classifier.C == 1e-4


class TestLine:
    """Without query and path."""

    def test_it_trains_on_the_rows_of_the_line_and_asks_the_gate(self, own: Shop, pipeline: TrainingPipeline) -> None:
        results = pipeline.run(hyperparameters=SMALL)
        assert own.training.to_arrow().num_rows == sum(results["rows"].values()) == own.draft().rows.num_rows
        decisions = own.lake.snapshot(PROMOTIONS).to_arrow().to_pylist()
        assert [row["run_id"] for row in decisions] == [results["run_id"]]
        assert decisions[0]["reason"] == results["reason"]
        assert decisions[0]["model_version"] == results["model_version"]
        tags = pipeline.manager.client.get_run(results["run_id"]).data.tags
        assert tags["mlops.training-snapshot-id"] == str(own.training.snapshot_id)

    def test_the_query_of_all_its_dates_gives_the_same_figures(self, pipeline: TrainingPipeline, result: Any) -> None:
        line = pipeline.run(hyperparameters=SMALL, register_model=False)
        same = {name: line["metrics"][name] for name in result["metrics"]}
        assert same == pytest.approx(result["metrics"], abs=1e-12)
        assert line["rows"] == result["rows"]

    @pytest.mark.usefixtures("as_documented")
    def test_from_a_shell(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--model-type", "logistic_regression"]) == 0
        assert "customer_churn_model version" in capsys.readouterr().out
        assert main(["--model-type", "prophet"]) == 2
        assert "'prophet' is no model type" in capsys.readouterr().err


class TestSteps:
    @pytest.mark.usefixtures("as_documented")
    def test_as_documented(self) -> None:
        pipeline = TrainingPipeline()
        df = pipeline.load_features(query=QUERY)
        X, y = pipeline.preprocess_data(df, target_column="target")
        X_train, X_test, y_train, y_test = pipeline.split_data(X, y, test_size=0.2, random_state=42)
        model = pipeline.train_model(X_train, y_train, model_type="random_forest")
        metrics = pipeline.evaluate_model(model, X_test, y_test)

        assert set(X.columns) == set(STANDARD.names)
        expected = train_test_split(X, y, test_size=0.2, random_state=42, stratify=y)
        for found, theirs in zip((X_train, X_test, y_train, y_test), expected, strict=True):
            assert found.equals(theirs)
        assert metrics["accuracy"] == pytest.approx((model.predict(X_test) == y_test).mean())
        assert metrics["roc_auc"] == pytest.approx(roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]))
        run = pipeline.manager.client.get_run(str(pipeline.run_id))
        assert run.data.metrics["test_roc_auc"] == metrics["roc_auc"]
        assert run.data.params["model_type"] == "random_forest"
        saved = pipeline.manager.load_model(str(pipeline.run_id))
        assert np.array_equal(saved.predict_proba(X_test), model.predict_proba(X_test))

    def test_by_default_the_features_are_those_of_the_line(self, own: Shop, pipeline: TrainingPipeline) -> None:
        frame = pipeline.load_features()
        assert len(frame) == own.draft().rows.num_rows
        assert frame["target"].sum() == sum(own.draft().rows["churned"].to_pylist())
        assert "split" not in frame.columns

    def test_missing_values_are_left_to_the_model(self, pipeline: TrainingPipeline) -> None:
        frame = pipeline.load_features(query=ALL)
        frame.loc[::3, "churn_score"] = np.nan
        X, y = pipeline.preprocess_data(frame)
        assert X["churn_score"].isna().sum() == len(frame.loc[::3])
        model = pipeline.train_model(X, y, hyperparameters=SMALL)
        assert model["features"].medians_["churn_score"] == X["churn_score"].median()

    def test_another_target(self, pipeline: TrainingPipeline) -> None:
        frame = pd.DataFrame({"spent": [1.0, 2.0], "left": [0, 1], "customer_id": ["a", "b"], "_note": ["x", "y"]})
        X, y = pipeline.preprocess_data(frame, target_column="left")
        assert list(X.columns) == ["spent"]
        assert y.tolist() == [0, 1]

    def test_no_target(self, pipeline: TrainingPipeline) -> None:
        with pytest.raises(InputError, match="the rows have no column target"):
            pipeline.preprocess_data(pd.DataFrame({"a": [1]}))

    def test_too_few_rows_to_split(self, pipeline: TrainingPipeline) -> None:
        with pytest.raises(InputError, match="the rows can't be split"):
            pipeline.split_data(pd.DataFrame({"a": range(3)}), pd.Series([0, 0, 1]))

    def test_one_class(self, pipeline: TrainingPipeline) -> None:
        with pytest.raises(NotEnoughDataError, match=r"the 2 rows hold the class\(es\) \[1\]"):
            pipeline.train_model(pd.DataFrame({"churn_score": [0.1, 0.2]}), pd.Series([1, 1]))


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"model_type": "prophet"}, InputError, "is no model type"),
            ({"hyperparameters": {"max_dept": 3}}, InputError, "xgboost has no hyperparameter max_dept"),
            ({"hyperparameters": {"max_depth": "deep"}}, InputError, "the model refuses its hyperparameters"),
            ({"split": "random"}, InputError, "is no split"),
            ({"s3_path": "rows.parquet"}, InputError, "both query and s3_path"),
            ({"query": "SELECT churn_score FROM feature_store.customer_features"}, InputError, "neither target nor"),
            ({"query": "SELECT * FROM feature_store.none"}, QueryError, "none"),
            ({"query": f"{ALL} WHERE feature_date > DATE '{E}'"}, NotEnoughDataError, "no label of the rows has"),
            ({"query": f"{ALL} WHERE feature_date = DATE '{E}'"}, InputError, "too few feature_dates"),
        ],
    )
    def test_nothing_is_registered(
        self, pipeline: TrainingPipeline, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        before = len(pipeline.manager.client.search_model_versions())
        with pytest.raises(error, match=message):
            pipeline.run(**{"query": ALL, **arguments})
        assert len(pipeline.manager.client.search_model_versions()) == before

    def test_mlflow_is_down(self, own: Shop, tmp_path: Path) -> None:
        (tmp_path / "none").write_text("a file where MLflow wants a folder")
        gone = own.settings.model_copy(update={"mlflow_tracking_uri": f"sqlite:///{tmp_path}/none/mlflow.db"})
        with pytest.raises(StorageError, match=r"MLflow at .* can't be reached"):
            TrainingPipeline(settings=gone).run(query=ALL, hyperparameters=SMALL)
