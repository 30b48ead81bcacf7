"""The synthetic CRM: repeatable, dirty in ways that cleaning undoes, and paced by its operational clock."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_platform.data_pipeline.operational_time import OperationalClock
from mlops_platform.data_pipeline.synthetic import CUSTOMERS_SCHEMA, TRANSACTIONS_SCHEMA, SyntheticCrm, generate
from mlops_platform.data_pipeline.synthetic_model import Dirt, Segment, SyntheticModel
from mlops_platform.errors import InputError

UNTIL = date(2024, 6, 30)
DAYS = 400
CLEAN = Dirt(resent=0, corrected=0, cancelled=0, orphaned=0, uncategorized=0)
DIRTY = Dirt(resent=0.2, corrected=0.2, cancelled=0.1, orphaned=0.05, uncategorized=0.1)


def made(customers: int = 300, seed: int = 1, **changes: Any) -> SyntheticCrm:
    return generate(customers, DAYS, seed, UNTIL, replace(SyntheticModel(), **changes))


def cleaned(transactions: pa.Table) -> dict[str, dict[str, Any]]:
    """Purchases by transaction_id, by the design's rules of cleaning, one row after the other."""
    latest: dict[str, dict[str, Any]] = {}
    for row in transactions.to_pylist():
        known = latest.get(row["transaction_id"])
        if known is None or row["updated_at"] > known["updated_at"]:
            latest[row["transaction_id"]] = row
    return {key: row for key, row in latest.items() if row["customer_id"] is not None and row["amount"] > 0}


def test_same_seed_same_tables_other_seed_other_tables() -> None:
    first, again, other = made(seed=7), made(seed=7), made(seed=8)
    assert first.transactions.equals(again.transactions)
    assert first.customers.equals(again.customers)
    assert not first.transactions.equals(other.transactions)


def test_tables_have_the_shape_of_the_crm() -> None:
    crm = made()
    assert crm.customers.schema == CUSTOMERS_SCHEMA
    assert crm.transactions.schema == TRANSACTIONS_SCHEMA
    assert crm.customers.num_rows == 300
    assert len(set(crm.customers["email"].to_pylist())) == 300
    assert crm.customers.schema.field("updated_at").type == pa.timestamp("us")


def test_every_time_lies_within_the_days() -> None:
    rows = made(dirt=DIRTY).transactions
    for name in ("transaction_ts", "updated_at"):
        days = pc.cast(rows[name], pa.date32())
        assert pc.min(days).as_py() >= UNTIL - timedelta(days=DAYS - 1)
        assert pc.max(days).as_py() == UNTIL


def test_cleaning_gives_back_the_true_purchases() -> None:
    truth = cleaned(made(dirt=CLEAN).transactions)
    found = cleaned(made(dirt=DIRTY).transactions)
    assert found.keys() == truth.keys()
    for name in ("customer_id", "transaction_ts", "amount", "payment_method", "quantity"):
        assert [found[key][name] for key in truth] == [truth[key][name] for key in truth]
    categories = [(found[key]["category"], truth[key]["category"]) for key in truth]
    assert all(seen in (None, real) for seen, real in categories)
    assert np.mean([seen is None for seen, _ in categories]) == pytest.approx(DIRTY.uncategorized, abs=0.02)


def test_dirt_comes_in_its_shares() -> None:
    truth = made(dirt=CLEAN).transactions.num_rows
    rows = made(dirt=DIRTY).transactions
    assert rows.num_rows == pytest.approx(truth * (1 + 0.2 + 0.2 + 0.1 + 0.05), rel=0.03)
    assert rows["customer_id"].null_count == pytest.approx(truth * DIRTY.orphaned, rel=0.2)
    assert pc.sum(pc.less(rows["amount"], 0)).as_py() == pytest.approx(truth * DIRTY.cancelled, rel=0.2)


def test_versions_of_a_row_never_tie() -> None:
    rows = made(dirt=DIRTY).transactions
    versions = rows.group_by(["transaction_id", "updated_at"]).aggregate([([], "count_all")])
    assert versions.num_rows == rows.num_rows


def test_wrong_versions_are_positive_and_differ_from_the_right_one() -> None:
    rows = made(dirt=replace(CLEAN, corrected=1.0)).transactions
    right = cleaned(rows)
    wrong = [row for row in rows.to_pylist() if row["updated_at"] < right[row["transaction_id"]]["updated_at"]]
    assert len(wrong) == len(right) == rows.num_rows / 2
    assert all(row["amount"] > 0 for row in wrong)
    pairs = [(row, right[row["transaction_id"]]) for row in wrong]
    assert all((row["amount"], row["category"]) != (real["amount"], real["category"]) for row, real in pairs)


