"""The documented call, ranges of feature_dates, one feature alone, and what late rows touch."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pandera.errors import SchemaError

from mlops_platform.contracts import SILVER_TRANSACTIONS, STANDARD
from mlops_platform.errors import ContractError, InputError, NotEnoughDataError
from mlops_platform.feature_pipeline import FeaturePipeline, validate_features
from mlops_platform.feature_pipeline.freshness import stale_dates
from mlops_platform.feature_pipeline.load import days_between
from mlops_platform.feature_pipeline.pipeline import publish_features, refresh_features
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition, all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.scale import rounds

UNTIL, NOW = date(2024, 3, 10), datetime(2024, 3, 11, 6, tzinfo=UTC)
FEATURES = STANDARD.customer_features


def bought(number: int, day: date, **cells: Any) -> dict[str, Any]:
    moment = datetime(day.year, day.month, day.day, number % 24, tzinfo=UTC)
    row = {"transaction_id": f"t{number}", "customer_id": f"c{number % 5}", "transaction_ts": moment}
    row |= {"transaction_date": day, "transaction_hour": moment.hour, "amount": f"{number % 17 + 1}.25"}
    row |= {"category": "abc"[number % 3], "payment_method": "card", "quantity": 1, "updated_at": moment}
    return row | {"_batch_id": "b", "_source": "crm"} | cells


def publish_silver(lake: Lake, rows: list[dict[str, Any]]) -> None:
    names = SILVER_TRANSACTIONS.column_names
    columns = {name: pa.array([row[name] for row in rows]) for name in names}
    columns["amount"] = columns["amount"].cast(pa.decimal128(18, 2))
    lake.publish(Draft(SILVER_TRANSACTIONS, pa.table(columns), scope=all_time("transaction_ts")))


ROWS = [bought(number, UNTIL - timedelta(days=number * 7 % 120)) for number in range(200)]


@pytest.fixture
def filled(tmp_path: Path) -> Lake:
    made = Lake(load_settings(home=tmp_path / "home", as_of=UNTIL))
    publish_silver(made, ROWS)
    return made


def stored(lake: Lake) -> pa.Table:
    return lake.snapshot(FEATURES).to_arrow(order_by=["feature_date", "customer_id"])


def hashes(table: pa.Table) -> list[str]:
    found: list[str] = table["_feature_hash"].to_pylist()
    return found


class TestDocumentedCall:
    def test_it_returns_the_frame_and_publishes_it(self, filled: Lake) -> None:
        frame = FeaturePipeline(
            input_path="s3://bucket/silver/customers/",
            output_path="ml/features/customer_features/",
            feature_date="2024-01-15",
            settings=filled.settings,
        ).run()
        assert list(frame.columns) == list(FEATURES.column_names)
        assert set(frame["feature_date"]) == {date(2024, 1, 15)}
        pd.testing.assert_frame_equal(frame, stored(filled).to_pandas())

    def test_by_default_it_is_the_last_day_that_is_over(self, filled: Lake) -> None:
        assert FeaturePipeline(settings=filled.settings).feature_date == UNTIL

    def test_the_environment_says_where(self, filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLOPS_HOME", str(filled.settings.home))
        monkeypatch.setenv("MLOPS_AS_OF", str(UNTIL))
        assert len(FeaturePipeline().run()) == 5

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"input_path": "bronze/crm/customers/"}, "features are not made from bronze.crm_customers"),
            ({"output_path": "silver/customers/"}, "features are not kept in silver.customers"),
            ({"input_path": "nowhere/"}, "names no table"),
            ({"feature_date": "yesterday"}, "'yesterday' is no day"),
        ],
    )
    def test_a_mistake_is_said_at_once(self, filled: Lake, arguments: dict[str, str], message: str) -> None:
        with pytest.raises(InputError, match=message):
            FeaturePipeline(settings=filled.settings, **arguments)

    def test_a_day_that_is_not_over_is_refused(self, filled: Lake) -> None:
        with pytest.raises(InputError, match=r"feature_date 2024-03-11 is not over yet.*up to 2024-03-10"):
            FeaturePipeline(feature_date=UNTIL + timedelta(days=1), settings=filled.settings).run()

    def test_a_day_before_the_first_purchase_is_refused(self, filled: Lake) -> None:
        with pytest.raises(NotEnoughDataError, match="no purchase on or before feature_date 2020-01-01"):
            FeaturePipeline(feature_date="2020-01-01", settings=filled.settings).run()
        assert filled.snapshot(FEATURES).snapshot_id is None


class TestShell:
    def run(self, lake: Lake, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlops_platform.feature_pipeline", *arguments],
            env={**os.environ, "MLOPS_HOME": str(lake.settings.home), "MLOPS_AS_OF": str(UNTIL), "PYTHONHASHSEED": "7"},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_no_argument_is_the_last_day_and_another_process_makes_the_same_hashes(self, filled: Lake) -> None:
        done = self.run(filled)
        assert (done.returncode, done.stderr) == (0, "")
        assert "feature_date 2024-03-10, 5 rows (new snapshot" in done.stdout
        assert publish_features(filled, [UNTIL], now=NOW).is_new is False

    def test_a_range_in_one_run(self, filled: Lake) -> None:
        done = self.run(filled, "--from", "2024-03-01", "--to", "2024-03-03")
        assert "feature_date 2024-03-01 to 2024-03-03, 15 rows" in done.stdout
        assert len(set(stored(filled)["feature_date"].to_pylist())) == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--feature-date", "2024-03-11"], "not over yet"),
            (["--from", "2024-03-02", "--to", "2024-03-01"], "are no range"),
            (["--feature-date", "2024-03-01", "--to", "2024-03-01"], "give one or the other"),
            (["--to", "2024-03-01"], "--to needs --from"),
        ],
    )
    def test_a_mistake_is_one_message_and_code_2(self, filled: Lake, arguments: list[str], message: str) -> None:
        done = self.run(filled, *arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_backfill_is_the_daily_runs(filled: Lake, tmp_path: Path) -> None:
    days = days_between(UNTIL - timedelta(days=89), UNTIL)
    publish_features(filled, days, now=NOW)
    daily = Lake(load_settings(home=tmp_path / "daily", as_of=UNTIL))
    publish_silver(daily, ROWS)
    alone = days[:: rounds(full=1, share=9)]
    for day in alone:
        publish_features(daily, [day], now=NOW)
    wanted = pa.compute.is_in(stored(filled)["feature_date"], pa.array(alone))
    assert stored(filled).filter(wanted).equals(stored(daily))
    assert publish_features(filled, days, now=NOW + timedelta(hours=1)).is_new is False


class TestOneFeatureAlone:
    def test_the_others_stay_as_they_are(self, filled: Lake) -> None:
        days = days_between(UNTIL - timedelta(days=3), UNTIL)
        publish_features(filled, days, now=NOW)
        right = stored(filled)
        wrong = right
        for name in ("total_transactions_7d", "tenure_days"):
            place = right.schema.get_field_index(name)
            wrong = wrong.set_column(place, name, pa.array([0] * right.num_rows, pa.int32()))
        scope = (Condition("feature_date", ">=", days[0]),)
        filled.publish(Draft(FEATURES, wrong, scope=scope))
        publish_features(filled, days, now=NOW, only=["total_transactions_7d"])
        assert stored(filled)["total_transactions_7d"].equals(right["total_transactions_7d"])
        assert set(stored(filled)["tenure_days"].to_pylist()) == {0}
        publish_features(filled, days, now=NOW, only=["tenure_days", "churn_score"])
        assert hashes(stored(filled)) == hashes(right)

    def test_other_customers_than_the_table_holds_are_refused(self, filled: Lake) -> None:
        publish_features(filled, [UNTIL], now=NOW)
        publish_silver(filled, [*ROWS, bought(900, UNTIL, customer_id="new")])
        with pytest.raises(InputError, match=r"holds other customers \(5\) than silver has \(6\)"):
            publish_features(filled, [UNTIL], now=NOW, only=["tenure_days"])

    def test_an_unknown_feature_is_refused_with_the_near_ones(self, filled: Lake) -> None:
        with pytest.raises(InputError, match=r"there is no feature tenure_day\..*tenure_days"):
            publish_features(filled, [UNTIL], now=NOW, only=["tenure_day"])


class TestRefresh:
    DAYS = days_between(UNTIL - timedelta(days=9), UNTIL)

    def test_exactly_the_days_from_the_late_row_on(self, filled: Lake, tmp_path: Path) -> None:
        publish_features(filled, self.DAYS, now=NOW)
        late = bought(901, self.DAYS[6], customer_id="c1")
        publish_silver(filled, [*ROWS, late])
        assert refresh_features(filled, now=NOW, is_dry_run=True) == self.DAYS[6:]
        before = stored(filled)
        assert refresh_features(filled, now=NOW + timedelta(hours=1)) == self.DAYS[6:]
        anew = Lake(load_settings(home=tmp_path / "anew", as_of=UNTIL))
        publish_silver(anew, [*ROWS, late])
        publish_features(anew, self.DAYS, now=NOW)
        assert hashes(stored(filled)) == hashes(stored(anew))
        old_days = 6 * 5
        assert stored(filled).slice(0, old_days).equals(before.slice(0, old_days))
        assert refresh_features(filled, now=NOW) == []

    def test_a_row_that_moved_touches_the_days_from_where_it_was(self, filled: Lake) -> None:
        publish_features(filled, self.DAYS, now=NOW)
        moved = next(row for row in ROWS if row["transaction_date"] == self.DAYS[3])
        rest = [row for row in ROWS if row is not moved]
        publish_silver(filled, [*rest, bought(902, self.DAYS[8], customer_id=moved["customer_id"])])
        assert refresh_features(filled, now=NOW) == self.DAYS[3:]

    def test_rows_that_are_no_purchases_touch_nothing(self, filled: Lake) -> None:
        publish_features(filled, self.DAYS, now=NOW)
        publish_silver(filled, [*ROWS, bought(903, self.DAYS[2], amount="-5.00")])
        assert refresh_features(filled, now=NOW) == []

    def test_days_published_since_are_not_touched(self, filled: Lake) -> None:
        publish_features(filled, self.DAYS, now=NOW)
        publish_silver(filled, [*ROWS, bought(904, self.DAYS[2])])
        publish_features(filled, self.DAYS[5:8], now=NOW)
        assert refresh_features(filled, now=NOW) == [*self.DAYS[2:5], *self.DAYS[8:]]

    def test_where_silver_has_forgotten_its_state_everything_is_made_anew(self, filled: Lake) -> None:
        publish_features(filled, self.DAYS, now=NOW)
        publish_silver(filled, [*ROWS, bought(905, UNTIL)])
        table = filled.snapshot(SILVER_TRANSACTIONS).table
        assert table is not None
        old = table.snapshots()[0].snapshot_id
        table.maintenance.expire_snapshots().by_id(old).commit()
        assert stale_dates(filled, FEATURES, filled.snapshot(SILVER_TRANSACTIONS)) == self.DAYS

    def test_an_empty_store_is_refused(self, filled: Lake) -> None:
        with pytest.raises(NotEnoughDataError, match="holds no feature_date"):
            refresh_features(filled, now=NOW)


class TestValidation:
    def test_the_documented_schema_takes_the_features_and_refuses_wrong_ones(self, filled: Lake) -> None:
        from mlops_platform.feature_pipeline import feature_schema

        frame = FeaturePipeline(settings=filled.settings).run()
        assert len(feature_schema.validate(frame)) == len(frame)
        with pytest.raises(SchemaError, match="total_transactions_30d"):
            feature_schema.validate(frame.assign(total_transactions_30d=-1))

    def test_the_step_refuses_what_breaks_the_contract(self, filled: Lake) -> None:
        publish_features(filled, [UNTIL], now=NOW)
        rows = stored(filled)
        assert validate_features(rows, STANDARD) is rows
        with pytest.raises(ContractError, match="key"):
            validate_features(pa.concat_tables([rows, rows]), STANDARD)
