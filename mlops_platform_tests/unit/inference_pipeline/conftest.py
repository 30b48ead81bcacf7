"""One home with MLflow and a small fitted model for this folder's tests; each test takes a model name of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_platform.settings import load_settings

if TYPE_CHECKING:
    from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import Versions
    from mlops_platform_tests.unit.training_pipeline.worlds import Shop


@pytest.fixture(scope="package")
def home_of_versions(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """The home, with no version in it yet."""
    from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import Versions, fitted

    return Versions(load_settings(home=tmp_path_factory.mktemp("versions") / "home"), fitted(shop))


@pytest.fixture
def versions(home_of_versions: Versions, request: pytest.FixtureRequest) -> Versions:
    """The home, with a model name that no other test has."""
    return home_of_versions.named(request.node.nodeid.rpartition("::")[2].replace("/", "-").replace(":", "-"))
