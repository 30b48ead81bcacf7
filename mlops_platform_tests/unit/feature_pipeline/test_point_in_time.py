"""Point-in-time reads: the latest row that was known on a day, never a later one, for every pair that is asked for."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest import mock

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlops_platform.contracts import Column, ColumnType, Partition, Replace, TableContract
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.feature_pipeline.point_in_time import features_as_of, features_on, register_feature_dates
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import day_range
from mlops_platform.storage.duck import session
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot

REPEATABLE = hypothesis_settings(max_examples=50, derandomize=True, database=None, deadline=None)
AT = datetime(2024, 6, 1, tzinfo=UTC)
FIRST, LAST = date(2024, 1, 1), date(2024, 4, 30)
SPAN = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
STORE = TableContract(
    name="test.features",
    description="A feature store with few features.",
    columns=(
        Column("customer_id", ColumnType.STRING, "Customer"),
        Column("feature_date", ColumnType.DATE, "Day"),
        Column("total_spent", ColumnType.DOUBLE, "Differs in every row", nullable=True),
        Column("segment", ColumnType.STRING, "A text"),
        Column("tenure_days", ColumnType.INT, "A whole number"),
        Column("_created_at", ColumnType.TIMESTAMP, "When it was written"),
    ),
    key=("customer_id", "feature_date"),
    partitions=(Partition("feature_date", "month"),),
    replace=Replace.RANGE,
    range_column="feature_date",
)
FEATURES = ["total_spent", "segment", "tenure_days"]
CUSTOMERS = [*(f"c{n}" for n in range(25)), "é", "e\u0301", "o'clock", ""]

Row = dict[str, Any]
Pair = tuple[str, date]


def feature_row(customer: str, day: date, number: int) -> Row:
    # Every ninth row lacks its number: a null in a row that was found is no missing row.
    spent = None if number % 9 == 0 else number / 7
    cells = {"total_spent": spent, "segment": f"s{number % 5}", "tenure_days": number, "_created_at": AT}
    return {"customer_id": customer, "feature_date": day, **cells}


def histories() -> list[Row]:
    """Customers with rows on every day, on a few days in no rhythm, on one day, on none."""
    chance = random.Random(7)
    days = {
        customer: sorted(chance.sample(SPAN, min(len(SPAN), [len(SPAN), 9, 4, 1, 0][n % 5])))
        for n, customer in enumerate(CUSTOMERS)
    }
    keys = [(customer, day) for customer in CUSTOMERS for day in days[customer]]
    return [feature_row(customer, day, number) for number, (customer, day) in enumerate(keys)]


def publish(lake: Lake, rows: Iterable[Row], first: date = FIRST, last: date = LAST) -> TableSnapshot:
    table = pa.Table.from_pylist(list(rows), schema=arrow_schema(STORE))
    lake.publish(Draft(STORE, table, scope=day_range("feature_date", first, last)))
    return lake.snapshot(STORE)


def known_at(rows: Iterable[Row], pairs: Iterable[Pair], max_age_days: int | None = None) -> list[Row]:
    """The definition, slowly: each pair's latest row on or before its day, no older than allowed."""
    found = []
    for customer, day in pairs:
        age = {r["feature_date"]: (day - r["feature_date"]).days for r in rows if r["customer_id"] == customer}
        usable = [d for d, n in age.items() if n >= 0 and (max_age_days is None or n <= max_age_days)]
        latest = max(usable, default=None)
        row = next((r for r in rows if (r["customer_id"], r["feature_date"]) == (customer, latest)), {})
        cells = {name: row.get(name) for name in ["feature_date", *FEATURES]}
        found.append({"customer_id": customer, "date": day, **cells})
    return found


HISTORIES = histories()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TableSnapshot:
    lake = Lake(load_settings(home=tmp_path_factory.mktemp("features") / "home"))
    return publish(lake, HISTORIES)


DAYS = st.dates(FIRST - timedelta(days=40), LAST + timedelta(days=40))
PAIRS = st.lists(st.tuples(st.sampled_from([*CUSTOMERS, "nobody"]), DAYS), max_size=30)


