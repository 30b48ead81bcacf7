"""The best possible ROC-AUC: through the tables it is that of the posterior of the generator's own purchases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from mlops_platform.contracts import STANDARD
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.data_pipeline.crm import TRANSACTIONS
from mlops_platform.data_pipeline.crm_load import seed, synthetic_model
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.posterior import no_purchase_probability
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.synthetic import generate
from mlops_platform.data_pipeline.synthetic_model import Dirt, Segment, SyntheticModel
from mlops_platform.data_pipeline.transformations import TRANSACTIONS as SILVER
from mlops_platform.orchestration.best_possible import best_possible_auc
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.oracles.labels import churned, population
from mlops_platform_tests.oracles.silver import silver

UNTIL = date(2024, 6, 30)
EVALUATION = UNTIL - timedelta(days=90)
AT = datetime(2024, 7, 2, tzinfo=UTC)
SEED: dict[str, Any] = {"customers": 220, "days": 400, "seed": 5, "until": UNTIL}
SEGMENTS = (
    Segment("often", 0.5, 1.2, 15.0, 0.7, 10.0, (1, 1, 3, 1, 1, 1), (1, 2, 1, 1)),
    Segment("seldom", 0.5, 1.0, 60.0, 0.8, 9.0, (3, 1, 1, 1, 1, 1), (2, 1, 1, 1)),
)
# A lot of dirt: none of it may move a probability.
MODEL = SyntheticModel(segments=SEGMENTS, dirt=Dirt(0.1, 0.1, 0.1, 0.02, 0.1))


def true_purchases() -> list[Purchase]:
    """The generator's rows, cleaned by silver's oracle."""
    made = generate(**SEED, model=MODEL).transactions.to_pylist()
    raw = [{name: None if value is None else str(value) for name, value in row.items()} for row in made]
    return [row.as_purchase() for row in silver(enumerate(raw)).kept.values()]


def direct_auc(purchases: list[Purchase]) -> float:
    """ROC-AUC of the posterior, computed from lists: no table, no SQL."""
    known = [p for p in purchases if p.amount > 0 and p.day <= EVALUATION]
    table = pa.table(
        {
            "customer_id": [p.customer_id for p in known],
            "transaction_ts": pa.array([p.local_ts for p in known], pa.timestamp("us")),
            "category": pa.array([p.category for p in known], pa.string()),
            "payment_method": pa.array([p.payment_method for p in known], pa.string()),
        }
    )
    best = no_purchase_probability(MODEL, table, EVALUATION, 90)
    chances = dict(zip(best["customer_id"].to_pylist(), best["probability"].to_pylist(), strict=True))
    labels = churned(purchases, EVALUATION)
    inside = sorted(population(purchases, EVALUATION, 365))
    return float(roc_auc_score([labels[c] for c in inside], [chances[c] for c in inside]))


@pytest.mark.parametrize("timezone", ["UTC", "America/Sao_Paulo"])
def test_it_is_that_of_the_posterior_of_the_true_purchases(tmp_path: Path, timezone: str) -> None:
    lake = Lake(load_settings(home=tmp_path / "home", timezone=timezone, max_rejected_share=0.5))
    url = f"sqlite:///{tmp_path / 'crm.db'}"
    seed(url, **SEED, model=MODEL)
    lake.publish(new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=AT))
    lake.publish(silver_draft(lake, SILVER))
    purchases = true_purchases()
    lake.publish(Draft(STANDARD.training_set, held_out(purchases)))
    assert synthetic_model(url) == MODEL
    found = best_possible_auc(lake, MODEL, EVALUATION)
    assert found == pytest.approx(direct_auc(purchases), abs=1e-9)
    assert 0.6 < found < 0.95


def held_out(purchases: list[Purchase]) -> pa.Table:
    """Rows of ml.training_set: the population with its labels as test rows, and train rows of the wrong labels."""
    labels = churned(purchases, EVALUATION)
    inside = sorted(population(purchases, EVALUATION, 365))
    schema = arrow_schema(STANDARD.training_set)
    plain = {f.name: "bronze" if pa.types.is_string(f.type) else 0 for f in schema}
    scores = dict.fromkeys(("recency_score", "frequency_score", "monetary_score"), 1)
    rows = [
        {**plain, **scores, "split": split, "customer_id": c, "feature_date": day, "churned": label}
        for c in inside
        for split, day, label in (
            ("test", EVALUATION, labels[c]),
            ("train", EVALUATION - timedelta(days=90), 1 - labels[c]),
        )
    ]
    return pa.Table.from_pylist(rows, schema=schema)
