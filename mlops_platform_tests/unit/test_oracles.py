"""The oracles themselves, against values worked out by hand from the design's definitions.

Belongs here: small cases whose arithmetic stands in a comment, and the promises of the strategies. Does not belong
here: comparisons of the oracles with the platform's own code.
"""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform_tests.oracles.features import Purchase, features_at
from mlops_platform_tests.oracles.histories import BOUNDARY_AGES, crm_rows, dated_transactions, transactions
from mlops_platform_tests.oracles.labels import churned, population
from mlops_platform_tests.oracles.silver import (
    NO_AMOUNT,
    NO_CUSTOMER_ID,
    NO_TIME,
    NO_TRANSACTION_ID,
    CrmRow,
    parse_amount,
    parse_time,
    silver,
)

D = date(2024, 3, 31)
"""A Sunday; the windows begin on 25 March (7 d), 2 March (30 d), 2 January (90 d) and 2 April 2023 (365 d)."""

REPEATABLE = settings(max_examples=60, derandomize=True, database=None, deadline=None)

AMOUNT_FEATURES = [
    f"{name}_{days}d"
    for days in (7, 30, 90)
    for name in (
        "total_transactions",
        "avg_transaction_value",
        "max_transaction_value",
        "min_transaction_value",
        "std_transaction_value",
    )
]
OTHER_FEATURES = [
    *("preferred_category", "preferred_payment_method", "days_since_last_transaction", "transactions_weekend_ratio"),
    *("peak_hour_transactions", "monthly_seasonality", "recency_score", "frequency_score", "monetary_score"),
    *("customer_segment", "churn_score", "engagement_score", "tenure_days", "total_transactions_365d"),
    *("total_value_365d", "mean_gap_days"),
]


def buy(
    when: str | date,
    amount: str = "10.00",
    *,
    by: str = "c",
    category: str | None = "books",
    payment: str | None = "card",
) -> Purchase:
    local_ts = datetime.fromisoformat(when if isinstance(when, str) else when.isoformat())
    return Purchase(by, local_ts, Decimal(amount), category, payment)


def ago(days: int, amount: str = "10.00", *, by: str = "c") -> Purchase:
    return buy(D - timedelta(days=days), amount, by=by)


def row(*history: Purchase, at: date = D) -> dict[str, object]:
    return features_at(history, at)["c"]


class TestRows:
    def test_every_feature_of_the_table_is_there(self) -> None:
        assert sorted(row(ago(0))) == sorted(AMOUNT_FEATURES + OTHER_FEATURES)

    def test_a_row_needs_a_purchase_on_or_before_d(self) -> None:
        history = [ago(0, by="now"), ago(2000, by="long ago"), ago(-1, by="later")]
        history += [ago(5, "0.00", by="gift"), ago(5, "-10.00", by="cancelled")]
        assert set(features_at(history, D)) == {"now", "long ago"}

    def test_later_and_empty_transactions_count_for_nothing(self) -> None:
        noise = [ago(-1, "500.00"), ago(3, "0.00"), ago(1, "-99.00")]
        assert row(ago(5), *noise) == row(ago(5))

    def test_the_last_microsecond_of_d_counts(self) -> None:
        assert row(buy("2024-03-31T23:59:59.999999"))["total_transactions_7d"] == 1

    def test_a_customer_without_recent_purchases_has_values_everywhere(self) -> None:
        features = row(ago(400))
        assert {features[name] for name in AMOUNT_FEATURES} == {0}
        assert features["preferred_category"] == "unknown"
        assert features["preferred_payment_method"] == "unknown"
        assert features["transactions_weekend_ratio"] == 0.0
        assert features["peak_hour_transactions"] == -1
        assert features["monthly_seasonality"] == 0.0
        assert features["total_transactions_365d"] == 0
        assert features["total_value_365d"] == 0.0
        assert features["engagement_score"] == 0.0
        assert features["days_since_last_transaction"] == features["tenure_days"] == 400


