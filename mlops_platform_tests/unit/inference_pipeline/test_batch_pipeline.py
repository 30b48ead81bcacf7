"""The documented call and `python -m mlops_platform.inference_pipeline.batch`, with a model from the registry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import NOT_SCORED, PREDICTIONS
from mlops_platform.errors import InputError, ModelError
from mlops_platform.inference_pipeline import BatchInferencePipeline, batch_pipeline
from mlops_platform.settings import Settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform.training_pipeline.stages import move
from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import Versions
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, Shop

MODEL, PATH = "customer_churn_model", "ml/predictions/batch_20240115.parquet"
# With MLOPS_AS_OF the present is the end of the first tick after that day.
TICK = datetime(2024, 7, 1, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def model(home_of_versions: Versions, shop: Shop) -> Iterator[RegisteredModel]:
    """A Production model in a home that holds the features of the shop's last day."""
    lake = Lake(home_of_versions.settings)
    scope = (Condition("feature_date", "=", AS_OF),)
    lake.publish(Draft(lake.features.customer_features, shop.features.to_arrow(where=scope), scope=scope))
    yield home_of_versions.named(MODEL).add(home_of_versions.pipeline)


@pytest.fixture
def own(home_of_versions: Versions, model: RegisteredModel, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The environment of someone whose home it is."""
    monkeypatch.setenv("MLOPS_HOME", str(home_of_versions.settings.home))
    monkeypatch.setenv("MLOPS_AS_OF", AS_OF.isoformat())
    monkeypatch.setattr(batch_pipeline, "apply_exports", lambda _: None)
    return home_of_versions.settings


def ids(settings: Settings) -> list[str]:
    features = Lake(settings).snapshot(Lake(settings).features.customer_features)
    found: list[str] = features.to_arrow(["customer_id"])["customer_id"].to_pylist()
    return found


class TestRows:
    def test_the_documented_call(self, own: Settings, model: RegisteredModel) -> None:
        customers_df = pd.DataFrame({"customer_id": [*ids(own), "nobody", None]})
        pipeline = BatchInferencePipeline(model_name="customer_churn_model", model_stage="Production")
        results = pipeline.run(input_data=customers_df, output_path=PATH)
        written = pq.read_table(results["output_path"])
        assert results["output_path"] == str(own.warehouse / PATH)
        assert results["n_predictions"] == written.num_rows > 50
        left = pq.read_table(results["not_scored_path"])
        assert results["not_scored"] == {
            each["values"]: each["counts"] for each in left["reason"].value_counts().to_pylist()
        }
        assert results["n_not_scored"] == left.num_rows == len(customers_df) - written.num_rows
        assert results["not_scored"].items() >= {"unknown_customer": 1, "no_customer_id": 1}.items()
        assert (results["model_name"], results["model_version"]) == (MODEL, model.version)
        assert set(written["model_version"].to_pylist()) == {model.version}
        assert results["feature_date"] == AS_OF
        store = Lake(own).snapshot(Lake(own).features.customer_features)
        assert results["feature_snapshot_id"] == store.snapshot_id
        assert results["is_new"]
        assert not pipeline.run(customers_df, PATH)["is_new"]

    def test_another_stage_scores_into_a_file_only(self, own: Settings, home_of_versions: Versions) -> None:
        named = home_of_versions.named("staged")
        version = move(named.manager, named.add(named.variant(1.0)), "Staging")
        pipeline = BatchInferencePipeline("staged", "Staging")
        assert pipeline.run(pd.DataFrame({"customer_id": ids(own)}), "ml/s.parquet")["model_version"] == version.version
        with pytest.raises(InputError, match=r"ml.predictions holds scores of Production, not of Staging"):
            pipeline.run()

    @pytest.mark.parametrize("stage", ["Production", "Staging"])
    def test_a_stage_without_a_version(self, own: Settings, stage: str) -> None:
        with pytest.raises(ModelError, match=f"no version of nameless is in {stage}"):
            BatchInferencePipeline("nameless", stage).run(pd.DataFrame({"customer_id": ["a"]}), PATH)

    @pytest.mark.parametrize("given", [{"output_path": PATH}, {"input_data": "x.parquet"}])
    def test_one_without_the_other(self, own: Settings, given: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="is given alone"):
            BatchInferencePipeline().run(**given)


class TestTick:
    def test_without_rows_the_last_complete_tick_is_published(self, own: Settings, model: RegisteredModel) -> None:
        results = BatchInferencePipeline().run()
        lake = Lake(own)
        held = lake.snapshot(PREDICTIONS)
        rows = held.to_arrow(["customer_id", "tick", "model_version"], [Condition("tick", "=", TICK)])
        assert results["tick"] == TICK
        assert (results["output_path"], results["not_scored_path"]) == (PREDICTIONS.name, NOT_SCORED.name)
        assert results["n_predictions"] == rows.num_rows > 50
        assert set(rows["model_version"].to_pylist()) == {model.version}
        assert results["n_not_scored"] == sum(results["not_scored"].values())
        assert results["n_predictions"] + results["n_not_scored"] == len(ids(own))
        assert results["snapshot_id"] == held.snapshot_id
        again = BatchInferencePipeline().run()
        assert (again["is_new"], again["snapshot_id"]) == (False, held.snapshot_id)

    def test_it_has_a_day_of_its_own(self, own: Settings) -> None:
        with pytest.raises(InputError, match="feature_date is given without rows"):
            BatchInferencePipeline().run(feature_date=AS_OF)


class TestCommand:
    def test_without_an_argument_it_publishes_the_tick(self, own: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        assert batch_pipeline.main([]) == 0
        assert capsys.readouterr().out.startswith("ml.predictions: ")

    def test_rows_of_a_file(self, own: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        pd.DataFrame({"customer_id": ["nobody"]}).to_parquet(own.warehouse / "given.parquet")
        assert batch_pipeline.main(["--input", "given.parquet", "--output", "ml/command.parquet"]) == 0
        said = capsys.readouterr().out
        assert f"0 predictions by {MODEL} version" in said
        assert "not scored: 1 unknown_customer" in said

    def test_a_mistake_is_one_line_and_exit_code_2(self, own: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        assert batch_pipeline.main(["--input", "x.parquet", "--output", "../x.parquet"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("batch: '../x.parquet' leads out of the warehouse")
        assert said.err.count("\n") == 1
