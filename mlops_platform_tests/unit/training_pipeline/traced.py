"""A small shop whose rows came in batches, one a month, and versions trained and served in it. Not here: assertions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlops_platform.contracts import BRONZE_TRANSACTIONS, PREDICTIONS, SILVER_TRANSACTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.feature_pipeline.load import features_draft
from mlops_platform.inference_pipeline.batch import predictions
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition, all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.labels import labelled_dates
from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel
from mlops_platform.training_pipeline.train import MODEL_TYPE_TAG, THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG, train
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, AT, Shop, history, silver_rows

SMALL = {"n_estimators": 8, "min_child_weight": 1}
TICK = datetime(2024, 7, 1, tzinfo=UTC)
UNUSED_BATCH = "batch-of-nobody"


@dataclass(frozen=True)
class Traced:
    """The shop, its MLflow, and how a version comes to be."""

    shop: Shop
    manager: MLflowManager

    @property
    def lake(self) -> Lake:
        """The shop's tables."""
        return self.shop.lake

    def version(
        self, name: str, *, hyperparameters: Mapping[str, Any] | None = None, model_type: str = "xgboost", **tags: str
    ) -> RegisteredModel:
        """A version trained on the shop's training set."""
        settings = self.shop.settings.model_copy(update={"experiment_name": name, "model_name": name})
        trained = train(
            settings,
            self.manager,
            self.shop.training,
            model_type=model_type,
            hyperparameters=hyperparameters if hyperparameters is not None else SMALL,
            tags=tags,
        )
        found = {
            THRESHOLD_TAG: repr(trained.threshold),
            TRAINING_SNAPSHOT_TAG: str(trained.training_snapshot_id),
            MODEL_TYPE_TAG: model_type,
        }
        return self.manager.register_model(trained.model_uri, name, found)

    def predict(self, model: RegisteredModel) -> pa.Table:
        """The version's predictions for the shop's last day at a tick of their own, not published."""
        predictor = Predictor.load(self.shop.settings, version=model)
        held = self.lake.snapshot(PREDICTIONS).to_arrow(["tick"])["tick"].to_pylist()
        # A prediction's id does not name the model: versions of two models must not share a tick.
        tick = max(held) + timedelta(hours=6) if held else TICK
        features = self.shop.features
        draft = predictions(
            self.shop.settings, predictor, features, feature_date=AS_OF, tick=tick, created_at=AT + timedelta(hours=1)
        )
        assert isinstance(draft.rows, pa.Table)
        return draft.rows

    def publish(self, rows: pa.Table) -> None:
        """Publishes predictions of a tick."""
        self.lake.publish(Draft(PREDICTIONS, rows, scope=(Condition("tick", "=", rows["tick"][0].as_py()),)))

    def serve(self, name: str, **arguments: Any) -> RegisteredModel:
        """A version whose predictions are published."""
        model = self.version(name, **arguments)
        self.publish(self.predict(model))
        return model


def batch_of(day: date) -> str:
    """The batch a purchase of that day came in."""
    return f"batch-{day:%Y-%m}"


def ingested_at(day: date) -> datetime:
    """When that batch came in."""
    return datetime(day.year, day.month, 1, 6, tzinfo=UTC) + timedelta(days=35)


def open_traced(home: Path, customers: int = 120) -> Traced:
    """Bronze, silver, features of all labelled days and of the last one, and the published training set."""
    bought = history(customers=customers)
    settings = load_settings(home=home, history_start=min(p.day for p in bought))
    shop = Shop(Lake(settings), bought, AS_OF)
    shop.lake.publish(Draft(BRONZE_TRANSACTIONS, _bronze_rows(bought)))
    rows = silver_rows(settings, bought)
    batches = pa.array([batch_of(p.day) for p in bought])
    rows = rows.set_column(rows.column_names.index("_batch_id"), rows.schema.field("_batch_id"), batches)
    shop.lake.publish(Draft(SILVER_TRANSACTIONS, rows, scope=all_time("transaction_ts")))
    days = labelled_dates(AS_OF, settings.first_partition_day, settings.horizon_days).all
    shop.lake.publish(features_draft(shop.lake, shop.transactions, [*days, AS_OF], created_at=AT))
    shop.lake.publish(shop.draft())
    return Traced(shop, MLflowManager(settings))


def _bronze_rows(bought: list[Purchase]) -> pa.Table:
    rows = [
        {
            "transaction_id": f"t{number}",
            "customer_id": p.customer_id,
            "_ingested_at": ingested_at(p.day),
            "_batch_id": batch_of(p.day),
            "_source": "test",
        }
        for number, p in enumerate(bought)
    ]
    unused = {"transaction_id": "x", "_ingested_at": AT, "_batch_id": UNUSED_BATCH, "_source": "test"}
    return pa.Table.from_pylist([*rows, unused], schema=arrow_schema(BRONZE_TRANSACTIONS))