class TestWindows:
    def test_each_window_begins_on_its_first_day(self) -> None:
        # Inside 7 d: 0, 6. Inside 30 d: + 7, 29. Inside 90 d: + 30, 89. Inside 365 d: + 90, 364. Outside all: 365.
        features = row(*[ago(age) for age in (0, 6, 7, 29, 30, 89, 90, 364, 365)])
        assert [features[f"total_transactions_{days}d"] for days in (7, 30, 90, 365)] == [2, 4, 6, 8]
        assert features["total_value_365d"] == 80.0

    def test_windows_are_the_days_of_the_calendar(self) -> None:
        history = [buy(day) for day in ("2024-03-25", "2024-03-02", "2024-01-02", "2023-04-02")]
        before = [buy(day) for day in ("2024-03-24", "2024-03-01", "2024-01-01", "2023-04-01")]
        at_first_days = row(*history)
        assert [at_first_days[f"total_transactions_{days}d"] for days in (7, 30, 90, 365)] == [1, 2, 3, 4]
        one_day_earlier = row(*before)
        assert [one_day_earlier[f"total_transactions_{days}d"] for days in (7, 30, 90, 365)] == [0, 1, 2, 3]

    def test_equal_rows_are_distinct_purchases(self) -> None:
        features = row(ago(1), ago(1), ago(1))
        assert features["total_transactions_7d"] == 3
        assert features["total_value_365d"] == 30.0


class TestAmounts:
    def test_average_maximum_minimum(self) -> None:
        # 7 d: 10, 20. 30 d: + 0.01, so 30.01 ÷ 3.
        features = row(ago(1, "10.00"), ago(2, "20.00"), ago(20, "0.01"))
        assert features["avg_transaction_value_7d"] == 15.0
        assert (features["max_transaction_value_30d"], features["min_transaction_value_30d"]) == (20.0, 0.01)
        assert features["avg_transaction_value_30d"] == pytest.approx(10.003333333333334, rel=1e-15)

    @pytest.mark.parametrize(
        ("amounts", "std"),
        [
            (["10.00"], 0.0),
            # Mean 11.5, squares 2.25 + 2.25 = 4.5, ÷ 1.
            (["10.00", "13.00"], math.sqrt(4.5)),
            # Mean 70/3; deviations −40/3, −10/3, 50/3; squares 4200/9; ÷ 2 = 700/3.
            (["10.00", "20.00", "40.00"], math.sqrt(700 / 3)),
            (["5.00", "5.00", "5.00"], 0.0),
            # One cent apart, whatever the size: 0.01 ÷ √2.
            (["999999999.99", "1000000000.00"], 0.01 / math.sqrt(2)),
        ],
    )
    def test_sample_standard_deviation(self, amounts: list[str], std: float) -> None:
        features = row(*[ago(1, amount) for amount in amounts])
        assert features["std_transaction_value_7d"] == pytest.approx(std, rel=1e-15)

    def test_sums_of_cents_are_exact(self) -> None:
        # Ten times 0.1 is not 1.0 in floats.
        assert row(*[ago(1, "0.10")] * 10)["total_value_365d"] == 1.0


class TestCategories:
    @pytest.mark.parametrize(
        ("categories", "preferred"),
        [
            (["b", "b", "a"], "b"),
            (["b", "a"], "a"),
            (["a", "Z"], "Z"),  # code points: Z 90, a 97
            (["a", ""], ""),  # the empty string is a value, and before all others
            (["é", "f"], "f"),  # é 233, f 102
            (["\U0001f600", "\uff61"], "\uff61"),  # 128512 and 65377; UTF-16 would say otherwise
            ([None, None, "a"], "a"),
            ([None, None], "unknown"),
            (["unknown", "zoo", "zoo"], "zoo"),
        ],
    )
    def test_most_frequent_value(self, categories: list[str | None], preferred: str) -> None:
        assert row(*[buy(D, category=it) for it in categories])["preferred_category"] == preferred
        assert row(*[buy(D, payment=it) for it in categories])["preferred_payment_method"] == preferred

    def test_only_90_days_count(self) -> None:
        old = [buy(D - timedelta(days=90), category="old")] * 3
        assert row(*old, buy(D - timedelta(days=89), category="new"))["preferred_category"] == "new"


