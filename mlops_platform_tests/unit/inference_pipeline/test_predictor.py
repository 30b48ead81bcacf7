"""The one scoring path, for whatever type of model is behind it."""

from __future__ import annotations

import pytest

from mlops_platform.errors import ModelError
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import RegisteredModel
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
