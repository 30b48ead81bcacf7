"""The posterior: against brute-force integration over rate and chance to leave, and against what then happened."""

from __future__ import annotations

import itertools
import math
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats

from mlops_platform.data_pipeline.posterior import no_purchase_probability
from mlops_platform.data_pipeline.synthetic import generate
from mlops_platform.data_pipeline.synthetic_model import Dirt, SyntheticModel
from mlops_platform.errors import InputError

MODEL = SyntheticModel(season_amplitude=0.3)
AT = date(2024, 6, 30)
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("transaction_ts", pa.timestamp("us")),
        ("category", pa.string()),
        ("payment_method", pa.string()),
    ]
)
Row = tuple[str, str | None, str | None]
HISTORIES: dict[str, list[Row]] = {
    "one purchase": [("2024-02-03T10:30", "toys", "voucher")],
    "one purchase, nothing known": [("2023-11-03T10:30", None, None)],
    "one purchase today": [("2024-06-30T23:59:59", "fashion", "wallet")],
    "recent": [
        ("2024-03-01T08:00", "groceries", "credit_card"),
        ("2024-04-11T18:20", "groceries", "debit_card"),
        ("2024-06-21T12:00", None, "credit_card"),
    ],
    "silent for long": [
        ("2023-07-01T08:00", "groceries", "credit_card"),
        ("2023-07-11T18:20", "toys", None),
        ("2023-08-02T12:00", "electronics", "wallet"),
        ("2023-08-20T12:00", "toys", "wallet"),
    ],
    "frequent": [(f"2024-{m:02d}-{d:02d}T17:00", "household", "wallet") for m in (4, 5) for d in (2, 9, 17, 25)],
}


def table(rows: dict[str, list[Row]]) -> pa.Table:
    cells = [
        {"customer_id": name, "transaction_ts": datetime.fromisoformat(t), "category": c, "payment_method": p}
        for name, history in rows.items()
        for t, c, p in history
    ]
    return pa.Table.from_pylist(cells, schema=SCHEMA)


def scored(rows: pa.Table, horizon_days: int = 90, at: date = AT, model: SyntheticModel = MODEL) -> dict[str, float]:
    found = no_purchase_probability(model, rows, at, horizon_days)
    return dict(zip(found["customer_id"].to_pylist(), found["probability"].to_pylist(), strict=True))


def elapsed(start: datetime, end: datetime) -> float:
    """Operational time between two moments, hour after hour."""
    total, now = 0.0, start
    while now < end:
        step = min(now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1), end)
        day = (now.date() - date(1970, 1, 1)).days
        pace = 1 + MODEL.season_amplitude * math.cos(2 * math.pi * (day - MODEL.season_peak_day) / 365.2425)
        pace *= MODEL.weekday_factors[now.weekday()] * 7 / sum(MODEL.weekday_factors)
        pace *= MODEL.hour_factors[now.hour] * 24 / sum(MODEL.hour_factors)
        total += pace * (step - now).total_seconds() / 86_400
        now = step
    return total


def brute_force(history: list[Row], horizon_days: int) -> float:
    """The same chance summed over a fine grid of quantiles of rate and chance to leave; no closed form is used."""
    moments = [datetime.fromisoformat(t) for t, _, _ in history]
    end = datetime.combine(AT + timedelta(days=1), datetime.min.time())
    x, t_x, age = len(moments) - 1, elapsed(moments[0], moments[-1]), elapsed(moments[0], end)
    horizon = elapsed(end, end + timedelta(days=horizon_days))
    quiet = total = 0.0
    for segment in MODEL.segments:
        steps = (np.arange(4000) + 0.5) / 4000
        rate = stats.gamma.ppf(steps, segment.r, scale=1 / segment.alpha)[:, None]
        leaving = stats.beta.ppf(steps[::10] + 9 / 8000, segment.a, segment.b)[None, :]
        alive = rate**x * np.exp(-rate * age) * (1 - leaving) ** x
        dead = rate**x * np.exp(-rate * t_x) * leaving * (1 - leaving) ** (x - 1) if x else 0.0 * alive
        weight = segment.weight
        for _, category, payment in history:
            if category is not None:
                weight *= segment.category_weights[MODEL.categories.index(category)] / sum(segment.category_weights)
            if payment is not None:
                weight *= segment.payment_weights[MODEL.payment_methods.index(payment)] / sum(segment.payment_weights)
        quiet += weight * float(np.mean(alive * np.exp(-rate * horizon) + dead))
        total += weight * float(np.mean(alive + dead))
    return quiet / total