class TestTimes:
    def test_weekend_is_saturday_and_sunday(self) -> None:
        # Two on Friday 29, then Saturday 30, Sunday 31, Monday 25 March 2024: 2 of 5.
        days = [
            "2024-03-29T00:00",
            "2024-03-29T23:59:59.999999",
            "2024-03-30T00:00",
            "2024-03-31T23:59:59",
            "2024-03-25T00:00",
        ]
        assert row(*[buy(day) for day in days])["transactions_weekend_ratio"] == 0.4

    def test_peak_hour(self) -> None:
        at_nine_twice = [buy("2024-03-30T09:00"), buy("2024-03-29T09:59:59.999999"), buy("2024-03-30T08:00")]
        assert row(*at_nine_twice)["peak_hour_transactions"] == 9
        assert row(*at_nine_twice, buy("2024-03-28T08:30"))["peak_hour_transactions"] == 8  # two each: the earliest

    def test_monthly_seasonality_counts_both_ends(self) -> None:
        # D = 15 March 2024; 29 February lies between, so 365 days begin on 17 March 2023.
        in_march = [buy("2023-03-17"), buy("2024-03-15")]
        elsewhere = [buy("2023-07-01"), buy("2024-01-05")]
        too_old = [buy("2023-03-16")]
        # 2 of 4: 12 × 2 ÷ 4.
        assert row(*in_march, *elsewhere, *too_old, at=date(2024, 3, 15))["monthly_seasonality"] == 6.0

    def test_monthly_seasonality_of_one_month_and_of_none(self) -> None:
        assert row(ago(0))["monthly_seasonality"] == 12.0
        assert row(buy("2024-02-29"))["monthly_seasonality"] == 0.0


class TestChurnScore:
    def test_one_purchase(self) -> None:
        # Ten days ago: n 1, tenure 10, λ = 1/100; g = (0 + 90)/1 = 90, a = 90/100; exp(−90 × 1/100 × 9/10).
        features = row(ago(10))
        assert features["mean_gap_days"] == 90.0
        assert features["tenure_days"] == 10
        assert features["churn_score"] == pytest.approx(0.4448580662229411, rel=1e-14)  # exp(−0.81)

    def test_one_purchase_today(self) -> None:
        # λ = 1/90, a = 1: exp(−1).
        assert row(ago(0))["churn_score"] == pytest.approx(0.36787944117144233, rel=1e-14)

    def test_same_day_repeats_are_one_date(self) -> None:
        # Dates 60, 30, 0 days ago: n 3, λ = 3/150, d 0, a 1: exp(−1.8). g = (60 + 90)/3.
        features = row(ago(60), ago(60), ago(30), ago(0))
        assert features["mean_gap_days"] == 50.0
        assert features["churn_score"] == pytest.approx(0.16529888822158653, rel=1e-14)

    def test_all_history_counts(self) -> None:
        # Dates 910 and 10 days ago: n 2, λ = 2/1000; g = (900 + 90)/2 = 495, d 10, a = 495/505 = 99/101.
        # −90 × 2/1000 × 99/101 = −0.18 × 99/101.
        assert row(ago(910), ago(10))["churn_score"] == pytest.approx(math.exp(-0.18 * 99 / 101), rel=1e-14)


