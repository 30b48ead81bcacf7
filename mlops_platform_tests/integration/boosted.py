"""Versions to serve as training makes them: a calibrated XGBoost with its serving form, on rows made up from a seed.

Does not belong here: assertions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from mlops_platform.settings import Settings
from mlops_platform.training_pipeline.calibration import CalibratedClassifier
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform_tests.integration.servers import features_table
from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import Versions

ROWS = 600


def boosted_pipeline() -> Any:
    """A small fitted Pipeline; who has been silent for long has churned, more or less."""
    rows = features_table(ROWS, seed=1)
    churned = rows["days_since_last_transaction"].to_numpy() > np.random.default_rng(1).uniform(20, 70, ROWS)
    fitted = make_model(hyperparameters={"n_estimators": 20, "min_child_weight": 1}).fit(rows, churned.astype(int))
    matrix = fitted["features"].transform(rows)
    calibrated = CalibratedClassifier(fitted["classifier"]).fit(matrix, churned)
    return Pipeline([("features", fitted["features"]), ("classifier", calibrated)])


def boosted_versions(settings: Settings, count: int) -> list[RegisteredModel]:
    """Registers versions that differ in the level of their probabilities; the last one is in Production."""
    settings.home.mkdir(exist_ok=True)
    versions = Versions(settings, boosted_pipeline())
    return [versions.add(versions.variant(number / 4)) for number in range(count)]
