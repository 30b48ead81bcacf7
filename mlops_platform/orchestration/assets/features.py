"""The feature store's asset, and the service's copy of its latest day."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.contracts import load_feature_set
from mlops_platform.feature_pipeline.load import days_between, features_draft
from mlops_platform.inference_pipeline.online_store import materialize
from mlops_platform.orchestration.partitions import SINGLE_RUN, Partitions
from mlops_platform.orchestration.tables import propose, table_asset
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.read import TableSnapshot


def feature_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """customer_features, one partition a feature_date (a range of them is one run), and the online store."""

    @table_asset(
        ["feature_store", "customer_features"],
        features=load_feature_set(partitions.settings.features_module),
        ins={"transactions": dg.AssetIn(["silver", "transactions"])},
        partitions_def=partitions.days,
        backfill_policy=SINGLE_RUN,
    )
    def customer_features(
        context: dg.AssetExecutionContext, transactions: TableSnapshot, lake: dg.ResourceParam[Lake]
    ) -> Iterator[Any]:
        first, last = partitions.day_span(context)
        created_at = clock.now(lake.settings)
        draft = features_draft(lake, transactions, days_between(first, last), created_at=created_at)
        yield from propose(lake.settings, draft)

    @dg.asset(
        key=["ml", "online_store"],
        group_name="ml",
        kinds={"sqlite"},
        owners=["team:data-science"],
        description="Every customer's latest features, in the file where the service looks customers up.",
        deps=[["feature_store", "customer_features"]],
    )
    def online_store(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[Any]:
        state = materialize(lake)
        return dg.MaterializeResult(
            metadata={"dagster/row_count": state.customers, "feature_date": state.feature_date.isoformat()}
        )

    return [customer_features, online_store]
