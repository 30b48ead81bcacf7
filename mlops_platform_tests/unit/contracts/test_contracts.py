"""The contracts: what is generated from each, and what no contract may be."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import ibis
import pandas as pd
import pandera.errors
import pyarrow as pa
import pytest

from mlops_platform.contracts import (
    STANDARD,
    Column,
    ColumnType,
    Partition,
    Replace,
    TableContract,
    all_contracts,
    lake,
    ml,
)
from mlops_platform.contracts.features import Aggregate, MostFrequent
from mlops_platform.contracts.schemas import arrow_schema, ibis_schema, pandas_schema

EVERY_CONTRACT = pytest.mark.parametrize("contract", all_contracts().values(), ids=lambda contract: contract.name)
DEFINED_FEATURES = {
    *(f"{name}_{days}d" for name in ("total_transactions",) for days in (7, 30, 90, 365)),
    *(f"{f}_transaction_value_{days}d" for f in ("avg", "max", "min", "std") for days in (7, 30, 90)),
    *("preferred_category", "preferred_payment_method", "days_since_last_transaction", "transactions_weekend_ratio"),
    *("peak_hour_transactions", "monthly_seasonality", "recency_score", "frequency_score", "monetary_score"),
    *("customer_segment", "churn_score", "engagement_score", "tenure_days", "total_value_365d", "mean_gap_days"),
}
SAMPLES = {
    ColumnType.STRING: "x",
    ColumnType.INT: 1,
    ColumnType.LONG: 1,
    ColumnType.DOUBLE: 0.5,
    ColumnType.BOOLEAN: True,
    ColumnType.MONEY: Decimal("1.25"),
    ColumnType.DATE: date(2024, 2, 29),
    ColumnType.TIMESTAMP: datetime(2024, 2, 29, 12, tzinfo=UTC),
}


def sample(contract: TableContract) -> pa.Table:
    """One row that keeps the contract."""
    row = {c.name: c.isin[0] if c.isin else SAMPLES[c.type] for c in contract.columns}
    return pa.Table.from_pylist([row], schema=arrow_schema(contract))


def with_cell(rows: pa.Table, name: str, value: Any) -> pa.Table:
    field = rows.schema.field(name)
    return rows.set_column(rows.schema.get_field_index(name), name, pa.array([value], field.type))


def validated(contract: TableContract, rows: pa.Table) -> None:
    """Runs the Ibis schema in a DuckDB session of its own."""
    connection = ibis.duckdb.connect()
    try:
        connection.con.execute("SET TimeZone = 'UTC'")
        connection.con.register("rows", rows)
        ibis_schema(contract).validate(connection.table("rows"), lazy=True)
    finally:
        connection.disconnect()


@EVERY_CONTRACT
def test_arrow_schema_has_the_contracts_columns(contract: TableContract) -> None:
    schema = arrow_schema(contract)
    assert schema.names == list(contract.column_names)
    assert [field.nullable for field in schema] == [column.nullable for column in contract.columns]
    assert {field.type.tz for field in schema if pa.types.is_timestamp(field.type)} <= {"UTC"}


@EVERY_CONTRACT
def test_a_row_within_the_contract_passes_both_generated_schemas(contract: TableContract) -> None:
    rows = sample(contract)
    validated(contract, rows)
    frame = rows.to_pandas(date_as_object=True)
    assert list(pandas_schema(contract).validate(frame, lazy=True)) == list(contract.column_names)


@EVERY_CONTRACT
def test_ibis_schema_refuses_nulls_and_repeated_keys(contract: TableContract) -> None:
    rows = sample(contract)
    required = next(column for column in contract.columns if not column.nullable)
    with pytest.raises(pandera.errors.SchemaErrors):
        validated(contract, with_cell(rows, required.name, None))
    if contract.key:
        with pytest.raises(pandera.errors.SchemaErrors):
            validated(contract, pa.concat_tables([rows, rows]))


@EVERY_CONTRACT
def test_every_column_says_what_it_means(contract: TableContract) -> None:
    documented = pandas_schema(contract)
    for column in contract.columns:
        assert column.meaning[0].isupper() or column.meaning[0].isdigit() or " " in column.meaning
        assert documented.columns[column.name].description == column.description
    assert contract.description.endswith(".")


def test_names_are_unique_and_placed_in_a_namespace() -> None:
    names = list(all_contracts())
    constants = [value for module in (lake, ml) for value in vars(module).values() if isinstance(value, TableContract)]
    # The feature store and the training set follow from the features; of two tables of one name one would be lost.
    assert len(names) == len(constants) + 2
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+", name) for name in names)


TWO = (Column("a", ColumnType.INT, "A number"), Column("b", ColumnType.INT, "Another"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"columns": (*TWO, TWO[0])},
        {"key": ("c",)},
        {"partitions": (Partition("c", "day"),)},
        {"volatile": frozenset({"c"})},
        {"replace": Replace.RANGE, "range_column": "c"},
        {"replace": Replace.RANGE},
        {"range_column": "a"},
    ],
    ids="+".join,
)
def test_an_inconsistent_contract_cannot_be_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^t\.x: "):
        TableContract(**{"name": "t.x", "description": "D.", "columns": TWO, **arguments})


def test_content_leaves_the_volatile_columns_out() -> None:
    contract = TableContract("t.x", "D.", TWO, volatile=frozenset({"a"}))
    assert contract.content_columns == ("b",)
    assert contract.column("b").meaning == "Another"


class TestFeatureContract:
    def test_it_has_every_defined_feature_and_no_other(self) -> None:
        assert set(STANDARD.names) == DEFINED_FEATURES
        assert len(STANDARD.names) == len(DEFINED_FEATURES)
        bookkeeping = {"customer_id", "feature_date", "_feature_version", "_created_at", "_feature_hash"}
        assert set(STANDARD.customer_features.column_names) == DEFINED_FEATURES | bookkeeping

    def test_no_feature_is_null(self) -> None:
        assert not any(feature.column.nullable for feature in STANDARD.features)

    def test_it_is_partitioned_by_month_and_replaced_by_feature_date(self) -> None:
        assert STANDARD.customer_features.partitions == (Partition("feature_date", "month"),)
        assert STANDARD.customer_features.range_column == "feature_date"
        assert STANDARD.customer_features.volatile == {"_created_at"}

    def test_types_are_the_defined_ones(self) -> None:
        texts = {"preferred_category", "preferred_payment_method", "customer_segment"}
        whole = {"days_since_last_transaction", "peak_hour_transactions", "tenure_days"}
        for name in STANDARD.names:
            kind = STANDARD.customer_features.column(name).type
            assert (kind is ColumnType.STRING) == (name in texts)
            if name in whole or name.startswith("total_transactions") or name in {f"{s}_score" for s in _RANKED}:
                assert kind is ColumnType.INT
            assert STANDARD.kinds[name] == ("categorical" if name in texts else "numeric")

    def test_windows_in_the_names_are_those_of_the_declarations(self) -> None:
        for feature in STANDARD.features:
            in_name = re.search(r"_(\d+)d$", feature.name)
            if in_name is not None:
                assert isinstance(feature.how, Aggregate)
                assert feature.how.window_days == int(in_name[1])
            if isinstance(feature.how, MostFrequent):
                assert feature.how.window_days == 90

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("recency_score", 0),
            ("recency_score", 6),
            ("churn_score", 1.5),
            ("total_transactions_7d", -1),
            ("customer_segment", "gold"),
            ("avg_transaction_value_7d", float("nan")),
            ("total_value_365d", float("inf")),
            ("peak_hour_transactions", 24),
        ],
    )
    def test_values_outside_a_features_bounds_are_refused(self, name: str, value: Any) -> None:
        rows = with_cell(sample(STANDARD.customer_features), name, value)
        with pytest.raises(pandera.errors.SchemaErrors):
            validated(STANDARD.customer_features, rows)

    def test_the_training_set_has_the_same_feature_columns(self) -> None:
        assert [STANDARD.training_set.column(name) for name in STANDARD.names] == [f.column for f in STANDARD.features]

    def test_a_feature_more_reaches_every_schema(self) -> None:
        known = STANDARD.customer_features
        more = replace(known, columns=(*known.columns, Column("new", ColumnType.DOUBLE, "New")))
        assert "new" in arrow_schema(more).names
        assert "new" in pandas_schema(more).columns
        assert "new" in ibis_schema(more).columns


_RANKED = ("recency", "frequency", "monetary")


def test_pandas_schema_names_the_broken_value() -> None:
    frame: pd.DataFrame = sample(STANDARD.customer_features).to_pandas().assign(recency_score=7)
    with pytest.raises(pandera.errors.SchemaErrors, match="recency_score"):
        pandas_schema(STANDARD.customer_features).validate(frame, lazy=True)
