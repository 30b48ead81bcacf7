"""The performance report as a Dagster asset: which day is the last complete one, what a run shows and writes.

Does not belong here: the figures themselves.
"""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from mlops_platform.contracts import PERFORMANCE
from mlops_platform.contracts.ml import ALL_SEGMENTS
from mlops_platform.definitions import build_definitions
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.monitoring.test_performance import DAY, HISTORY, D, R, everyone
from mlops_platform_tests.unit.monitoring.test_performance_tables import predict, sell

ASSET = dg.AssetKey(["monitoring", "performance_report"])


def test_an_estimate_until_the_home_has_reached_the_day(lake: Lake) -> None:
    sell(lake, HISTORY)
    predict(lake, everyone())
    with dg.DagsterInstance.ephemeral() as instance:
        for as_of, shown in ((R - DAY, (0, 5, R - DAY)), (R, (5, 0, R))):
            settings = lake.settings.model_copy(update={"as_of": as_of, "history_start": D - timedelta(days=1)})
            result = (
                build_definitions(settings)
                .resolve_job_def("ingest_and_features")
                .execute_in_process(
                    instance=instance,
                    asset_selection=[ASSET],
                    partition_key=R.isoformat(),
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                )
            )
            assert all(check.passed for check in result.get_asset_check_evaluations())
            [event] = result.asset_materializations_for_node(ASSET.to_python_identifier())
            found = {name: value.value for name, value in event.metadata.items()}
            names = ("predictions", "estimated_predictions", "labels_known_until")
            assert (*(found[name] for name in names[:2]), date.fromisoformat(str(found[names[2]]))) == shown
            everybody = lake.snapshot(PERFORMANCE).to_arrow(where=[Condition("segment", "=", ALL_SEGMENTS)]).to_pylist()
            assert [row["is_estimate"] for row in everybody] == [as_of < R]
