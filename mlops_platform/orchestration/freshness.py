"""By when each asset has to be made: Dagster's freshness policies, from the cadence of the job that makes it.

Does not belong here: the cadence (`jobs.py`), telling anybody (`alert_sensors.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.orchestration.jobs import INFERENCE, INGEST, TRAINING, asset_keys

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

# Job → the deadline of what it makes, and how long before it the making may begin. Ingestion is over before training
# starts at 2 o'clock, training before people start work, and scoring an hour after each 6-hour window has ended.
_DEADLINES = {
    TRAINING: ("0 6 * * *", timedelta(hours=4)),
    INGEST: ("0 2 * * *", timedelta(hours=2)),
    INFERENCE: ("0 1,7,13,19 * * *", timedelta(hours=1)),
}


def deadlines() -> dict[dg.AssetKey, str]:
    """Every asset that a scheduled job makes → that job; of two, the one with the earlier deadline.

    What the prediction log brings has none: without requests there is nothing to make.
    """
    return {key: job for job in _DEADLINES for key in asset_keys(job)}


def with_freshness(settings: Settings, assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets with their policies."""
    made_by = deadlines()

    def policy(key: dg.AssetKey) -> dg.FreshnessPolicy | None:
        if key not in made_by:
            return None
        cron, window = _DEADLINES[made_by[key]]
        return dg.FreshnessPolicy.cron(deadline_cron=cron, lower_bound_delta=window, timezone=settings.timezone)

    return [
        asset.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=policy(spec.key)))
        for asset in assets
    ]
