"""What features cost: `make bench-features` prints ratios to plain baselines and writes `.mlops/bench/features.json`.

Belongs here: one feature_date and a year of them against a bare scan of the needed columns, the pandas that a notebook
would hold, the point-in-time join, and peak memory over many rows. CPU ratios where a part uses all cores. Nothing is
asserted: machines differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.feature_pipeline.compute import feature_batches
from mlops_platform.feature_pipeline.load import features_draft
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES, feature_sql
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.rows import gather
from mlops_platform_tests.benchmarks import point_in_time
from mlops_platform_tests.benchmarks.measuring import ROUNDS, interleaved, peak_mb, ratio, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow as pa

    from mlops_platform.settings import Settings

REPORT = Path(".mlops/bench/features.json")
ROWS, CUSTOMERS, MANY_ROWS, DATES, WRITTEN_DATES = 10_000_000, 200_000, 50_000_000, 365, 30
FIRST, AT = date(2024, 1, 1), datetime(2025, 6, 1, tzinfo=UTC)


def main() -> None:
    """Measures and prints; with `--memory ROWS` publishes a month of feature_dates in this process, for its peak."""
    if sys.argv[1:2] == ["--memory"]:
        _memory_part(int(sys.argv[2]))
        return
    rows, many = (int(os.environ.get(name, n)) for name, n in (("BENCH_ROWS", ROWS), ("BENCH_MANY_ROWS", MANY_ROWS)))
    found: dict[str, Any] = {"rows": rows, "customers": CUSTOMERS, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as folder:
        lake = synthetic_lake(load_settings(home=Path(folder) / "home"), rows, CUSTOMERS)
        found["one_date"] = _one_date(lake, Path(folder))
        show(found["one_date"])
        found["backfill"] = _backfill(lake, found["one_date"])
        show(found["backfill"])
        found["point_in_time"] = point_in_time.measure(Path(folder) / "pairs")
        show(found["point_in_time"])
    found["memory"] = _memory(many)
    show(found["memory"])
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _one_date(lake: Lake, folder: Path) -> dict[str, Any]:
    """One feature_date, against a scan that looks at every needed cell, and beside the same as one SQL query."""
    transactions = lake.snapshot(SILVER_TRANSACTIONS)
    until = FIRST + timedelta(days=300)

    def scan() -> None:
        with transactions.relation(tuple(SOURCE_TYPES)) as (duck, view):
            cells = ", ".join(f"max({name})" for name in SOURCE_TYPES)
            duck.sql(f"SELECT {cells} FROM {view}").fetchall()

    def one_date() -> None:
        _drain(lake, [until])

    def one_query() -> None:
        with transactions.relation(tuple(SOURCE_TYPES)) as (duck, view):
            duck.execute(f"CREATE TEMP VIEW bought AS FROM {view}")
            duck.sql(feature_sql(until, table="bought")).to_arrow_table()

    one_date()
    took = interleaved({"scan": scan, "one_date": one_date, "one_query": one_query}, folder)
    with transactions.relation(tuple(SOURCE_TYPES)) as (duck, view):
        frame = duck.sql(f"SELECT * FROM {view} WHERE amount > 0").to_arrow_table().to_pandas()
    took |= interleaved({"pandas": lambda: _pandas(frame, until)}, folder, rounds=1)
    return {
        **took,
        "one_date_over_scan": ratio(took, "one_date", "scan"),
        "one_query_over_scan": ratio(took, "one_query", "scan"),
        "pandas_over_one_date": ratio(took, "pandas", "one_date"),
    }


def _backfill(lake: Lake, one: dict[str, Any]) -> dict[str, Any]:
    """A year of feature_dates: computed and dropped; and a month of them published, writing and audit included."""
    days = [FIRST + timedelta(days=n) for n in range(DATES)]
    spent, started = time.process_time(), time.perf_counter()
    rows = _drain(lake, days)
    cpu, wall = time.process_time() - spent, time.perf_counter() - started
    spent = time.process_time()
    _drain(lake, days[:WRITTEN_DATES])
    computed = time.process_time() - spent
    spent = time.process_time()
    lake.publish(features_draft(lake, lake.snapshot(SILVER_TRANSACTIONS), days[:WRITTEN_DATES], created_at=AT))
    published = time.process_time() - spent
    return {
        "dates": DATES,
        "rows": rows,
        "seconds": round(wall, 1),
        "cpu": round(cpu, 1),
        "cpu_over_scan_cpu": round(cpu / one["scan"]["cpu"], 1),
        "separate_computations_over_it": round(DATES * one["one_date"]["cpu"] / cpu, 1),
        "separate_queries_over_it": round(DATES * one["one_query"]["cpu"] / cpu, 1),
        "written_dates": WRITTEN_DATES,
        "computing_them_cpu": round(computed, 1),
        "publishing_them_cpu": round(published, 1),
    }


def _drain(lake: Lake, days: list[date]) -> int:
    batches = feature_batches(lake.settings, lake.snapshot(SILVER_TRANSACTIONS), days, created_at=AT)
    return sum(batch.num_rows for batch in batches)


def _pandas(transactions: pd.DataFrame, until: date) -> pd.DataFrame:
    """The aggregate and categorical features as a notebook has them: group-bys, and a mode for each column.

    Less than half of the features: without scores, seasonality, gaps and churn_score.
    """
    import pandas as pd

    known = transactions[transactions["transaction_date"] <= until].copy()
    known["amount"] = known["amount"].astype(float)
    day = pd.to_datetime(known["transaction_date"])
    known["age"] = (pd.Timestamp(until) - day).dt.days
    features = known.groupby("customer_id").agg(days_since_last_transaction=("age", "min"), tenure_days=("age", "max"))
    for window in (7, 30, 90):
        grouped = known[known["age"] < window].groupby("customer_id")["amount"]
        made = grouped.agg(["count", "mean", "max", "min", "std"]).add_suffix(f"_{window}d")
        features = features.join(made)
    recent = known[known["age"] < 90].groupby("customer_id")
    for column in ("category", "payment_method", "transaction_hour"):
        features[f"preferred_{column}"] = recent[column].agg(lambda values: values.mode().min())
    return features.fillna(0)


def synthetic_lake(settings: Settings, rows: int, customers: int) -> Lake:
    """A home whose silver.transactions holds two years, some customers buying often and many rarely."""
    lake = Lake(settings)
    with synthetic_rows(rows, customers) as reader:
        staged = gather(settings, SILVER_TRANSACTIONS, reader)
    lake.publish(Draft(SILVER_TRANSACTIONS, staged, scope=all_time("transaction_ts")))
    return lake


@contextmanager
def synthetic_rows(rows: int, customers: int) -> Iterator[pa.RecordBatchReader]:
    """Rows of silver.transactions from 2023 and 2024, in the order of their time; the same for the same arguments."""
    with duckdb.connect(config={"memory_limit": "512MB", "threads": 1}) as source:
        source.execute("SET TimeZone = 'UTC'")
        moment = f"(TIMESTAMP '2023-01-01' + to_seconds((i * 63072000 // {rows})::BIGINT))"
        # The square of a uniform number: half of the purchases belong to a quarter of the customers.
        who = f"floor({customers} * pow((hash(i) % 1000003) / 1000003.0, 2))::BIGINT"
        yield source.sql(
            f"""SELECT 'T' || lpad(i::VARCHAR, 9, '0') AS transaction_id,
            'C' || lpad(({who})::VARCHAR, 7, '0') AS customer_id, {moment}::TIMESTAMPTZ AS transaction_ts,
            {moment}::DATE AS transaction_date, hour({moment})::INTEGER AS transaction_hour,
            (1 + (hash(i + 1) % 100000) / 100)::DECIMAL(18, 2) AS amount,
            CASE WHEN hash(i + 4) % 50 > 0 THEN 'category ' || (hash(i + 2) % 12) END AS category,
            'method ' || (hash(i + 3) % 4) AS payment_method, 1::BIGINT AS quantity,
            {moment}::TIMESTAMPTZ AS updated_at, 'abcdef0123456789' AS _batch_id, 'crm' AS _source
            FROM range({rows}) AS r(i)"""
        ).to_arrow_reader(100_000)


def _memory(rows: int) -> dict[str, Any]:
    """Peak memory of publishing a month of feature_dates, in a process of its own."""
    command = [sys.executable, "-m", "mlops_platform_tests.benchmarks.features", "--memory", str(rows)]
    with tempfile.TemporaryDirectory() as folder:
        synthetic_lake(load_settings(home=Path(folder) / "home"), rows, CUSTOMERS)
        done = subprocess.run(
            command, env={**os.environ, "BENCH_FOLDER": folder}, stdout=subprocess.PIPE, check=True, text=True
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return {"rows": rows, "dates": WRITTEN_DATES, **found}


def _memory_part(rows: int) -> None:
    lake = Lake(load_settings(home=Path(os.environ["BENCH_FOLDER"]) / "home"))
    started = time.perf_counter()
    days = [FIRST + timedelta(days=n) for n in range(WRITTEN_DATES)]
    transactions = lake.snapshot(SILVER_TRANSACTIONS)
    lake.publish(features_draft(lake, transactions, days, created_at=AT))
    sys.stdout.write(json.dumps({"peak_mb": peak_mb(), "seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