class TestScores:
    def test_five_different_customers(self) -> None:
        # Worse than each: 0, 1, 2, 3, 4 of 5, so 1 … 5; the newest buyer e is best in recency, worst in money.
        history = [ago(50 - 10 * i, f"{100 - i}.00", by=name) for i, name in enumerate("abcde")]
        at_d = features_at(history, D)
        assert [at_d[c]["recency_score"] for c in "abcde"] == [1, 2, 3, 4, 5]
        assert [at_d[c]["monetary_score"] for c in "abcde"] == [5, 4, 3, 2, 1]
        assert [at_d[c]["frequency_score"] for c in "abcde"] == [1, 1, 1, 1, 1]
        assert [at_d[c]["customer_segment"] for c in "abcde"] == ["premium", "regular", "regular", "bronze", "bronze"]

    def test_ties_share_a_score(self) -> None:
        # Four with one purchase: nobody is worse, 1. One with two: 4 of 5 are worse, 1 + floor(20/5) = 5.
        history = [ago(1, by=name) for name in "abcd"] + [ago(1, by="e")] * 2
        at_d = features_at(history, D)
        for score in ("frequency_score", "monetary_score"):
            assert [at_d[c][score] for c in "abcde"] == [1, 1, 1, 1, 5]
        assert [at_d[c]["recency_score"] for c in "abcde"] == [1] * 5

    def test_three_customers(self) -> None:
        # Worse: 0, 1, 2 of 3: 1 + floor(0), 1 + floor(5/3), 1 + floor(10/3).
        at_d = features_at([ago(30, by="a"), ago(20, by="b"), ago(10, by="c")], D)
        assert [at_d[c]["recency_score"] for c in "abc"] == [1, 2, 4]

    def test_customers_without_a_year_still_count_as_worse(self) -> None:
        # a bought 365 days ago: 0 purchases and 0 spent in 365 d; b has 1: 1 of 2 is worse, 1 + floor(5/2).
        at_d = features_at([ago(365, "900.00", by="a"), ago(364, by="b")], D)
        assert [at_d[c]["frequency_score"] for c in "ab"] == [1, 3]
        assert [at_d[c]["monetary_score"] for c in "ab"] == [1, 3]

    def test_a_cent_decides_between_billions(self) -> None:
        at_d = features_at([ago(1, "1000000000.00", by="a"), ago(1, "999999999.99", by="b")], D)
        assert [at_d[c]["monetary_score"] for c in "ab"] == [3, 1]

    def test_engagement(self) -> None:
        # Alone: both scores 1; three purchases on two dates within 90 d: 0.2 × 2/90.
        assert row(ago(89), ago(3), ago(3), ago(90))["engagement_score"] == pytest.approx(0.4 / 90, rel=1e-15)
        # The best of five by frequency and recency: 0.5 + 0.3 + 0.2 × 2/90.
        others = [ago(50, by=name) for name in "abde"]
        at_d = features_at([*others, ago(1), ago(2)], D)
        assert at_d["c"]["engagement_score"] == pytest.approx(0.8 + 0.4 / 90, rel=1e-15)
        # The best of five by frequency only: 0.5 + 0 + 0.2 × 2/90.
        at_d = features_at([*others, ago(51), ago(52)], D)
        assert at_d["c"]["engagement_score"] == pytest.approx(0.5 + 0.4 / 90, rel=1e-15)


class TestLabels:
    def test_the_horizon_is_d_plus_1_to_d_plus_90(self) -> None:
        history = [ago(5, by=name) for name in ("day 0", "day 1", "day 90", "day 91", "cancelled")]
        history += [ago(0, by="day 0"), ago(-1, by="day 1"), ago(-90, by="day 90"), ago(-91, by="day 91")]
        history += [ago(-5, "-10.00", by="cancelled"), ago(-5, by="new")]
        assert churned(history, D) == {"day 0": 1, "day 1": 0, "day 90": 0, "day 91": 1, "cancelled": 1}

    def test_another_horizon(self) -> None:
        assert churned([ago(5), ago(-30)], D, horizon_days=30) == {"c": 0}
        assert churned([ago(5), ago(-31)], D, horizon_days=30) == {"c": 1}

    def test_population(self) -> None:
        history = [ago(364, by="active"), ago(365, by="gone"), ago(10, "-1.00", by="gone"), ago(-1, by="later")]
        assert population(history, D, 365) == {"active"}
        assert population(history, D, None) == {"active", "gone"}
        assert population(history, D, 366) == {"active", "gone"}