class TestAsOf:
    @REPEATABLE
    @given(pairs=PAIRS, max_age_days=st.none() | st.integers(0, 60))
    def test_it_is_the_definition(self, store: TableSnapshot, pairs: list[Pair], max_age_days: int | None) -> None:
        found = features_as_of(store, pairs, max_age_days=max_age_days)
        assert found.to_pylist() == known_at(HISTORIES, pairs, max_age_days)

    def test_many_pairs_in_no_order_and_repeated(self, store: TableSnapshot) -> None:
        chance = random.Random(1)
        pairs = [(chance.choice(CUSTOMERS), chance.choice(SPAN)) for _ in range(2_000)]
        assert len(set(pairs)) < 2_000
        # More than DuckDB hands on at once, so that an order that is right by accident would show.
        found = features_as_of(store, pairs * 150)
        expected = features_as_of(store, pairs)
        assert expected.to_pylist() == known_at(HISTORIES, pairs)
        assert found.combine_chunks().equals(pa.concat_tables([expected] * 150).combine_chunks())

    def test_a_customer_without_a_row_on_just_that_day_is_not_lost(self, lake: Lake) -> None:
        features = publish(lake, [feature_row("a", date(2024, 1, 30), 1)])
        assert features_as_of(features, [("a", date(2024, 1, 31))])["feature_date"].to_pylist() == [date(2024, 1, 30)]

    def test_a_row_of_the_day_itself_is_known(self, lake: Lake) -> None:
        day = date(2024, 1, 31)
        features = publish(lake, [feature_row("a", day, 1), feature_row("a", day - timedelta(days=1), 2)])
        assert features_as_of(features, [("a", day)])["tenure_days"].to_pylist() == [1]

    def test_a_pair_without_a_row_stays_with_nulls(self, store: TableSnapshot) -> None:
        found = features_as_of(store, [("nobody", LAST), ("c0", FIRST - timedelta(days=1))])
        empty = dict.fromkeys(["feature_date", *FEATURES])
        assert [{k: row[k] for k in empty} for row in found.to_pylist()] == [empty, empty]
        assert found["customer_id"].to_pylist() == ["nobody", "c0"]

    def test_what_became_known_later_changes_nothing(self, lake: Lake) -> None:
        chance = random.Random(3)
        day_of = {customer: chance.choice(SPAN) for customer in CUSTOMERS}
        pairs = list(day_of.items())
        earlier = [row for row in HISTORIES if row["feature_date"] <= day_of[row["customer_id"]]]
        before = features_as_of(publish(lake, earlier), pairs)
        # Rows of one customer's future lie in another's past: the read itself can't leave them out.
        later = [feature_row(c, day, 10_000 + n) for c in CUSTOMERS for n, day in enumerate(SPAN) if day > day_of[c]]
        after_all = publish(lake, [*earlier, *later])
        assert min(row["feature_date"] for row in later) < max(day_of.values())
        assert features_as_of(after_all, pairs).equals(before)
        assert not features_as_of(after_all, [(customer, LAST) for customer in CUSTOMERS]).equals(before)

    def test_an_older_state_of_the_table(self, lake: Lake) -> None:
        old = publish(lake, [feature_row("a", FIRST, 1)])
        publish(lake, [feature_row("a", FIRST, 2)])
        assert features_as_of(old, [("a", LAST)])["tenure_days"].to_pylist() == [1]

    @pytest.mark.parametrize(("max_age_days", "found"), [(None, FIRST), (30, FIRST), (29, None), (0, None)])
    def test_the_oldest_row_that_is_used(self, lake: Lake, max_age_days: int | None, found: date | None) -> None:
        features = publish(lake, [feature_row("a", FIRST, 1)])
        pairs = [("a", FIRST + timedelta(days=30))]
        assert features_as_of(features, pairs, max_age_days=max_age_days)["feature_date"].to_pylist() == [found]

    def test_an_age_beyond_all_dates(self, store: TableSnapshot) -> None:
        assert features_as_of(store, [("c0", LAST)], max_age_days=10**6)["feature_date"].to_pylist() == [LAST]

    def test_a_negative_age_is_refused(self, store: TableSnapshot) -> None:
        with pytest.raises(InputError, match="max_age_days is -1"):
            features_as_of(store, [("c0", LAST)], max_age_days=-1)

    @pytest.mark.parametrize("pairs", [[], pa.table({"customer_id": [], "date": []})], ids=["list", "table"])
    def test_no_pair(self, store: TableSnapshot, pairs: Any) -> None:
        found = features_as_of(store, pairs)
        assert (found.num_rows, found.schema) == (0, features_as_of(store, [("c0", LAST)]).schema)

    def test_a_feature_store_that_was_never_written(self, lake: Lake) -> None:
        found = features_as_of(lake.snapshot(STORE), [("a", LAST)])
        assert found.to_pylist() == known_at([], [("a", LAST)])


