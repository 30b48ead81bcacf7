"""Rows of a query as a training set: labels, population, splits, what is left out, and what is refused."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import InputError, NotEnoughDataError, QueryError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.query_rows import (
    SILVER_RECENCY,
    LabelledRows,
    labelled,
    read_path,
    read_query,
)
from mlops_platform.training_pipeline.query_split import labelled_digest, split_labelled
from mlops_platform_tests.oracles.labels import churned, population
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, Shop, buy, history, open_shop

E = AS_OF - timedelta(days=90)
ALL = "SELECT * FROM feature_store.customer_features"


@pytest.fixture(scope="module")
def given(shop: Shop) -> pa.Table:
    """Every row of the feature store, among them those of the shop's last day."""
    return read_query(shop.lake, ALL)[0]


@pytest.fixture(scope="module")
def found(shop: Shop, given: pa.Table) -> LabelledRows:
    return split_labelled(shop.settings, labelled(shop.lake, given, complete_until=AS_OF))


def with_target(given: pa.Table, target: list[Any] | None = None) -> pa.Table:
    values = target if target is not None else [n % 2 for n in range(given.num_rows)]
    return given.append_column("target", pa.array(values))


def keys(rows: pa.Table, *more: str) -> list[tuple[Any, ...]]:
    names = ("customer_id", "feature_date", *more)
    return [tuple(row[name] for name in names) for row in rows.select(names).to_pylist()]


class TestLabels:
    @pytest.mark.parametrize("population_days", [365, 60, None])
    def test_customers_and_labels_are_the_oracles(
        self, shop: Shop, given: pa.Table, population_days: int | None
    ) -> None:
        lake = Lake(shop.settings.model_copy(update={"population_days": population_days}))
        result = labelled(lake, given, complete_until=AS_OF)
        by_day: dict[date, dict[str, int]] = defaultdict(dict)
        for customer, day, label in keys(result.rows, "churned"):
            by_day[day][customer] = label
        days = [day for day in set(given["feature_date"].to_pylist()) if day <= E]
        assert set(by_day) == set(days)
        outside = 0
        for day in days:
            inside, labels = population(shop.purchases, day, population_days), churned(shop.purchases, day, 90)
            assert by_day[day] == {customer: labels[customer] for customer in inside}
            outside += len(population(shop.purchases, day, None)) - len(inside)
        assert result.dropped["outside_population"] == outside
        assert (outside > 0) == (population_days == 60)

    def test_rows_whose_label_has_not_matured_are_left_out_and_counted(self, shop: Shop, given: pa.Table) -> None:
        result = labelled(shop.lake, given, complete_until=AS_OF)
        immature = [day for day in given["feature_date"].to_pylist() if day > E]
        assert result.dropped["immature"] == len(immature) > 0
        assert max(result.rows["feature_date"].to_pylist()) == E

    def test_a_label_matures_on_the_day_its_window_ends(self, shop: Shop, given: pa.Table) -> None:
        day_before = labelled(shop.lake, given, complete_until=AS_OF - timedelta(days=1))
        assert E not in day_before.rows["feature_date"].to_pylist()

    def test_time_that_silver_has_not_seen_matures_nothing(self, shop: Shop, given: pa.Table) -> None:
        later = labelled(shop.lake, given, complete_until=AS_OF + timedelta(days=400))
        assert later.rows.equals(labelled(shop.lake, given, complete_until=AS_OF).rows)

    def test_recency_is_that_of_silver_whatever_the_query_says(self, shop: Shop, given: pa.Table) -> None:
        place = given.column_names.index("days_since_last_transaction")
        wrong = given.set_column(place, "days_since_last_transaction", pa.array([9999] * given.num_rows))
        rows = labelled(shop.lake, wrong, complete_until=AS_OF).rows
        right = labelled(shop.lake, given, complete_until=AS_OF).rows
        assert keys(rows) == keys(right)
        assert rows[SILVER_RECENCY].to_pylist() == right["days_since_last_transaction"].to_pylist()

    def test_a_query_of_few_columns_will_do(self, shop: Shop, found: LabelledRows) -> None:
        sql = "SELECT customer_id, feature_date, churn_score FROM feature_store.customer_features"
        few = split_labelled(shop.settings, labelled(shop.lake, read_query(shop.lake, sql)[0], complete_until=AS_OF))
        assert few.features == ("churn_score",)
        assert keys(few.rows, "churned", "split") == keys(found.rows, "churned", "split")

    def test_a_target_is_taken_as_it_is(self, shop: Shop, given: pa.Table) -> None:
        rows = labelled(shop.lake, with_target(given), complete_until=AS_OF).rows
        expected = {(c, d): n % 2 for n, (c, d) in enumerate(keys(given))}
        assert {(c, d): label for c, d, label in keys(rows, "churned")} == expected
        assert "target" not in rows.column_names

    def test_the_label_beside_a_target_is_no_feature(self, shop: Shop) -> None:
        sql = "SELECT *, churned AS target FROM ml.training_set"
        result = labelled(shop.lake, read_query(shop.lake, sql)[0], complete_until=AS_OF)
        assert set(result.features) == set(STANDARD.names)
        assert sum(result.rows["churned"].to_pylist()) == sum(shop.training.to_arrow()["churned"].to_pylist())

    @pytest.mark.parametrize("has_target", [True, False])
    def test_the_order_of_the_rows_changes_nothing(self, shop: Shop, given: pa.Table, has_target: bool) -> None:
        rows = with_target(given) if has_target else given
        turned = rows.take(np.random.default_rng(1).permutation(rows.num_rows))
        one, other = (labelled(shop.lake, each, complete_until=AS_OF) for each in (rows, turned))
        assert one.rows.equals(other.rows)
        for split in ("temporal", "stratified"):
            first, second = (split_labelled(shop.settings, each, split=split).rows for each in (one, other))
            assert first.equals(second)
            assert labelled_digest(shop.settings, first) == labelled_digest(shop.settings, second)