def crm(**columns: str | None) -> CrmRow:
    defaults = {"transaction_id": "t", "customer_id": "c", "transaction_ts": "2024-03-01 10:00:00", "amount": "10"}
    return {**defaults, "category": None, "payment_method": "", "updated_at": "2024-03-01 10:00:00", **columns}


class TestSilver:
    def test_a_good_row(self) -> None:
        (kept,) = silver([(7, crm(amount="10.005", category="é"))]).kept.values()
        assert kept.transaction_ts == datetime(2024, 3, 1, 10, tzinfo=UTC)
        assert kept.as_purchase() == buy("2024-03-01T10:00", "10.00", category="é", payment="")
        assert kept.sequence == 7

    def test_the_latest_update_wins_then_the_latest_ingested(self) -> None:
        first, corrected = crm(updated_at="2024-03-02"), crm(updated_at="2024-03-03", amount="11")
        late, undated = crm(updated_at="2024-03-01", amount="12"), crm(updated_at=None, amount="13")
        resent = crm(updated_at="2024-03-03T01:00:00+01:00", amount="14")  # the same instant as `corrected`
        assert silver([(1, first), (2, corrected), (3, late), (4, undated)]).kept["t"].sequence == 2
        assert silver([(5, resent), (2, corrected)]).kept["t"].amount == 14
        assert silver([(1, undated), (2, crm(updated_at="?"))]).kept["t"].sequence == 2

    def test_a_broken_winner_does_not_bring_the_loser_back(self) -> None:
        result = silver([(1, crm()), (2, crm(updated_at="2024-03-02", amount="NaN"))])
        assert result.kept == {}
        assert {n: rejected.reasons for n, rejected in result.quarantined.items()} == {2: (NO_AMOUNT,)}

    def test_every_reason(self) -> None:
        raw = [
            (1, crm(transaction_id=None)),
            (2, crm(transaction_id=" ")),
            (3, crm(transaction_id="a", customer_id=None)),
            (4, crm(transaction_id="b", transaction_ts="2023-02-29")),
            (5, crm(transaction_id="d", amount="")),
            (6, dict.fromkeys(crm())),
        ]
        result = silver(raw)
        assert result.kept == {}
        assert {n: rejected.reasons for n, rejected in result.quarantined.items()} == {
            1: (NO_TRANSACTION_ID,),
            2: (NO_TRANSACTION_ID,),
            3: (NO_CUSTOMER_ID,),
            4: (NO_TIME,),
            5: (NO_AMOUNT,),
            6: (NO_TRANSACTION_ID, NO_CUSTOMER_ID, NO_TIME, NO_AMOUNT),
        }

    @pytest.mark.parametrize(
        ("text", "amount"),
        [
            *(("0.005", "0.00"), ("0.015", "0.02"), ("2.665", "2.66"), ("2.675", "2.68"), ("2.6650001", "2.67")),
            *(("-0.004", "0.00"), ("-2.665", "-2.66"), ("1e3", "1000.00"), (" +5. ", "5.00"), (".5", "0.50")),
            ("9999999999999999.99", "9999999999999999.99"),
            *((text, None) for text in (None, "", "ten", "NaN", "inf", "1,000", "1_000", "٣", "0x10", "1 0")),
            *((text, None) for text in ("9999999999999999.995", "1e16", "-1e999")),
        ],
    )
    def test_amounts(self, text: str | None, amount: str | None) -> None:
        assert str(parse_amount(text)) == str(amount)

    @pytest.mark.parametrize(
        ("text", "instant"),
        [
            # São Paulo is at −03:00, until 2019 at −02:00 in summer.
            ("2024-03-01", "2024-03-01T03:00:00"),
            ("2024-03-01 23:59", "2024-03-02T02:59:00"),
            ("2024-03-01T10:00:00.123456789", "2024-03-01T13:00:00.123456"),
            ("2024-03-01 10:00:00.5Z", "2024-03-01T10:00:00.500000"),
            ("2024-03-01 10:00:00+0530", "2024-03-01T04:30:00"),
            # 2018-02-18 00:00 became 2018-02-17 23:00: 23:30 comes twice, the later one is at −03:00.
            ("2018-02-17 23:30:00", "2018-02-18T02:30:00"),
            # 2018-11-04 00:00 became 01:00: 00:30 never came, it is read at −03:00.
            ("2018-11-04 00:30:00", "2018-11-04T03:30:00"),
            *((text, None) for text in (None, "", "soon", "2023-02-29", "2024-03-01 24:00:00", "infinity", "2024-3-1")),
            *(
                (text, None)
                for text in ("2024-03-01 10", "2024-03-01 10:00:60", "2024-03-01 10:00:00 UTC", "0000-01-01")
            ),
        ],
    )
    def test_times(self, text: str | None, instant: str | None) -> None:
        expected = None if instant is None else datetime.fromisoformat(instant).replace(tzinfo=UTC)
        assert parse_time(text, ZoneInfo("America/Sao_Paulo")) == expected

    def test_local_time_is_that_of_the_business_zone(self) -> None:
        (kept,) = silver([(1, crm(transaction_ts="2024-03-01T01:30:00Z"))], "America/Sao_Paulo").kept.values()
        assert kept.local_ts == datetime.fromisoformat("2024-02-29T22:30")


