"""What the lake costs: `make bench-lake` prints ratios to plain baselines and writes `.mlops/bench/lake.json`.

Belongs here: measuring publish against a plain Parquet write of the same Arrow data, ingestion from PostgreSQL against
a bare ADBC read of the same table, and peak memory while many rows pass. Rounds are interleaved, ratios are of medians.
Nothing is asserted: machines differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mlops_platform.contracts import BRONZE_TRANSACTIONS, SILVER_TRANSACTIONS
from mlops_platform.data_pipeline.crm import TRANSACTIONS
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import TRANSACTIONS as SILVER
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.rows import gather
from mlops_platform_tests.benchmarks.measuring import ROUNDS, interleaved, peak_mb, ratio, show
from mlops_platform_tests.integration.postgres import find_programs, running

REPORT = Path(".mlops/bench/lake.json")
ROWS, MANY_ROWS = 10_000_000, 50_000_000
AT = datetime(2025, 6, 1, tzinfo=UTC)
# Two years of transactions of 200,000 customers, in the order they happened.
_MOMENT = "TIMESTAMP '2023-01-01' + to_seconds((i * 63072000 // {rows})::BIGINT)"


def main() -> None:
    """Measures and prints; with `--memory PART ROWS` does one part in this process, for its peak memory."""
    if sys.argv[1:2] == ["--memory"]:
        _memory_part(sys.argv[2], int(sys.argv[3]))
        return
    rows = int(os.environ.get("BENCH_ROWS", ROWS))
    many = int(os.environ.get("BENCH_MANY_ROWS", MANY_ROWS))
    found: dict[str, Any] = {"rows": rows, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as folder:
        found["publish"] = _publish(Path(folder), rows)
        show(found["publish"])
        found["ingestion"] = _ingestion(Path(folder), rows)
        show(found["ingestion"])
        found["memory"] = {"rows": many, **{part: _memory(part, many) for part in ("bronze", "silver")}}
        show(found["memory"])
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _publish(folder: Path, rows: int) -> dict[str, Any]:
    """Audit, write and commit of silver.transactions, days as partitions, against Parquet writes of the same table."""
    table = _silver_rows(rows)
    draft = Draft(SILVER_TRANSACTIONS, table, scope=all_time("transaction_ts"))
    # What a process pays once, imports above all, is no part of a publish.
    Lake(load_settings(home=folder / "warm")).publish(
        Draft(SILVER_TRANSACTIONS, table.slice(0, 1), scope=all_time("transaction_ts"))
    )
    options = ds.ParquetFileFormat().make_write_options(compression="zstd")

    def one_file() -> None:
        pq.write_table(table, folder / "plain.parquet", compression="zstd")

    def a_file_a_day() -> None:
        ds.write_dataset(
            table,
            folder / "plain",
            format="parquet",
            file_options=options,
            partitioning=["transaction_date"],
            max_partitions=2_000,
            max_open_files=2_000,
        )

    def publish() -> None:
        Lake(load_settings(home=folder / "home")).publish(draft)

    took = interleaved(
        {"one_file": one_file, "a_file_a_day": a_file_a_day, "publish": publish}, folder, ("plain", "home")
    )
    return {
        **took,
        "publish_over_a_file_a_day": ratio(took, "publish", "a_file_a_day"),
        "publish_over_one_file": ratio(took, "publish", "one_file"),
    }


def _ingestion(folder: Path, rows: int) -> dict[str, Any]:
    """The first ingestion of a PostgreSQL table, publish included, against reading it with ADBC and nothing else."""
    programs = find_programs()
    if programs is None:
        return {"skipped": "no PostgreSQL server on this machine"}
    from adbc_driver_postgresql import dbapi

    with running(programs) as server:
        server.run(
            f"""CREATE TABLE transactions AS SELECT 'T' || lpad(i::text, 9, '0') AS transaction_id,
            'C' || lpad((i * 7919::bigint % 200000)::text, 7, '0') AS customer_id,
            timestamp '2023-01-01' + (i * 63072000::bigint / {rows}) * interval '1 second' AS transaction_ts,
            ((i * 31337::bigint % 100000) / 100.0)::numeric(18, 2) AS amount, 'category ' || (i % 12) AS category,
            'method ' || (i % 4) AS payment_method, 1::smallint AS quantity,
            timestamp '2023-01-01' + (i * 63072000::bigint / {rows}) * interval '1 second' AS updated_at
            FROM generate_series(0, {rows - 1}) AS i"""
        )
        url = server.url()

        def bare() -> None:
            with dbapi.connect(url) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT * FROM transactions")
                for _ in cursor.fetch_record_batch():
                    pass

        def ingest() -> None:
            lake = Lake(load_settings(home=folder / "home"))
            lake.publish(new_rows(lake, url, TRANSACTIONS, source="crm", ingested_at=AT))

        bare()
        took = interleaved({"bare_read": bare, "ingestion": ingest}, folder, ("home",))
    return {**took, "ingestion_over_bare_read": ratio(took, "ingestion", "bare_read")}


def _memory(part: str, rows: int) -> dict[str, Any]:
    """Peak memory of a part in a process of its own."""
    command = [sys.executable, "-m", "mlops_platform_tests.benchmarks.lake", "--memory", part, str(rows)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, env={**os.environ, "BENCH_FOLDER": folder}, stdout=subprocess.PIPE, check=True, text=True
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _memory_part(part: str, rows: int) -> None:
    lake = Lake(load_settings(home=Path(os.environ["BENCH_FOLDER"]) / "home"))
    started = time.perf_counter()
    with duckdb.connect(config={"memory_limit": "256MB", "threads": 1}) as source:
        reader = source.sql(_bronze_sql(rows)).to_arrow_reader(100_000)
        lake.publish(Draft(BRONZE_TRANSACTIONS, gather(lake.settings, BRONZE_TRANSACTIONS, reader)))
    if part == "silver":
        lake.publish(silver_draft(lake, SILVER))
    sys.stdout.write(json.dumps({"peak_mb": peak_mb(), "seconds": round(time.perf_counter() - started, 1)}))


def _silver_rows(rows: int) -> pa.Table:
    moment = _MOMENT.format(rows=rows)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(
            f"""SELECT 'T' || lpad(i::VARCHAR, 9, '0') AS transaction_id,
            'C' || lpad((hash(i) % 200000)::VARCHAR, 7, '0') AS customer_id, ({moment})::TIMESTAMPTZ AS transaction_ts,
            ({moment})::DATE AS transaction_date, hour({moment})::INTEGER AS transaction_hour,
            ((hash(i + 1) % 100000) / 100)::DECIMAL(18, 2) AS amount, 'category ' || (hash(i + 2) % 12) AS category,
            'method ' || (hash(i + 3) % 4) AS payment_method, 1::BIGINT AS quantity,
            ({moment})::TIMESTAMPTZ AS updated_at, 'abcdef0123456789' AS _batch_id, 'crm' AS _source
            FROM range({rows}) AS r(i)"""
        ).to_arrow_table()


def _bronze_sql(rows: int) -> str:
    """Rows as a CRM delivers them, in no order of time; every tenth is sent twice."""
    moment = _MOMENT.format(rows=rows).replace("i *", "(i * 7919 % {rows}) *").format(rows=rows)
    return f"""SELECT 'T' || lpad((i - (i % 10 = 9)::BIGINT)::VARCHAR, 9, '0') AS transaction_id,
        'C' || lpad((hash(i) % 200000)::VARCHAR, 7, '0') AS customer_id, ({moment})::VARCHAR AS transaction_ts,
        ((hash(i + 1) % 100000) / 100)::VARCHAR AS amount, 'category ' || (hash(i + 2) % 12) AS category,
        'method ' || (hash(i + 3) % 4) AS payment_method, '1' AS quantity, ({moment})::VARCHAR AS updated_at,
        NULL::VARCHAR AS deleted_at, TIMESTAMPTZ '2025-06-01 00:00:00+00' AS _ingested_at, 'b1' AS _batch_id,
        'crm' AS _source, NULL::BOOLEAN AS _is_tombstone
        FROM range({rows}) AS r(i)"""


if __name__ == "__main__":
    main()
