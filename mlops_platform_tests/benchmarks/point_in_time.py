"""What a point-in-time read costs: `features_as_of` against DuckDB's bare ASOF join, and against pandas.

Run with: python -m mlops_platform_tests.benchmarks.point_in_time [ROUNDS]

All three read the same Parquet files and the same columns, all features, and end with the rows in memory; the bare join
has the same memory limit and owes nobody an order. Rounds are interleaved, ratios are of medians. Nothing is asserted:
machines differ.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from mlops_platform.contracts import Column, ColumnType, FeatureSet
from mlops_platform.feature_pipeline.point_in_time import features_as_of
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import day_range
from mlops_platform.storage.duck import parquet_source, quoted, session
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.rows import gather
from mlops_platform_tests.benchmarks.measuring import interleaved

CUSTOMERS, FEATURE_DATES, STEP_DAYS, ROUNDS = 200_000, 12, 30, 3
FIRST = date(2024, 1, 31)
LAST = FIRST + timedelta(days=STEP_DAYS * FEATURE_DATES)


def main() -> None:
    """Measures and prints."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(measure(Path(folder), rounds=rounds), indent=1) + "\n")


def measure(folder: Path, pairs: int = 1_000_000, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Median wall and CPU seconds of the three, and their ratios.

    Args:
        folder: Where the feature store is made, and left.
        pairs: Random pairs of customer and day; some customers have no row yet on their day, some none at all.
        rounds: Interleaved rounds.
    """
    lake = Lake(load_settings(home=folder / "home"))
    _publish(lake)
    features = lake.snapshot(lake.features.customer_features)
    files = sorted(str(file) for file in lake.settings.warehouse.rglob("*.parquet"))
    names, asked = list(lake.features.names), _pairs(pairs)
    frame = asked.to_pandas().assign(date=lambda rows: pd.to_datetime(rows["date"]))
    parts: dict[str, Callable[[], Any]] = {
        "features_as_of": lambda: features_as_of(features, asked),
        "bare_asof": lambda: _bare(lake, asked, names, files),
        "pandas": lambda: _pandas(frame, names, files),
    }
    found = interleaved(parts, folder, rounds=rounds)
    _require_equal(parts["features_as_of"](), parts["bare_asof"](), parts["pandas"]())
    return {
        "pairs": pairs,
        "customers": CUSTOMERS,
        "feature_dates": FEATURE_DATES,
        "features": len(names),
        "rounds": rounds,
        **found,
        "ratio_to_bare_asof": _ratio(found, "features_as_of", "bare_asof"),
        "ratio_to_pandas": _ratio(found, "features_as_of", "pandas"),
    }


def _publish(lake: Lake) -> None:
    """The feature store: each customer has a row on nine in ten of the feature_dates."""
    contract = lake.features.customer_features
    with duckdb.connect(config={"memory_limit": "1GB"}) as source:
        source.execute("SET TimeZone = 'UTC'")
        reader = source.sql(
            f"""SELECT 'C' || lpad(i::VARCHAR, 7, '0') AS customer_id,
                (DATE '{FIRST}' + ({STEP_DAYS} * d)::INTEGER)::DATE AS feature_date, {_cells(lake.features)},
                'v' AS _feature_version, TIMESTAMPTZ '2025-06-01 00:00:00+00' AS _created_at,
                md5(concat(i, '/', d)) AS _feature_hash
            FROM range({FEATURE_DATES}) AS r(d), range({CUSTOMERS}) AS s(i)
            WHERE hash(i, d) % 10 <> 0 ORDER BY feature_date, customer_id"""
        ).to_arrow_reader(100_000)
        rows = gather(lake.settings, contract, reader)
    lake.publish(Draft(contract, rows, scope=day_range("feature_date", FIRST, LAST)))


def _cells(features: FeatureSet) -> str:
    return ", ".join(f"{_cell(column, n)} AS {quoted(column.name)}" for n, column in enumerate(features.columns))


def _cell(column: Column, number: int) -> str:
    """A value that the column's contract allows, as SQL over customer i and feature_date d."""
    draw = f"hash(i * 31 + d, {number})"
    if column.isin is not None:
        return f"{list(column.isin)}[1 + ({draw} % {len(column.isin)})::INTEGER]"
    if column.type is ColumnType.STRING:
        return f"'value ' || ({draw} % 12)"
    low, high = column.ge or 0, column.le if column.le is not None else 1000
    if column.type is ColumnType.INT:
        return f"({low:g} + {draw} % {high - low + 1:g})::INTEGER"
    return f"({low} + ({draw} % 1000003) / 1000003.0 * {high - low})::DOUBLE"


def _pairs(count: int) -> pa.Table:
    chance = np.random.default_rng(1)
    customers = chance.integers(0, int(CUSTOMERS * 1.05), count)
    days = chance.integers(0, (LAST - FIRST).days + 60, count) - 30
    first = np.datetime64(FIRST, "D")
    return pa.table(
        {"customer_id": [f"C{customer:07}" for customer in customers.tolist()], "date": pa.array(first + days)}
    )


def _bare(lake: Lake, pairs: pa.Table, names: list[str], files: list[str]) -> pa.Table:
    cells = ", ".join(map(quoted, names))
    with session(lake.settings) as duck:
        duck.register("pairs", pairs)
        return duck.sql(
            f"""SELECT p.customer_id, p.date, f.feature_date, {cells} FROM pairs p ASOF LEFT JOIN
            (SELECT customer_id, feature_date, {cells} FROM {parquet_source(files)}) f
            ON p.customer_id = f.customer_id AND p.date >= f.feature_date"""
        ).to_arrow_table()


def _pandas(pairs: pd.DataFrame, names: list[str], files: list[str]) -> pd.DataFrame:
    features = pd.read_parquet(files, columns=["customer_id", "feature_date", *names])
    features["feature_date"] = pd.to_datetime(features["feature_date"])
    return pd.merge_asof(
        pairs.sort_values("date"),
        features.sort_values("feature_date"),
        left_on="date",
        right_on="feature_date",
        by="customer_id",
    )


def _require_equal(found: pa.Table, bare: pa.Table, merged: pd.DataFrame) -> None:
    """A ratio is worth nothing where the answers differ."""
    assert found.num_rows == bare.num_rows == len(merged)
    names = ["customer_id", "date", "tenure_days", "churn_score", "customer_segment"]
    first, *others = (
        rows[names]
        .assign(date=pd.to_datetime(rows["date"]).astype("datetime64[s]"))
        .fillna({"customer_segment": ""})
        .sort_values(names, ignore_index=True)
        for rows in (found.select(names).to_pandas(), bare.select(names).to_pandas(), merged)
    )
    for other in others:
        pd.testing.assert_frame_equal(first, other, check_dtype=False)


def _ratio(found: dict[str, Any], part: str, baseline: str) -> dict[str, float]:
    return {unit: round(found[part][unit] / found[baseline][unit], 2) for unit in ("seconds", "cpu")}


if __name__ == "__main__":
    main()