class TestTemporalSplit:
    def test_it_is_the_split_of_the_line(self, shop: Shop, found: LabelledRows) -> None:
        line = shop.training.to_arrow(order_by=("feature_date", "customer_id"))
        assert keys(found.rows, "churned", "split") == keys(line, "churned", "split")
        assert found.features == tuple(name for name in found.rows.column_names if name in STANDARD.names)
        assert set(found.features) == set(STANDARD.names)

    def test_rows_whose_label_window_reaches_past_the_test_day_are_left_out(
        self, shop: Shop, found: LabelledRows
    ) -> None:
        late = E - timedelta(days=30)
        more = open_shop(
            load_settings(home=shop.settings.home.parent / "late"), history(), also=[late, E - timedelta(days=89)]
        )
        rows = labelled(more.lake, read_query(more.lake, ALL)[0], complete_until=AS_OF)
        result = split_labelled(more.settings, rows)
        assert {late, E - timedelta(days=89)} <= set(rows.rows["feature_date"].to_pylist())
        assert keys(result.rows, "split") == keys(found.rows, "split")
        assert result.dropped["label_window_past_evaluation"] == rows.rows.num_rows - result.rows.num_rows > 0

    def test_what_happens_after_the_training_labels_changes_no_training_row(
        self, shop: Shop, found: LabelledRows
    ) -> None:
        past = [purchase for purchase in history() if purchase.day <= E]
        # Everybody comes back after E, instead of what happened then.
        returns = [buy(f"c{number}", E + timedelta(days=1 + number % 90)) for number in range(250)]
        other = open_shop(load_settings(home=shop.settings.home.parent / "other"), [*past, *returns])
        rows = labelled(other.lake, read_query(other.lake, ALL)[0], complete_until=AS_OF).rows
        names = [name for name in rows.column_names if not name.startswith("_")]
        assert set(rows.filter(pc.equal(rows["feature_date"], E))["churned"].to_pylist()) == {0}
        before = found.rows.filter(pc.less(found.rows["feature_date"], E)).select(names)
        assert rows.filter(pc.less(rows["feature_date"], E)).select(names).equals(before)

    def test_held_back_customers_are_held_back_at_every_date(self, found: LabelledRows) -> None:
        splits = defaultdict(set)
        for customer, _, split in keys(found.rows, "split"):
            if split != "test":
                splits[customer].add(split)
        assert {frozenset(each) for each in splits.values()} == {frozenset({"train"}), frozenset({"validation"})}


