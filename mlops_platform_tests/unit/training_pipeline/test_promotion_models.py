"""The gate on models that were really trained: what is no better than a baseline stays out, what is better gets in.

Customers buy every 4 or every 70 days, so that a month of silence means much of one and nothing of the other: recency
alone says little. Does not belong here: the gate on simulated scores (`test_promotion.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_platform.contracts.ml import TARGET
from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline import models
from mlops_platform.training_pipeline.held_out import evaluate_held_out
from mlops_platform.training_pipeline.promotion import Decision, decide
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager
from mlops_platform.training_pipeline.train import FitRows, train_on
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.unit.training_pipeline.versions_at_work import decisions, later
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, Shop, open_shop

RECENCY = "days_since_last_transaction"
DAYS = 330
SOME = (RECENCY, "total_transactions_365d")


def rhythms(customers: int = 250, seed: int = 5) -> list[Purchase]:
    """Purchases of customers with one of two rhythms."""
    draw = random.Random(seed)
    found: list[Purchase] = []
    for number in range(customers):
        day = draw.uniform(0, DAYS * 0.6)
        gap, leaving = draw.choice([(4, 0.05), (70, 0.08)])
        while day < DAYS:
            moment = datetime.combine(AS_OF, datetime.min.time()) + timedelta(days=1 - DAYS + day)
            found.append(Purchase(f"c{number}", moment.replace(microsecond=0), Decimal("10.00"), "books", "card"))
            if draw.random() < leaving:
                break
            day += gap * draw.uniform(0.8, 1.2)
    return found


class Gate:
    """A shop of two rhythms, and the gate under a model name of one's own."""

    def __init__(self, shop: Shop, mlflow: MLflowManager, name: str) -> None:
        self.shop, self.mlflow = shop, mlflow
        self.settings = shop.settings.model_copy(update={"model_name": name})

    def rows(self) -> pa.Table:
        """The training set."""
        return self.shop.training.to_arrow(order_by=("feature_date", "customer_id"))

    def judge(
        self,
        model_type: str = "logistic_regression",
        features: tuple[str, ...] | None = None,
        read: Callable[[], pa.Table] | None = None,
        hour: int = 0,
    ) -> Decision:
        """Trains, evaluates, decides and records."""
        names = features or tuple(self.shop.lake.features.names)
        read = read or self.rows
        rows = FitRows(read, names, f"{names} of {read.__name__}", training=self.shop.training)
        trained = train_on(self.settings, self.mlflow, rows, model_type=model_type)
        evaluation = evaluate_held_out(self.settings, self.mlflow, self.shop.training, trained)
        decision, draft = decide(
            self.settings, self.mlflow, self.shop.lake, trained, evaluation, decided_at=later(hour)
        )
        self.shop.lake.publish(draft)
        return decision

    def recorded(self) -> list[tuple[str, str]]:
        """Decision and reason of every row."""
        return [(row["decision"], row["reason"]) for row in decisions(self.shop.lake, self.settings.model_name)]


@pytest.fixture(scope="module")
def two_rhythms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, MLflowManager]:
    shop = open_shop(load_settings(home=tmp_path_factory.mktemp("rhythms") / "home"), rhythms())
    shop.lake.publish(shop.draft())
    return shop, MLflowManager(shop.settings)


@pytest.fixture
def the_gate(two_rhythms: tuple[Shop, MLflowManager], request: pytest.FixtureRequest) -> Gate:
    return Gate(*two_rhythms, request.node.name)


@pytest.fixture
def coin() -> Iterator[str]:
    """A model type that draws its scores."""

    @models.model_type("coin")
    def coin() -> Any:
        from sklearn.dummy import DummyClassifier

        return DummyClassifier(strategy="stratified", random_state=5)

    yield "coin"
    del models.MODEL_TYPES["coin"]


def refused(the_gate: Gate, decision: Decision, reason: str) -> None:
    """The model is out, with this reason, and the reason is recorded."""
    assert not decision.promoted
    assert decision.reason.startswith(reason)
    assert the_gate.recorded()[-1] == ("refused", decision.reason)
    production = the_gate.mlflow.in_stage(the_gate.settings.model_name, PRODUCTION)
    assert production is None or production.version != decision.model.version


def test_a_random_model_is_refused(the_gate: Gate, coin: str) -> None:
    decision = the_gate.judge(coin)
    assert 0.4 < decision.evaluation.metrics.roc_auc < 0.6
    refused(the_gate, decision, "does not beat recency-only")


def test_a_recency_only_model_is_refused(the_gate: Gate) -> None:
    decision = the_gate.judge(features=(RECENCY,))
    assert decision.evaluation.recency.difference == pytest.approx(0, abs=0.005)
    refused(the_gate, decision, "does not beat recency-only")


def test_one_trained_on_shuffled_labels_is_refused(the_gate: Gate) -> None:
    def shuffled() -> pa.Table:
        rows = the_gate.rows()
        place = rows.column_names.index(TARGET)
        labels = np.random.default_rng(3).permutation(rows[TARGET].to_numpy())
        return rows.set_column(place, rows.schema.field(place), pa.array(labels, rows.schema.field(place).type))

    refused(the_gate, the_gate.judge(read=shuffled), "does not beat recency-only")


def test_churn_score_itself_beats_nothing(the_gate: Gate) -> None:
    refused(the_gate, the_gate.judge(features=("churn_score",)), "does not beat recency-only")


def test_a_worse_challenger_is_refused_and_the_champion_stays(the_gate: Gate) -> None:
    champion = the_gate.judge()
    assert (champion.promoted, champion.reason) == (True, "passed every condition")
    challenger = the_gate.judge(features=SOME, hour=1)
    assert challenger.evaluation.recency.lower > 0
    refused(the_gate, challenger, "is worse than the champion, version 1: ROC-AUC")
    assert the_gate.mlflow.production(the_gate.settings.model_name).version == "1"


def test_a_better_challenger_passes(the_gate: Gate) -> None:
    assert the_gate.judge(features=SOME).promoted
    better = the_gate.judge(hour=1)
    assert better.promoted
    assert better.evaluation.champion is not None
    assert better.evaluation.champion.difference > 0
    assert the_gate.mlflow.production(the_gate.settings.model_name).version == "2"
    assert the_gate.recorded() == [("promoted", "passed every condition")] * 2
    # Once more with the same inputs: the same version, no row.
    assert the_gate.judge(hour=2).model.version == "2"
    assert len(the_gate.recorded()) == 2
