"""One small shop with a training set and an MLflow of its own, made once: tests may add to it, and take nothing away.

And modules of a user's own features. Does not belong here: what a shop is (`training_pipeline/worlds.py`; it is
imported when a test first asks for it), or what stands in a module (`own_features.py`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mlops_platform.contracts import load_feature_set
from mlops_platform.settings import load_settings
from mlops_platform_tests.unit.own_features import write_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform_tests.unit.own_features import Declare
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


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """Writes a module of features that can be imported, and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    # Python's cache of compiled modules goes by the second: one written over within it would be found there.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(*features: str, name: str | None = None) -> str:
        return write_module(tmp_path, *features, name=name)

    yield written
    load_feature_set.cache_clear()