def test_amounts_are_positive_cents() -> None:
    amounts = made(dirt=CLEAN, amount_median=0.01).transactions["amount"].to_numpy()
    assert amounts.min() == 0.01
    assert np.array_equal(amounts, np.round(amounts, 2))


def test_rows_come_in_no_order() -> None:
    times = made().transactions["transaction_ts"].to_numpy()
    assert 0.45 < np.mean(np.diff(times) > np.timedelta64(0)) < 0.55


def test_customers_sign_up_on_the_day_of_their_first_purchase() -> None:
    crm = made(dirt=DIRTY)
    first: dict[str, date] = {}
    for row in cleaned(crm.transactions).values():
        day = row["transaction_ts"].date()
        first[row["customer_id"]] = min(first.get(row["customer_id"], day), day)
    assert first == dict(zip(*(crm.customers[n].to_pylist() for n in ("customer_id", "signup_date")), strict=True))
    assert max(first.values()) < UNTIL - timedelta(days=int(DAYS * 0.2))


def test_purchases_follow_weekday_hour_and_season() -> None:
    model = SyntheticModel(season_amplitude=0.5, season_peak_day=180.0, dirt=CLEAN)
    # One rate, nobody leaves, all acquired on the first day: after its week, counts are proportional to the pace.
    segment = replace(model.segments[0], r=1e6, alpha=1e7, a=1e-6, b=1e6)
    model = replace(model, segments=(segment,), acquisition_share=0.001)
    moments = generate(1500, 735, 3, UNTIL, model).transactions["transaction_ts"].to_numpy()
    moments = moments[moments >= np.datetime64(UNTIL - timedelta(days=727))]
    days = moments.astype("datetime64[D]")
    for seen, factors in (
        (np.bincount((days.astype(int) + 3) % 7, minlength=7), model.weekday_factors),
        (np.bincount((moments - days).astype("timedelta64[h]").astype(int), minlength=24), model.hour_factors),
    ):
        expected = moments.size * np.array(factors) / sum(factors)
        assert np.all(np.abs(seen - expected) < 5 * np.sqrt(expected))
    month = moments.astype("datetime64[M]").astype(int) % 12 + 1
    assert np.sum(month == 6) / np.sum(month == 12) == pytest.approx(3.0, rel=0.1)


def test_rates_and_leaving_follow_their_laws() -> None:
    # r / alpha = 0.05 a day, and a chance of 0.2 to leave that hardly varies.
    segment = replace(SyntheticModel().segments[0], r=2.0, alpha=40.0, a=2000.0, b=8000.0)
    model = SyntheticModel(segments=(segment,), season_amplitude=0.0, acquisition_share=1e-6, dirt=CLEAN)
    rows = generate(20_000, 30, 5, UNTIL, model).transactions
    counts = np.bincount(np.bincount(pc.index_in(rows["customer_id"], pc.unique(rows["customer_id"])).to_numpy()))
    # P(no repeat in 30 days) = (40 / 70)^2; P(one) = leaves after it, or stays and then buys nothing more.
    none = (40 / 70) ** 2
    one = 2 * (30 / 70) * none
    first_repeat = 1 - none
    expected = one * 0.8 + first_repeat * 0.2
    assert counts[1] / 20_000 == pytest.approx(none, abs=0.015)
    assert counts[2] / 20_000 == pytest.approx(expected, abs=0.015)


def test_categories_and_payments_follow_the_customers_segment() -> None:
    first = replace(SyntheticModel().segments[0], weight=1.0, category_weights=(9, 1), payment_weights=(1, 3))
    second = replace(first, weight=3.0, category_weights=(1e-9, 1), payment_weights=(1, 1e-9))
    model = SyntheticModel(segments=(first, second), categories=("a", "b"), payment_methods=("x", "y"), dirt=CLEAN)
    rows = generate(4000, 60, 2, UNTIL, model).transactions
    # Only the first segment buys "a" or pays with "y"; a customer of it with neither in all its purchases is rare.
    betrays = pc.or_(pc.equal(rows["category"], "a"), pc.equal(rows["payment_method"], "y"))
    betrayed = pc.unique(rows.filter(betrays)["customer_id"])
    assert len(betrayed) / 4000 == pytest.approx(0.25, abs=0.025)
    own = rows.filter(pc.is_in(rows["customer_id"], value_set=betrayed))
    assert pc.mean(pc.equal(own["category"], "a")).as_py() == pytest.approx(0.9, abs=0.025)
    assert pc.mean(pc.equal(own["payment_method"], "y")).as_py() == pytest.approx(0.75, abs=0.025)


