"""Inference and monitoring assets."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.inference_pipeline import batch
from mlops_platform.inference_pipeline.batch import InferenceInput
from mlops_platform.inference_pipeline.prediction_log import REJECTED_CHECK, collect
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.monitoring import performance, tick
from mlops_platform.orchestration.drift_shown import drift_metadata
from mlops_platform.orchestration.partitions import SINGLE_RUN, Partitions, window_before
from mlops_platform.orchestration.tables import propose, reference_asset, table_asset
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel

_FEATURES = dg.AssetIn(["feature_store", "customer_features"], partition_mapping=window_before())
_SERVING_MODEL = dg.AssetIn(["ml", "serving_model"])


def inference_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """The assets of a 6-hour tick, and those that watch predictions afterwards."""
    zone = partitions.settings.zone

    @reference_asset(
        ["ml", "inference_input"],
        kinds={"iceberg"},
        description="Which rows the tick scores: the population at the feature_date before it, by snapshot.",
        partitions_def=partitions.ticks,
        ins={"features": _FEATURES},
    )
    def inference_input(
        context: dg.AssetExecutionContext, features: TableSnapshot, lake: dg.ResourceParam[Lake]
    ) -> dg.Output[InferenceInput]:
        day = clock.feature_date_of(partitions.tick(context.partition_key), zone)
        found = batch.inference_input(lake.settings, features, day)
        outside = found.outside_population
        return dg.Output(found, metadata={"dagster/partition_row_count": found.rows, "outside_population": outside})

    @reference_asset(
        ["ml", "serving_model"],
        kinds={"mlflow"},
        description="The model version that was in Production when the tick was scored.",
        partitions_def=partitions.ticks,
        deps=[["ml", "production_model"]],
    )
    def serving_model(
        lake: dg.ResourceParam[Lake], mlflow: dg.ResourceParam[MLflowManager]
    ) -> dg.Output[RegisteredModel]:
        model = mlflow.production(lake.settings.model_name)
        return dg.Output(model, metadata={"name": model.name, "version": model.version, "run_id": model.run_id})

    @table_asset(
        ["ml", "predictions"],
        partitions_def=partitions.ticks,
        ins={
            "inference_input": dg.AssetIn(["ml", "inference_input"]),
            "serving_model": _SERVING_MODEL,
            "features": _FEATURES,
        },
    )
    def predictions(
        context: dg.AssetExecutionContext,
        inference_input: InferenceInput,
        serving_model: RegisteredModel,
        features: TableSnapshot,
        lake: dg.ResourceParam[Lake],
    ) -> Iterator[Any]:
        draft = batch.predictions(
            lake.settings,
            Predictor.load(lake.settings, version=serving_model),
            features.at(inference_input.snapshot_id),
            feature_date=inference_input.feature_date,
            tick=partitions.tick(context.partition_key),
            created_at=clock.now(lake.settings),
            note=context.log.info,
        )
        yield from propose(lake.settings, draft)

    @table_asset(
        ["monitoring", "drift_report"],
        kinds={"evidently", "scipy", "iceberg"},
        extra_checks=[tick.NO_DRIFT_CHECK],
        partitions_def=partitions.ticks,
        ins={
            "predictions": dg.AssetIn(["ml", "predictions"]),
            "serving_model": _SERVING_MODEL,
            "features": _FEATURES,
        },
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        predictions: TableSnapshot,
        serving_model: RegisteredModel,
        features: TableSnapshot,
        lake: dg.ResourceParam[Lake],
    ) -> Iterator[Any]:
        predictor = Predictor.load(lake.settings, version=serving_model)
        training = lake.snapshot(lake.features.training_set, snapshot_id=predictor.training_snapshot_id)
        window = partitions.tick(context.partition_key)
        report = tick.drift_report(
            lake.settings,
            batch.reference_rows(lake.settings, predictor, training),
            tick.scored_rows(lake.settings, features, predictions, window, predictor.feature_names),
            tick=window,
            model_name=serving_model.name,
            model_version=serving_model.version,
            created_at=clock.now(lake.settings),
        )
        yield from propose(lake.settings, report.draft, drift_metadata(report, lake.settings.reports_url))

    @table_asset(
        ["monitoring", "performance_report"],
        partitions_def=partitions.days,
        backfill_policy=SINGLE_RUN,
        ins={"transactions": dg.AssetIn(["silver", "transactions"])},
        deps=[
            dg.AssetDep(["ml", "predictions"], partition_mapping=dg.LastPartitionMapping()),
            ["ml", "online_predictions"],
            ["feature_store", "customer_features"],
        ],
    )
    def performance_report(
        context: dg.AssetExecutionContext, transactions: TableSnapshot, lake: dg.ResourceParam[Lake]
    ) -> Iterator[Any]:
        first, last = partitions.day_span(context)
        now = clock.now(lake.settings)
        draft = performance.performance_report(
            lake.settings,
            performance.Tables.of(lake, transactions),
            first=first,
            last=last,
            as_of=clock.last_complete_day(now, zone),
            created_at=now,
        )
        yield from propose(lake.settings, draft)

    @table_asset(["ml", "online_predictions"], extra_checks=[REJECTED_CHECK])
    def online_predictions(lake: dg.ResourceParam[Lake]) -> Iterator[Any]:
        collected = collect(lake)
        yield from propose(lake.settings, collected.draft)
        # Dagster resumes here once the IO manager has committed the output.
        collected.retire()

    return [
        inference_input,
        serving_model,
        predictions,
        drift_report,
        performance_report,
        online_predictions,
    ]