class TestStratifiedSplit:
    def test_a_fifth_of_the_rows_with_the_classes_as_they_are(self, shop: Shop, given: pa.Table) -> None:
        rows = labelled(shop.lake, given, complete_until=AS_OF)
        result = split_labelled(shop.settings, rows, split="stratified").rows
        test = result.filter(pc.equal(result["split"], "test"))
        assert result.num_rows == rows.rows.num_rows
        assert test.num_rows == pytest.approx(result.num_rows / 5, abs=1)
        shares = [np.asarray(each["churned"]).mean() for each in (test, result)]
        assert shares[0] == pytest.approx(shares[1], abs=0.005)
        assert len(set(test["feature_date"].to_pylist())) > 2

    def test_rows_without_keys(self, shop: Shop, given: pa.Table) -> None:
        rows = with_target(given).drop_columns(["customer_id", "feature_date"])
        result = split_labelled(shop.settings, labelled(shop.lake, rows, complete_until=AS_OF), split="stratified").rows
        counts = {name: result["split"].to_pylist().count(name) for name in ("train", "validation", "test")}
        assert counts["test"] == pytest.approx(rows.num_rows / 5, abs=1)
        assert counts["validation"] == pytest.approx(counts["train"] / 4, rel=0.3)


class TestRefused:
    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (["churn_score"], "neither target nor both customer_id and feature_date"),
            (["customer_id", "churn_score"], "add customer_id and feature_date to the SELECT"),
            (["customer_id", "feature_date"], "no column a model could learn from"),
        ],
    )
    def test_columns(self, shop: Shop, given: pa.Table, columns: list[str], message: str) -> None:
        with pytest.raises(InputError, match=message):
            labelled(shop.lake, given.select(columns), complete_until=AS_OF)

    @pytest.mark.parametrize("wrong", [2, None, 0.5])
    def test_a_target_that_is_no_class(self, shop: Shop, given: pa.Table, wrong: Any) -> None:
        target = [1.0, wrong, *[0.0] * (given.num_rows - 2)]
        with pytest.raises(InputError, match="target is neither 0 nor 1 in 1 rows"):
            labelled(shop.lake, with_target(given, target), complete_until=AS_OF)

    def test_a_customer_twice_on_a_day(self, shop: Shop, given: pa.Table) -> None:
        with pytest.raises(InputError, match=r"3 rows have the customer_id and feature_date of another"):
            labelled(shop.lake, pa.concat_tables([given, given.slice(0, 3)]), complete_until=AS_OF)

    def test_rows_without_a_key(self, shop: Shop, given: pa.Table) -> None:
        text = given["feature_date"].cast(pa.string()).to_pylist()
        changed = given.set_column(given.column_names.index("feature_date"), "feature_date", [["soon", *text[1:]]])
        with pytest.raises(InputError, match="1 rows lack a customer_id or have no day"):
            labelled(shop.lake, changed, complete_until=AS_OF)

    def test_a_time_is_no_feature(self, shop: Shop, given: pa.Table) -> None:
        rows = given.append_column("written", given["_created_at"])
        with pytest.raises(InputError, match=r"the column written holds timestamp.*leave it out of the SELECT"):
            labelled(shop.lake, rows, complete_until=AS_OF)

    def test_no_rows(self, shop: Shop, given: pa.Table) -> None:
        with pytest.raises(NotEnoughDataError, match="the query gives no rows"):
            labelled(shop.lake, given.slice(0, 0), complete_until=AS_OF)

    def test_no_label_has_matured(self, shop: Shop) -> None:
        rows = read_query(shop.lake, f"{ALL} WHERE feature_date > DATE '{E}'")[0]
        with pytest.raises(NotEnoughDataError, match=rf"no label of the rows has matured.*feature_dates up to {E}"):
            labelled(shop.lake, rows, complete_until=AS_OF)

    def test_too_few_dates_for_a_temporal_split(self, shop: Shop) -> None:
        rows = read_query(shop.lake, f"{ALL} WHERE feature_date = DATE '{E}'")[0]
        labels = labelled(shop.lake, rows, complete_until=AS_OF)
        with pytest.raises(InputError, match=r'too few feature_dates.*90 days or more.*split="stratified"'):
            split_labelled(shop.settings, labels)
        assert split_labelled(shop.settings, labels, split="stratified").rows.num_rows == labels.rows.num_rows

    def test_a_temporal_split_without_dates(self, shop: Shop, given: pa.Table) -> None:
        labels = labelled(shop.lake, with_target(given).drop_columns(["feature_date"]), complete_until=AS_OF)
        with pytest.raises(InputError, match=r'needs feature_date.*split="stratified"'):
            split_labelled(shop.settings, labels)

    @pytest.mark.parametrize("split", ["temporal", "stratified"])
    def test_one_class(self, shop: Shop, given: pa.Table, split: str) -> None:
        labels = labelled(shop.lake, with_target(given, [1] * given.num_rows), complete_until=AS_OF)
        with pytest.raises(NotEnoughDataError):
            split_labelled(shop.settings, labels, split=split)

    def test_an_unknown_split(self, shop: Shop, found: LabelledRows) -> None:
        with pytest.raises(InputError, match=r"'random' is no split.*temporal or stratified"):
            split_labelled(shop.settings, found, split="random")

    def test_what_is_no_select(self, shop: Shop) -> None:
        with pytest.raises(QueryError):
            read_query(shop.lake, "DROP TABLE feature_store.customer_features")