def test_clock_is_monotone_and_its_inverse_returns() -> None:
    clock = OperationalClock.spanning(SyntheticModel(), date(2023, 1, 1), date(2024, 12, 31))
    rng = np.random.default_rng(0)
    start = np.datetime64("2023-01-01T00:00:00", "us")
    moments = np.sort(start + rng.integers(0, 731 * 86_400_000_000, size=5000).astype("timedelta64[us]"))
    operational = clock.operational(moments)
    assert np.all(np.diff(operational) > 0)
    assert np.max(np.abs((clock.moments(operational) - moments).astype(int))) <= 1


def test_clock_averages_one_operational_day_a_day() -> None:
    clock = OperationalClock.spanning(SyntheticModel(season_amplitude=0.4), date(2001, 1, 1), date(2028, 12, 31))
    assert clock.length / (len(clock.cumulative) // 24) == pytest.approx(1.0, abs=1e-4)


def test_clock_is_the_integral_of_the_pace() -> None:
    model = SyntheticModel()
    clock = OperationalClock.spanning(model, date(2024, 3, 1), date(2024, 3, 9))
    # Friday 8 March 2024 is day 19,790 since 1970; from 13:15 to 14:30.
    pace = 1 + model.season_amplitude * np.cos(2 * np.pi * (19_790 - model.season_peak_day) / 365.2425)
    pace *= model.weekday_factors[4] / np.mean(model.weekday_factors)
    hours = 0.75 * model.hour_factors[13] + 0.5 * model.hour_factors[14]
    expected = pace * hours / np.mean(model.hour_factors) / 24
    start, end = clock.operational(np.array(["2024-03-08T13:15", "2024-03-08T14:30"], dtype="datetime64[us]"))
    assert end - start == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("moment", ["2024-02-29T23:59:59", "2024-03-10T00:00:01", "NaT"])
def test_clock_refuses_times_outside_its_days(moment: str) -> None:
    clock = OperationalClock.spanning(SyntheticModel(), date(2024, 3, 1), date(2024, 3, 9))
    with pytest.raises(InputError, match="outside the clock's days"):
        clock.operational(np.array([moment], dtype="datetime64[us]"))


def test_model_survives_json() -> None:
    model = SyntheticModel(
        segments=(Segment("only", 1.0, 0.1 + 0.2, 1 / 3, 1.0, 2.0, (1.0, 2.0), (1.0,)),),
        categories=("a", "b"),
        payment_methods=("cash",),
        dirt=Dirt(resent=0.5),
    )
    assert SyntheticModel.from_json(model.to_json()) == model
    assert SyntheticModel.from_json(SyntheticModel().to_json()) == SyntheticModel()


def test_incomplete_or_foreign_json_is_refused() -> None:
    cells = json.loads(SyntheticModel().to_json())
    del cells["season_amplitude"]
    for text in (json.dumps(cells), "[]", "no json", json.dumps({**json.loads(SyntheticModel().to_json()), "x": 1})):
        with pytest.raises(InputError, match="no synthetic model"):
            SyntheticModel.from_json(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"season_amplitude": 1.0},
        {"weekday_factors": (1.0,) * 6},
        {"hour_factors": (0.0,) + (1.0,) * 23},
        {"categories": ("one",)},
        {"segments": ()},
        {"dirt": Dirt(resent=1.5)},
        {"acquisition_share": 0.0},
        {"amount_median": float("nan")},
    ],
)
def test_impossible_parameters_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="can't be used"):
        SyntheticModel(**changes)


@pytest.mark.parametrize(("customers", "days", "seed"), [(0, 10, 1), (10, 0, 1), (10, 10, -1)])
def test_impossible_sizes_are_refused(customers: int, days: int, seed: int) -> None:
    with pytest.raises(InputError, match="can't be made"):
        generate(customers, days, seed, UNTIL, SyntheticModel())


def test_one_customer_on_one_day() -> None:
    crm = generate(1, 1, 0, UNTIL, SyntheticModel())
    assert crm.customers["signup_date"].to_pylist() == [UNTIL]
    assert crm.transactions.num_rows >= 1
