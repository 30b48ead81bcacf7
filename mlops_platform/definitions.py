"""The code location: `build_definitions(settings)`; nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlops_platform.orchestration.alert_sensors import alert_sensors
from mlops_platform.orchestration.assets.features import feature_assets
from mlops_platform.orchestration.assets.inference import inference_assets
from mlops_platform.orchestration.assets.lake import lake_assets
from mlops_platform.orchestration.assets.training import training_assets
from mlops_platform.orchestration.executor import in_tagged_process
from mlops_platform.orchestration.freshness import with_freshness
from mlops_platform.orchestration.jobs import asset_jobs, schedules, sensors
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.orchestration.resources import make_resources
from mlops_platform.settings import Settings, apply_exports, load_settings


def build_definitions(settings: Settings, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything Dagster runs for one home. Opens nothing.

    Args:
        settings: The home.
        resources: Replacements of resources by key, for tests.
    """
    partitions = Partitions(settings)
    return dg.Definitions(
        assets=with_freshness(
            settings,
            [
                *lake_assets(),
                *feature_assets(partitions),
                *training_assets(partitions),
                *inference_assets(partitions),
            ],
        ),
        jobs=asset_jobs(),
        schedules=schedules(partitions),
        sensors=[*sensors(partitions), *alert_sensors(partitions)],
        resources=make_resources(settings) | dict(resources or {}),
        executor=in_tagged_process,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that workspace.yaml names, for the home the environment names."""
    settings = load_settings()
    apply_exports(settings)
    return build_definitions(settings)
