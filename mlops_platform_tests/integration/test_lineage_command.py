"""`mlops rebuild` and `mlops lineage`, as a person types them. Does not belong here: what either finds out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_platform.contracts import PREDICTIONS
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform.training_pipeline.train import TRAINING_SNAPSHOT_TAG
from mlops_platform_tests.integration.commands import Done, mlops
from mlops_platform_tests.unit.training_pipeline.traced import Traced, batch_of, open_traced

NAME = "customer_churn_model"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return open_traced(tmp_path_factory.mktemp("command") / "home", customers=80)


@pytest.fixture(scope="module")
def model(traced: Traced) -> RegisteredModel:
    """Version 1 of the default model, with predictions."""
    return traced.serve(NAME)


@pytest.fixture(scope="module")
def home(traced: Traced, model: RegisteredModel) -> Path:
    return traced.shop.settings.home


def run(home: Path, *arguments: str) -> Done:
    done = mlops(*arguments, "--home", home)
    assert "Traceback" not in done.err
    return done


class TestRebuild:
    def test_the_same_model(self, traced: Traced, model: RegisteredModel, home: Path) -> None:
        done = run(home, "rebuild", "1", "--from-features")
        assert done.code == 0, done
        lines = [line.split(maxsplit=2) for line in done.out.splitlines() if line.startswith("  ")]
        test = traced.shop.training.to_arrow(["split"])["split"].to_pylist().count("test")
        assert lines == [
            ["on", f"ml.training_set@{model.tags[TRAINING_SNAPSHOT_TAG]}"],
            ["model", "hash", "identical"],
            ["test", "rows", f"{test} of {test} test rows identical"],
            ["predictions", "20", "of 20 predictions identical"],
            ["training", "set", "identical, made again from its features and labels"],
        ]
        assert done.out.splitlines()[-1] == "It is the same model."
        assert done.message == ""

    def test_another_model_ends_with_2_and_the_reasons(self, traced: Traced, home: Path) -> None:
        model, draft = traced.version("other"), traced.shop.draft()
        rows = traced.shop.training.to_arrow()
        fewer = rows.filter(pa.array([place % 3 != 0 for place in range(rows.num_rows)]))
        other = traced.lake.publish(replace(draft, rows=fewer)).snapshot_id
        traced.lake.publish(draft)
        traced.manager.client.set_tag(model.run_id, TRAINING_SNAPSHOT_TAG, str(other))
        done = run(home, "rebuild", "1", "--model-name", "other")
        assert done.code == 2
        assert "It is not the same model:\n  the model's hash is " in done.message
        assert "Changed since it was trained:\n  the training rows" in done.message
        assert "largest difference" in done.out

    def test_no_such_version(self, home: Path) -> None:
        assert run(home, "rebuild", "9").is_refusal(f"{NAME} has no version 9", "Expected: one of 1")


class TestLineage:
    def test_of_a_version(self, traced: Traced, model: RegisteredModel, home: Path) -> None:
        done = run(home, "lineage", "1")
        assert done.code == 0, done
        days = [p.day for p in traced.shop.purchases]
        first, last = min(days), max(days)
        places = [
            f"model version {NAME} 1",
            f"MLflow run {model.run_id}",
            f"training set ml.training_set@{model.tags[TRAINING_SNAPSHOT_TAG]}",
            f"features feature_store.customer_features@{traced.shop.features.snapshot_id}",
            f"feature version: {traced.lake.features.version}",
            f"transactions silver.transactions@{traced.shop.transactions.snapshot_id}",
            "bronze batches bronze.crm_transactions",
            f"first: {batch_of(first)}",
            f"last: {batch_of(last)}",
        ]
        found = [done.out.find(words) for words in places]
        assert found == sorted(found)
        assert -1 not in found
        assert "batch-2024-01" not in done.out

    def test_every_batch(self, traced: Traced, home: Path) -> None:
        done = run(home, "lineage", "1", "--all")
        named = [line.split("bronze batch ")[1].split()[0] for line in done.out.splitlines() if "bronze batch " in line]
        assert named == sorted({batch_of(p.day) for p in traced.shop.purchases})

    def test_of_a_prediction_as_json(self, traced: Traced, home: Path) -> None:
        row = traced.lake.snapshot(PREDICTIONS).to_arrow(order_by=["prediction_id"]).to_pylist()[0]
        done = run(home, "lineage", row["prediction_id"], "--json")
        assert done.code == 0, done
        found = json.loads(done.out)
        assert (found["kind"], found["name"]) == ("prediction", row["prediction_id"])
        assert found["churn_probability"] == row["churn_probability"]
        assert [source["kind"] for source in found["made_from"]] == ["model version", "features"]

    def test_of_nothing_that_is_known(self, home: Path) -> None:
        done = run(home, "lineage", "nobody")
        assert done.is_refusal("'nobody' is no version's number", "ml.predictions", "ml.online_predictions", "Next: ")
