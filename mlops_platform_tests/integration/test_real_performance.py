"""Delayed labels on CDNOW: predictions as of 1998-01-01, judged as of 1998-06-30, against pandas and scikit-learn.

Expected figures come from the data set's file alone: labels, segments, metrics. Does not belong here: how good the
predictions are (they are the feature churn_score, and recency as another version).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import metrics

from mlops_platform.contracts import ONLINE_PREDICTIONS, PERFORMANCE, PREDICTIONS, SILVER_TRANSACTIONS, STANDARD
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.monitoring.performance import Tables, performance_report
from mlops_platform.storage.conditions import Condition, day_range
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.pseudonym import customer_hmacs
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration.test_real_data import CDNOW, DATA, Imported

D, AS_OF, HORIZON = date(1998, 1, 1), date(1998, 6, 30), timedelta(days=90)
TICK = datetime(1998, 1, 2, tzinfo=UTC)
FILE = DATA / "cdnow" / "transactions.parquet"
METRICS = ("rows", "churn_rate", "accuracy", "f1", "roc_auc", "brier")
BOUNDS = ("accuracy_lower", "accuracy_upper", "roc_auc_lower", "roc_auc_upper")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """CDNOW ingested, with the features and the predictions of one day."""
    if not FILE.is_file():
        pytest.skip("no cdnow in ../shared/data beside the project")
    found = Imported(CDNOW, tmp_path_factory.mktemp("cdnow")).lake
    features = compute_features(found.settings, found.snapshot(SILVER_TRANSACTIONS), [D], created_at=TICK)
    found.publish(Draft(STANDARD.customer_features, features, scope=day_range("feature_date", D, D)))
    _predict(found, features.to_pandas())
    return found


def _predict(lake: Lake, features: pd.DataFrame) -> None:
    """Two versions score every customer; the service was asked for every third one, twice."""
    chances = {"1": features["churn_score"], "2": 1 - np.exp(-features["days_since_last_transaction"] / 100)}
    common = {"model_name": "churn", "inference_latency_ms": 0.1}
    scores = pd.concat(
        features[["customer_id", "customer_segment"]].assign(model_version=version, churn_probability=chance, **common)
        for version, chance in chances.items()
    )
    scores["prediction"] = (scores["churn_probability"] >= 0.6).astype(int)
    scores["confidence"] = np.maximum(scores["churn_probability"], 1 - scores["churn_probability"])
    scores["prediction_id"] = scores["customer_id"] + "/" + scores["model_version"]
    batch = scores.assign(feature_date=D, tick=TICK, feature_snapshot_id=1, _created_at=TICK)
    _publish(lake, PREDICTIONS, batch, scope=(Condition("tick", "=", TICK),))
    asked = scores[scores["model_version"] == "1"].iloc[::3]
    asked = asked.assign(
        customer_hmac=customer_hmacs(lake.settings, asked["customer_id"]),
        features='{"customer_segment": "' + asked["customer_segment"] + '"}',
        predicted_at=TICK + timedelta(hours=20),
    )
    earlier = asked.assign(
        churn_probability=0.5, predicted_at=TICK, prediction_id="earlier/" + asked["customer_id"], prediction=1
    )
    _publish(lake, ONLINE_PREDICTIONS, pd.concat([asked, earlier]))


def _publish(lake: Lake, contract: Any, rows: pd.DataFrame, **more: Any) -> None:
    schema = arrow_schema(contract)
    lake.publish(Draft(contract, pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False), **more))


def _report(lake: Lake, day: date) -> pd.DataFrame:
    """monitoring.performance after the report of a day, which is the last complete one."""
    tables = Tables.of(lake, lake.snapshot(SILVER_TRANSACTIONS))
    draft = performance_report(lake.settings, tables, first=day, last=day, as_of=day, created_at=TICK)
    assert lake.publish(draft).snapshot_id == lake.publish(draft).snapshot_id
    return lake.snapshot(PERFORMANCE).to_arrow().to_pandas().set_index(["source", "model_version", "segment"])


def _expected(lake: Lake) -> dict[tuple[str, str, str], dict[str, float]]:
    """The figures from the file: who bought in the 90 days, and who spent what in the 365 days before."""
    sales = pd.read_parquet(FILE, columns=["customer_id", "transaction_ts", "amount"])
    sales = sales[sales["amount"] > 0].assign(day=sales["transaction_ts"].dt.tz_localize(None).dt.normalize())
    start = pd.Timestamp(D)
    came_back = set(sales[(sales["day"] > start) & (sales["day"] <= start + HORIZON)]["customer_id"])
    year = sales[(sales["day"] <= start) & (sales["day"] > start - timedelta(days=365))]
    cents = year.assign(cents=(year["amount"] * 100).round().astype(int)).groupby("customer_id")["cents"].sum()
    cents = cents.reindex(sales[sales["day"] <= start]["customer_id"].unique(), fill_value=0)
    worse = np.searchsorted(np.sort(cents.to_numpy()), cents.to_numpy(), side="left")
    score = pd.Series(1 + 5 * worse // len(cents), index=cents.index)
    segment = score.map({1: "bronze", 2: "bronze", 3: "regular", 4: "regular", 5: "premium"})
    rows = lake.snapshot(PREDICTIONS).to_arrow(order_by=["prediction_id"]).to_pandas()
    rows["churned"] = (~rows["customer_id"].isin(came_back)).astype(int)
    rows["segment"] = rows["customer_id"].map(segment)
    names = customer_hmacs(lake.settings, rows["customer_id"])
    answered = set(lake.snapshot(ONLINE_PREDICTIONS).to_arrow(["customer_hmac"])["customer_hmac"].to_pylist())
    asked = rows[pd.Series(names).isin(answered) & (rows["model_version"] == "1")]
    return {
        (source, version, name): _figures(part)
        for source, whole in (("batch", rows), ("online", asked))
        for version, of_version in whole.groupby("model_version")
        for name, part in [("all", of_version), *of_version.groupby("segment")]
    }


def _figures(rows: pd.DataFrame) -> dict[str, float]:
    labels, scores = rows["churned"].to_numpy(), rows["churn_probability"].to_numpy()
    accuracy, n, z = metrics.accuracy_score(labels, rows["prediction"]), len(rows), 1.96
    middle, reach = accuracy + z**2 / (2 * n), z * np.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2))
    # DeLong: of each row the share of rows of the other class that it stands in order with.
    positive, negative = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    sides = ("left", "right")
    of_positive = sum(np.searchsorted(negative, positive, side) for side in sides) / (2 * len(negative))
    of_negative = 1 - sum(np.searchsorted(positive, negative, side) for side in sides) / (2 * len(positive))
    spread = z * np.sqrt(of_positive.var(ddof=1) / len(positive) + of_negative.var(ddof=1) / len(negative))
    auc = metrics.roc_auc_score(labels, scores)
    return {
        "rows": n,
        "churn_rate": labels.mean(),
        "accuracy": accuracy,
        "f1": metrics.f1_score(labels, rows["prediction"]),
        "roc_auc": auc,
        "brier": metrics.brier_score_loss(labels, scores),
        "accuracy_lower": (middle - reach) / (1 + z**2 / n),
        "accuracy_upper": (middle + reach) / (1 + z**2 / n),
        "roc_auc_lower": auc - spread,
        "roc_auc_upper": auc + spread,
    }


def test_estimated_at_first_and_in_the_end_as_by_hand(lake: Lake) -> None:
    estimated = _report(lake, D + timedelta(days=1))
    assert estimated["is_estimate"].all()
    measured = _report(lake, AS_OF)
    assert not measured["is_estimate"].any()
    assert set(measured["report_date"]) == {D + HORIZON}
    expected = _expected(lake)
    assert set(measured.index) == set(estimated.index) == set(expected)
    assert len(expected) == 3 * 4
    for key, figures in expected.items():
        found = measured.loc[key, [*METRICS, *BOUNDS]].to_dict()
        assert found == pytest.approx(figures, rel=1e-9), key
    # Made from what was known on the day: the probabilities of version 1 are near the rates that were seen.
    for name in ("accuracy", "roc_auc", "churn_rate"):
        assert estimated.loc[("batch", "1", "all"), name] == pytest.approx(expected["batch", "1", "all"][name], abs=0.1)