class TestPaths:
    @pytest.mark.parametrize("path", ["exports/rows.parquet", "s3://any/exports/rows.parquet"])
    def test_a_file_below_the_warehouse(self, shop: Shop, given: pa.Table, path: str) -> None:
        target = shop.settings.warehouse / "exports" / "rows.parquet"
        target.parent.mkdir(exist_ok=True)
        pq.write_table(given, target)
        rows, tags = read_path(shop.lake, path)
        assert keys(rows) == keys(given)
        assert tags["data_version"] == path

    def test_a_file_of_this_machine(self, shop: Shop, given: pa.Table, tmp_path: Path) -> None:
        pq.write_table(given, tmp_path / "own.parquet")
        assert read_path(shop.lake, str(tmp_path / "own.parquet"))[0].num_rows == given.num_rows

    def test_a_tables_path(self, shop: Shop, given: pa.Table) -> None:
        rows, tags = read_path(shop.lake, "ml/features/customer_features/")
        assert sorted(keys(rows)) == sorted(keys(given))
        assert tags["data_version"] == f"feature_store.customer_features@{shop.features.snapshot_id}"

    @pytest.mark.parametrize("path", ["none.parquet", "s3://any/none.parquet"])
    def test_no_such_file(self, shop: Shop, path: str) -> None:
        with pytest.raises(InputError, match=rf"{path} can't be read.*a Parquet file below the warehouse"):
            read_path(shop.lake, path)

    def test_no_such_table(self, shop: Shop) -> None:
        with pytest.raises(InputError, match="names no table"):
            read_path(shop.lake, "ml/other/")

    def test_what_is_no_parquet(self, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / "text.parquet").write_text("customer_id\n")
        with pytest.raises(InputError, match="can't be read"):
            read_path(shop.lake, str(tmp_path / "text.parquet"))