@pytest.mark.parametrize("horizon_days", [1, 90])
@pytest.mark.parametrize("name", HISTORIES)
def test_equals_brute_force_integration(name: str, horizon_days: int) -> None:
    found = scored(table(HISTORIES), horizon_days)[name]
    assert found == pytest.approx(brute_force(HISTORIES[name], horizon_days), abs=3e-4)


def test_longer_horizons_are_less_likely_to_stay_silent() -> None:
    days = [scored(table(HISTORIES), n) for n in (1, 7, 30, 90, 365)]
    for shorter, longer in itertools.pairwise(days):
        assert all(longer[name] < shorter[name] < 1 for name in HISTORIES)


def test_purchases_after_the_day_change_nothing() -> None:
    later = table({"recent": [("2024-07-01T00:00", "toys", "wallet")], "new": [("2024-07-02T00:00", "toys", "wallet")]})
    assert scored(pa.concat_tables([later, table(HISTORIES)])) == scored(table(HISTORIES))


def test_order_of_rows_changes_nothing() -> None:
    rows = table(HISTORIES)
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(rows.num_rows)))
    assert scored(shuffled) == scored(rows)


def test_long_histories_stay_finite() -> None:
    start = datetime.fromisoformat("2022-01-01")
    rows: list[Row] = [((start + timedelta(hours=n)).isoformat(), "toys", "wallet") for n in range(20_000)]
    found = scored(table({"robot": rows}))["robot"]
    assert 0 <= found <= 1


def test_no_purchases_no_rows() -> None:
    assert scored(SCHEMA.empty_table()) == {}
    assert scored(table(HISTORIES), at=date(2020, 1, 1)) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": pa.array(["boats"])}, "boats"),
        ({"customer_id": pa.array([None], pa.string())}, "no customer_id"),
        ({"transaction_ts": pa.array([None], pa.timestamp("us"))}, "no time"),
        ({"transaction_ts": pa.array([0], pa.timestamp("us", "UTC"))}, "transaction_ts is"),
    ],
)
def test_rows_that_are_no_purchases_of_the_model_are_refused(change: dict[str, Any], message: str) -> None:
    row = table({"one": [("2024-02-03T10:30", "toys", "voucher")]})
    broken = pa.table({name: change.get(name, row[name]) for name in row.column_names})
    with pytest.raises(InputError, match=message):
        no_purchase_probability(MODEL, broken, AT, 90)


def test_a_horizon_has_at_least_a_day() -> None:
    with pytest.raises(InputError, match="0 days"):
        no_purchase_probability(MODEL, table(HISTORIES), AT, 0)


@pytest.fixture(scope="module")
def outcome() -> dict[str, np.ndarray[Any, Any]]:
    """8,000 customers over 600 days, scored 90 days before the end; true purchases only."""
    until = AT + timedelta(days=90)
    model = SyntheticModel(season_amplitude=0.3, dirt=Dirt(0, 0, 0, 0, 0.01))
    rows = generate(8000, 600, 11, until, model).transactions
    scores = no_purchase_probability(model, rows, AT, 90)
    days = pc.cast(rows["transaction_ts"], pa.date32())
    after = rows.filter(pc.greater(days, AT))
    before = rows.filter(pc.less_equal(days, AT))
    last = before.group_by("customer_id").aggregate([("transaction_ts", "max")]).sort_by("customer_id")
    assert last["customer_id"].equals(scores["customer_id"])
    is_silent = pc.invert(pc.is_in(scores["customer_id"], value_set=pc.unique(after["customer_id"])))
    return {
        "probability": scores["probability"].to_numpy(),
        "is_silent": is_silent.to_numpy(),
        "last": last["transaction_ts_max"].to_numpy(),
    }


def test_is_calibrated_on_generated_customers(outcome: dict[str, np.ndarray[Any, Any]]) -> None:
    order = np.argsort(outcome["probability"])
    for rows in np.array_split(order, 10):
        expected, seen = outcome["probability"][rows], outcome["is_silent"][rows]
        error = math.sqrt(float(np.sum(expected * (1 - expected)))) / len(rows)
        assert abs(expected.mean() - seen.mean()) < 3.5 * error


def test_beats_recency_on_generated_customers(outcome: dict[str, np.ndarray[Any, Any]]) -> None:
    best = auc(outcome["is_silent"], outcome["probability"])
    assert 0.8 < best < 0.92
    assert best > auc(outcome["is_silent"], -outcome["last"].astype(np.int64)) + 0.02


def auc(is_positive: np.ndarray[Any, Any], score: np.ndarray[Any, Any]) -> float:
    """ROC-AUC by the ranks of the positives (Mann and Whitney)."""
    ranks = stats.rankdata(score)
    positives = int(is_positive.sum())
    pairs = positives * (len(score) - positives)
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / pairs)