class TestStrategies:
    def test_transactions_reach_every_edge_and_tie(self) -> None:
        ages_seen: set[int] = set()
        reached: set[str] = set()

        @REPEATABLE
        @given(transactions(D))
        def look(rows: list[Purchase]) -> None:
            ages_seen.update((D - row.day).days for row in rows)
            reached.update({"repeat"} if len(set(rows)) < len(rows) else set())
            reached.update({"no purchase"} if any(row.amount <= 0 for row in rows) else set())
            reached.update({"null"} if any(row.category is None for row in rows) else set())
            reached.update({"empty text"} if any(row.category == "" for row in rows) else set())
            assert all(row.amount == round(row.amount, 2) and abs(row.amount) <= 10**9 for row in rows)

        look()
        assert ages_seen >= set(BOUNDARY_AGES)
        assert reached == {"repeat", "no purchase", "null", "empty text"}

    @REPEATABLE
    @given(dated_transactions(max_histories=3, max_clones=3), st.randoms(use_true_random=True))
    def test_neither_order_nor_future_matters(
        self, dated: tuple[date, list[Purchase]], shuffler: random.Random
    ) -> None:
        day, rows = dated
        past = [row for row in rows if row.day <= day]
        shuffler.shuffle(past)
        assert features_at(past, day) == features_at(rows, day)
        assert set(churned(rows, day)) == set(features_at(rows, day)) == population(rows, day, None)

    @REPEATABLE
    @given(dated_transactions(max_histories=3, max_clones=3))
    def test_values_stay_in_their_ranges(self, dated: tuple[date, list[Purchase]]) -> None:
        day, rows = dated
        for features in features_at(rows, day).values():
            for score in ("recency_score", "frequency_score", "monetary_score"):
                assert features[score] in {1, 2, 3, 4, 5}
            for share in ("transactions_weekend_ratio", "engagement_score", "churn_score"):
                value = features[share]
                assert isinstance(value, float)
                assert 0.0 <= value <= 1.0

    @REPEATABLE
    @given(crm_rows())
    def test_silver_accounts_for_every_raw_row(self, raw: list[tuple[int, CrmRow]]) -> None:
        result = silver(raw)
        survivors = [row.sequence for row in result.kept.values()] + list(result.quarantined)
        assert len(survivors) == len(set(survivors))
        # Every usable id survives once; every row without one is quarantined.
        ids = [row["transaction_id"] for _, row in raw]
        assert len(survivors) == len({it for it in ids if it}) + sum(not it for it in ids)
