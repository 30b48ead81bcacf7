"""One small shop with a training set and an MLflow of its own, made once: tests add runs to it, and take none away."""

from __future__ import annotations

import pytest

from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, Shop, history, open_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Silver, features of all labelled days and of the last one, and the published training set."""
    made = open_shop(load_settings(home=tmp_path_factory.mktemp("shop") / "home"), history(), also=[AS_OF])
    made.lake.publish(made.draft())
    return made


@pytest.fixture(scope="session")
def mlflow(shop: Shop) -> MLflowManager:
    """MLflow on SQLite in the shop's home."""
    return MLflowManager(shop.settings)
