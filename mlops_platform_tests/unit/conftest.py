"""One small shop with a training set and an MLflow of its own, made once: tests may add to it, and take nothing away.

Does not belong here: what a shop is (`training_pipeline/worlds.py`); it is imported when a test first asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_platform.settings import load_settings

if TYPE_CHECKING:
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform_tests.unit.training_pipeline.worlds import Shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Silver, features of all labelled days and of the last one, and the published training set."""
    from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, history, open_shop

    made = open_shop(load_settings(home=tmp_path_factory.mktemp("shop") / "home"), history(), also=[AS_OF])
    made.lake.publish(made.draft())
    return made


@pytest.fixture(scope="session")
def mlflow(shop: Shop) -> MLflowManager:
    """MLflow on SQLite in the shop's home."""
    from mlops_platform.training_pipeline.registry import MLflowManager

    return MLflowManager(shop.settings)
