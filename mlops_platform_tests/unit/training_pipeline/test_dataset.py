"""The training set: who is in it, with which label, in which split, and that nothing in it is known too late."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import NotEnoughDataError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.training_pipeline import dataset
from mlops_platform.training_pipeline.dataset import data_digest, split_rows, training_set
from mlops_platform.training_pipeline.labels import LabelledDates, labelled_dates
from mlops_platform_tests.oracles.labels import churned, population
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, Shop

E = AS_OF - timedelta(days=90)


@pytest.fixture(scope="module")
def rows(shop: Shop) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.training.to_arrow().to_pylist()
    return found


def only(snapshot: TableSnapshot, *conditions: Condition) -> TableSnapshot:
    """The table as if nothing but these rows stood in it."""
    return replace(snapshot, where=conditions)


def without(shop: Shop, day: date) -> TableSnapshot:
    """The feature store as if a feature_date had not been computed."""
    others = tuple(d for d in [*dates_of(shop).all, AS_OF] if d != day)
    return only(shop.features, Condition("feature_date", "in", others))


def dates_of(shop: Shop) -> LabelledDates:
    return labelled_dates(AS_OF, shop.settings.first_partition_day, 90)


class TestRows:
    @pytest.mark.parametrize("population_days", [365, 60, None])
    def test_customers_and_labels_are_the_oracles(self, shop: Shop, population_days: int | None) -> None:
        settings = shop.settings.model_copy(update={"population_days": population_days})
        found: dict[date, dict[str, int]] = defaultdict(dict)
        for row in training_set(settings, shop.features, shop.transactions, as_of=AS_OF).rows.to_pylist():
            found[row["feature_date"]][row["customer_id"]] = row["churned"]
        dates = dates_of(shop)
        assert set(found) == set(dates.all)
        for day in dates.all:
            inside = population(shop.purchases, day, population_days)
            labels = churned(shop.purchases, day, 90)
            assert found[day] == {customer: labels[customer] for customer in inside}

    def test_features_are_those_of_the_feature_store(self, shop: Shop) -> None:
        columns = ("customer_id", "feature_date", *STANDARD.names)
        stored = {(r["customer_id"], r["feature_date"]): r for r in shop.features.to_arrow(columns).to_pylist()}
        found = shop.training.to_arrow(columns).to_pylist()
        assert all(row == stored[row["customer_id"], row["feature_date"]] for row in found)

    def test_days_that_are_not_asked_for_stay_out(self, shop: Shop, rows: list[dict[str, Any]]) -> None:
        assert shop.features.count([Condition("feature_date", "=", AS_OF)]) > 0
        assert AS_OF not in {row["feature_date"] for row in rows}


class TestSplits:
    def test_the_test_is_the_evaluation_date_and_nothing_else(self, rows: list[dict[str, Any]]) -> None:
        assert {row["feature_date"] for row in rows if row["split"] == "test"} == {E}
        assert {row["split"] for row in rows if row["feature_date"] == E} == {"test"}
        assert {row["split"] for row in rows} == {"train", "validation", "test"}

    def test_no_label_of_the_training_is_known_only_after_the_evaluation_date(
        self, shop: Shop, rows: list[dict[str, Any]]
    ) -> None:
        known_at_e = [p for p in shop.purchases if p.day <= E]
        for row in rows:
            if row["split"] != "test":
                assert row["feature_date"] + timedelta(days=90) <= E
                assert row["churned"] == churned(known_at_e, row["feature_date"])[row["customer_id"]]

    def test_a_customer_held_back_is_held_back_at_every_date(self, rows: list[dict[str, Any]]) -> None:
        splits = defaultdict(set)
        for row in rows:
            if row["split"] != "test":
                splits[row["customer_id"]].add(row["split"])
        assert all(len(found) == 1 for found in splits.values())
        held_back = [customer for customer, found in splits.items() if found == {"validation"}]
        # Three standard errors of 20 % of about 250 customers.
        assert abs(len(held_back) / len(splits) - 0.2) < 0.08

    def test_who_is_held_back_does_not_depend_on_the_other_customers(
        self, shop: Shop, rows: list[dict[str, Any]]
    ) -> None:
        few = only(shop.features, Condition("customer_id", "in", tuple(f"c{n}" for n in range(0, 250, 3))))
        alone = training_set(shop.settings, few, shop.transactions, as_of=AS_OF).rows.to_pylist()
        splits = {(row["customer_id"], row["feature_date"]): row["split"] for row in rows}
        assert 60 < len(alone) < len(rows) / 2
        assert all(splits[row["customer_id"], row["feature_date"]] == row["split"] for row in alone)

    def test_split_rows(self, shop: Shop) -> None:
        everything = shop.training.to_arrow()
        parts = [split_rows(everything, split) for split in ("train", "validation", "test")]
        assert sum(part.num_rows for part in parts) == everything.num_rows
        assert shop.draft().figures["train"] == parts[0].num_rows


class TestPublishing:
    def test_it_says_what_it_was_made_from(self, shop: Shop) -> None:
        properties = shop.lake.properties(STANDARD.training_set)
        assert properties["as-of"] == AS_OF.isoformat()
        assert properties["evaluation-date"] == E.isoformat()
        assert properties["feature-snapshot-id"] == str(shop.features.snapshot_id)
        assert properties["label-snapshot-id"] == str(shop.transactions.snapshot_id)
        dates = dates_of(shop)
        assert properties["training-dates"] == ",".join(map(str, dates.training))

    def test_again_it_is_no_new_snapshot(self, shop: Shop) -> None:
        before = shop.training.snapshot_id
        assert not shop.lake.publish(shop.draft()).is_new
        assert shop.training.snapshot_id == before


class TestTooLittle:
    def test_history_shorter_than_two_horizons(self, shop: Shop) -> None:
        early = shop.settings.first_partition_day + timedelta(days=179)
        with pytest.raises(NotEnoughDataError, match="no day whose label is known"):
            training_set(shop.settings, shop.features, shop.transactions, as_of=early)

    def test_a_day_without_features_is_named(self, shop: Shop) -> None:
        # A day later, no feature_date of the training has been computed.
        with pytest.raises(NotEnoughDataError, match=rf"no rows for feature_date .*{E + timedelta(days=1)}") as found:
            training_set(shop.settings, shop.features, shop.transactions, as_of=AS_OF + timedelta(days=1))
        assert "materialize these partitions" in str(found.value)

    @pytest.mark.parametrize("is_evaluation", [True, False])
    def test_the_evaluation_date_and_the_newest_training_date_are_needed(self, shop: Shop, is_evaluation: bool) -> None:
        day = dates_of(shop).evaluation if is_evaluation else dates_of(shop).training[0]
        with pytest.raises(NotEnoughDataError, match=rf"for feature_date {day}\."):
            training_set(shop.settings, without(shop, day), shop.transactions, as_of=AS_OF)

    def test_any_training_date_with_purchases_before_it_is_needed(self, shop: Shop) -> None:
        day = dates_of(shop).training[1]
        with pytest.raises(NotEnoughDataError):
            training_set(shop.settings, without(shop, day), shop.transactions, as_of=AS_OF)

    def test_training_dates_before_the_first_purchase_are_no_loss(self, shop: Shop) -> None:
        earlier = shop.settings.model_copy(update={"history_start": AS_OF - timedelta(days=1000)})
        assert len(labelled_dates(AS_OF, earlier.first_partition_day, 90).all) > len(dates_of(shop).all)
        found = training_set(earlier, shop.features, shop.transactions, as_of=AS_OF)
        assert found.rows.equals(shop.draft().rows)

    def test_nobody_came_back_after_the_evaluation_date(self, shop: Shop) -> None:
        until_e = only(shop.transactions, Condition("transaction_date", "<=", E))
        with pytest.raises(NotEnoughDataError, match=rf"test rows hold only the class\(es\) \[1\] .*{E}"):
            training_set(shop.settings, shop.features, until_e, as_of=AS_OF)

    def test_nobody_came_back_before_it(self, shop: Shop) -> None:
        after_e = only(shop.transactions, Condition("transaction_date", ">", E))
        with pytest.raises(NotEnoughDataError, match=r"train rows hold only the class\(es\) \[1\]"):
            training_set(shop.settings, shop.features, after_e, as_of=AS_OF)

    def test_nobody_in_the_population(self, shop: Shop) -> None:
        before_today = only(shop.features, Condition("days_since_last_transaction", ">=", 1))
        settings = shop.settings.model_copy(update={"population_days": 1})
        with pytest.raises(NotEnoughDataError, match=r"the 0 train rows hold only the class\(es\) \[\]"):
            training_set(settings, before_today, shop.transactions, as_of=AS_OF)


class TestDigest:
    def test_it_is_that_of_the_stored_rows(self, shop: Shop) -> None:
        assert data_digest(shop.settings, shop.training) == digest(shop, shop.training.to_arrow())

    def test_it_does_not_depend_on_their_order(self, shop: Shop) -> None:
        rows = shop.training.to_arrow()
        assert digest(shop, rows) == digest(shop, rows.take(list(reversed(range(rows.num_rows)))))

    @pytest.mark.parametrize(
        "column", ["split", "churned", "customer_id", "feature_date", "preferred_category", "mean_gap_days"]
    )
    def test_it_changes_with_any_cell(self, shop: Shop, column: str) -> None:
        rows = shop.training.to_arrow()
        cells = rows.column(column).to_pylist()
        match cells[0]:
            case str():
                cells[0] += " "
            case date():
                cells[0] += timedelta(days=1)
            case int():
                cells[0] += 1
            case float():
                cells[0] = math.nextafter(cells[0], math.inf)
        position = rows.column_names.index(column)
        changed = rows.set_column(position, column, pa.array(cells, rows.schema.field(column).type))
        assert digest(shop, rows) != digest(shop, changed)

    def test_a_row_twice_is_another_digest(self, shop: Shop) -> None:
        rows = shop.training.to_arrow()
        assert digest(shop, rows) != digest(shop, pa.concat_tables([rows, rows.slice(0, 1)]))


def digest(shop: Shop, rows: pa.Table) -> str:
    """Digest of training rows that stand in memory in place of the table's files."""

    def register(duck: Any, snapshot: TableSnapshot) -> str:
        duck.register("rows", rows)
        return "rows"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "register", register)
        return data_digest(shop.settings, shop.training)
