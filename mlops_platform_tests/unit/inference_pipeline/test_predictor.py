"""The one scoring path, for whatever type of model is behind it, and what it is loaded from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlops_platform.errors import ModelError
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.inference_pipeline.trial import trial_rows
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline.model_digest import FILES_DIGEST_TAG, SERVING_FILES
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import (
    Spoil,
    Versions,
    other_calibration,
    truncated_booster,
    without_form,
)
from mlops_platform_tests.unit.training_pipeline.worlds import Shop


@pytest.mark.parametrize("model_type", ["logistic_regression", "random_forest"])
def test_nobody_to_score_is_no_mistake(shop: Shop, model_type: str) -> None:
    rows = shop.training.to_arrow()
    pipeline = make_model(model_type).fit(rows, rows["churned"].to_numpy())
    names = tuple(pipeline["features"].feature_names_in_)
    predictor = Predictor(RegisteredModel("m", "1", "None", "r", {}), pipeline, 0.5, 1, names)
    found = predictor.score(rows.slice(0, 0))
    assert found.probability.shape == found.prediction.shape == found.confidence.shape == (0,)
    assert found.prediction.dtype == predictor.score(rows.slice(0, 3)).prediction.dtype
    assert (predictor.score(rows.slice(0, 3)).probability == pipeline.predict_proba(rows.slice(0, 3))[:, 1]).all()


def test_a_model_of_a_querys_rows_does_not_serve(shop: Shop) -> None:
    version = RegisteredModel("m", "7", "Production", "r", {"mlops.threshold": "0.5"})
    with pytest.raises(ModelError, match=r"version 7 of m can't serve: it was not trained on ml\.training_set"):
        Predictor.load(shop.settings, version=version)


class TestLoaded:
    def test_the_serving_form_scores_the_pipelines_bits(self, versions: Versions, shop: Shop) -> None:
        model = versions.add(versions.pipeline)
        found = Predictor.load(versions.settings)
        assert (found.scoring, found.fallback_reason, found.model) == ("booster", None, model)
        rows = shop.training.to_arrow()
        expected = versions.pipeline.predict_proba(rows)[:, 1]
        assert np.array_equal(found.score(rows).probability, expected)
        found.use_one_thread()
        assert np.array_equal(found.score(rows).probability, expected)
        assert (found.score(rows).prediction == (expected >= 0.4)).all()

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (without_form, "the version has no serving form"),
            (truncated_booster, "the serving form can't be read"),
            (other_calibration, "gives other probabilities than the Pipeline on 201 made-up rows"),
        ],
    )
    def test_the_pipeline_scores_where_the_form_is_not_it(self, versions: Versions, spoil: Spoil, reason: str) -> None:
        versions.add(versions.pipeline, spoil=spoil)
        found = Predictor.load(versions.settings)
        assert found.scoring == "pipeline"
        assert reason in str(found.fallback_reason)

    def test_a_form_of_other_features_is_not_used(self, versions: Versions) -> None:
        def turned(folder: Path) -> None:
            path = folder / SERVING_FILES[1]
            declared = json.loads(path.read_text())
            declared["features"].reverse()
            path.write_text(json.dumps(declared))

        versions.add(versions.pipeline, spoil=turned)
        assert Predictor.load(versions.settings).fallback_reason == (
            "the serving form has other features than the Pipeline"
        )

    @pytest.mark.parametrize("holder", ["run", "version"])
    def test_either_recorded_digest_is_held_against_the_files(self, versions: Versions, holder: str) -> None:
        model = versions.add(versions.pipeline, is_recorded=False)
        assert Predictor.load(versions.settings).scoring == "booster"
        client = versions.manager.client
        if holder == "run":
            client.set_tag(model.run_id, FILES_DIGEST_TAG, "f" * 64)
        else:
            client.set_model_version_tag(model.name, model.version, FILES_DIGEST_TAG, "f" * 64)
        with pytest.raises(ModelError, match=r"tampered with or damaged.*Expected: f{12}…"):
            Predictor.load(versions.settings)

    def test_facts_are_those_of_the_training(self, versions: Versions) -> None:
        tags = {
            "model_type": "xgboost",
            "mlops.model-hash": "abc",
            "feature_version": "v2",
            "mlops.as-of": "2024-06-30",
            "mlops.evaluation-date": "2024-04-01",
            "mlops.training-dates": "2024-01-02,2023-12-03,2023-11-03",
        }
        model = versions.add(versions.pipeline, run_tags=tags)
        assert Predictor.load(versions.settings).facts == {
            "training_run_id": model.run_id,
            "model_type": "xgboost",
            "model_hash": "abc",
            "feature_version": "v2",
            "as_of": "2024-06-30",
            "evaluation_date": "2024-04-01",
            "first_training_date": "2023-11-03",
            "last_training_date": "2024-01-02",
        }


def test_made_up_rows_are_valid_and_of_every_kind() -> None:
    schema = RowSchema.of(load_settings())
    known = {"preferred_category": ["books", "toys"]}
    rows = trial_rows(schema, known)
    assert rows == trial_rows(schema, known)
    assert [faults for row in rows for _, faults in [schema.check(row)] if faults] == []
    assert {row["preferred_category"] for row in rows} >= {"books", "toys", "never seen"}
    for column in schema.columns:
        values = [row[column.name] for row in rows]
        assert len(set(values)) > 2
        assert column.ge is None or column.ge in values
