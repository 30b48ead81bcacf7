"""The training job as `mlops train` runs it: the model type asked for is the one that is trained.

Does not belong here: what a training does (`unit/training_pipeline`).
"""

from __future__ import annotations

import pytest

from mlops_platform.definitions import build_definitions
from mlops_platform.errors import InputError
from mlops_platform.orchestration.demo import run_training
from mlops_platform.settings import Settings
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, history, open_shop


def test_the_model_type_reaches_the_model(home: Settings) -> None:
    settings = open_shop(home, history(days=220)).settings
    decision = run_training(
        settings, build_definitions, as_of=AS_OF, progress=lambda _: None, model_type="logistic_regression"
    )
    assert decision.model.tags["model_type"] == "logistic_regression"
    model = MLflowManager(settings).load_model(decision.model.run_id)
    assert list(model["classifier"].classifier.named_steps) == ["log", "scale", "logistic"]


def test_an_unknown_one_is_refused_before_anything_runs(home: Settings) -> None:
    told: list[str] = []
    with pytest.raises(InputError, match=r"'prophet' is no model type\. Expected: one of average"):
        run_training(home, build_definitions, as_of=AS_OF, progress=told.append, model_type="prophet")
    assert not told
    assert not home.home.exists()