class TestWhatIsRead:
    def test_types_are_the_contracts(self, store: TableSnapshot) -> None:
        found = features_as_of(store, [("c0", LAST)])
        assert found.schema.names == ["customer_id", "date", "feature_date", *FEATURES]
        expected = ["string", "date32[day]", "date32[day]", "double", "string", "int32"]
        assert [str(field.type) for field in found.schema] == expected

    @pytest.mark.parametrize(
        ("columns", "names"),
        [
            (["tenure_days", "total_spent"], ["tenure_days", "total_spent"]),
            (["segment", "feature_date", "segment", "customer_id"], ["segment"]),
            (["_created_at"], ["_created_at"]),
            ([], []),
        ],
    )
    def test_named_columns_in_their_order(self, store: TableSnapshot, columns: list[str], names: list[str]) -> None:
        found = features_as_of(store, [("c0", LAST)], columns=columns)
        assert found.schema.names == ["customer_id", "date", "feature_date", *names]
        whole = features_on(store, [LAST], columns=columns)
        assert whole.schema.names == ["customer_id", "feature_date", *names]

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            (["total_spend"], "has no column total_spend. Expected: names such as total_spent"),
            (["tenure", "xyz"], "has no column tenure, xyz. Expected: names such as tenure_days"),
            (["xyz"], "has no column xyz. Expected: names such as total_spent, segment, tenure_days"),
            ("segment", "columns is the text 'segment'"),
        ],
    )
    def test_a_column_that_is_not_there(self, store: TableSnapshot, columns: Sequence[str], words: str) -> None:
        for read in (
            lambda: features_as_of(store, [], columns=columns),
            lambda: features_on(store, [], columns=columns),
        ):
            with pytest.raises(InputError, match=words):
                read()

    def test_files_of_days_that_can_not_be_the_answer_stay_closed(self, lake: Lake) -> None:
        features = publish(lake, HISTORIES)
        pairs = [("c0", date(2024, 3, 1)), ("c1", date(2024, 3, 20))]
        expected = features_as_of(features, pairs, max_age_days=20)
        for month in ("2024-01", "2024-04"):
            (file,) = lake.settings.warehouse.rglob(f"feature_date_month={month}/*.parquet")
            file.unlink()
        assert features_as_of(features, pairs, max_age_days=20).equals(expected)
        for wider in (lambda: features_as_of(features, pairs), lambda: features_as_of(features, [("c0", LAST)])):
            with pytest.raises(duckdb.IOException):
                wider()

    def test_other_columns_are_not_read(self, store: TableSnapshot) -> None:
        with mock.patch.object(
            TableSnapshot, "relation", autospec=True, side_effect=TableSnapshot.relation
        ) as relation:
            features_as_of(store, [("c0", LAST)], columns=["segment"])
        assert relation.call_args.args[1] == ("customer_id", "feature_date", "segment")


class TestWholeDays:
    def test_every_row_of_the_days_in_order(self, store: TableSnapshot) -> None:
        days = [SPAN[60], SPAN[3], SPAN[60]]
        expected = sorted(
            (
                {k: r[k] for k in ["customer_id", "feature_date", *FEATURES]}
                for r in HISTORIES
                if r["feature_date"] in days
            ),
            key=lambda row: (row["feature_date"], row["customer_id"]),
        )
        assert len(expected) > 12
        assert features_on(store, days).to_pylist() == expected

    def test_days_without_rows_are_named(self, store: TableSnapshot) -> None:
        gone = LAST + timedelta(days=1)
        with pytest.raises(
            NotEnoughDataError, match=rf"test.features has no rows for feature_date {gone}\. .*the 2 days"
        ):
            features_on(store, [LAST, gone])

    def test_only_required_days_must_have_rows(self, store: TableSnapshot) -> None:
        gone = LAST + timedelta(days=1)
        with session(store.settings) as duck:
            view = register_feature_dates(duck, store, [LAST, gone], required=[LAST], view="some")
            found = duck.execute(f"SELECT DISTINCT feature_date FROM {view}").fetchall()
            with pytest.raises(NotEnoughDataError):
                register_feature_dates(duck, store, [LAST, gone], required=[gone])
        assert (view, found) == ('"some"', [(LAST,)])
