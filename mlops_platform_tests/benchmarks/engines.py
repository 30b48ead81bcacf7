"""What one feature_date costs on each engine: `make bench-engines` prints it and writes `.mlops/bench/engines.json`.

Belongs here: DuckDB, Trino and Spark over the same Iceberg table in one bucket, and the bytes that its columns take.
CPU is of the processes that compute, ours included, without the bucket's own and without starting a server; bytes are
those that the bucket sent. Rows lie in a file a month: as large a file as a day's where there are many more rows. Does
not belong here: whether the engines agree (`engines/test_trino.py`). Nothing is asserted.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.conditions import all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot, data_files
from mlops_platform.storage.rows import gather
from mlops_platform_tests.benchmarks.features import AT, synthetic_rows
from mlops_platform_tests.benchmarks.measuring import ROUNDS, show
from mlops_platform_tests.engines.silver_tables import in_few_files
from mlops_platform_tests.engines.trino_server import Trino, running_trino
from mlops_platform_tests.integration import postgres
from mlops_platform_tests.integration.object_store import ObjectStore, running_store
from tools.maven import fetched

REPORT = Path(".mlops/bench/engines.json")
SIZES = ((1_000_000, 40_000), (10_000_000, 400_000))
DAY, MEMORY_MB = date(2024, 10, 27), 2048
JARS = ("iceberg-spark-runtime", "iceberg-aws", "postgresql")


@dataclass(frozen=True)
class Servers:
    """The bucket, and the engine that is a server of its own."""

    store: ObjectStore
    trino: Trino

    def processes(self, engine: str) -> list[psutil.Process]:
        """The processes that compute for an engine: this one, and Java's."""
        own = psutil.Process()
        if engine == "trino":
            return [own, psutil.Process(_pid(self.trino))]
        servers = {_pid(self.trino), _pid(self.store)}
        # Spark's Java and what it starts; on DuckDB there is none of them.
        return [own, *(p for p in own.children(recursive=True) if p.pid not in servers and engine == "spark")]

    def sent(self) -> int:
        """Bytes that the bucket's server has written, nearly all of them to sockets."""
        return int(psutil.Process(_pid(self.store)).io_counters().write_chars)


@dataclass(frozen=True)
class Cost:
    """What one computation took."""

    cpu: float
    seconds: float
    peak_mb: int
    read_mb: float


def main() -> None:
    """Measures and prints, for each size; `BENCH_ROWS` chooses one size, `BENCH_ROUNDS` how often."""
    rounds = int(os.environ.get("BENCH_ROUNDS", ROUNDS))
    only = os.environ.get("BENCH_ROWS")
    found: dict[str, Any] = {"rounds": rounds, "cores": os.cpu_count(), "memory_mb": MEMORY_MB}
    # A process for each size: Spark's Java keeps the bucket's keys that it was started with.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for rows, customers in SIZES:
            if only is None or int(only) == rows:
                found[f"{rows:,} rows"] = processes.submit(_size, rows, customers, rounds).result()
                show(found)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _size(rows: int, customers: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, _lake(Path(folder), rows, customers) as (lake, servers):
        transactions = lake.snapshot(SILVER_TRANSACTIONS)
        engines = _engines(lake.settings, servers.trino.url)
        costs: dict[str, list[Cost]] = {name: [] for name in engines}
        # The first round starts Spark, and is where Java has compiled nothing yet.
        for _ in range(rounds + 1):
            for name, settings in engines.items():
                costs[name].append(_measured(servers, name, lambda s=settings: _compute(s, transactions)))  # type: ignore[misc]
        base = _median(costs["duckdb"][1:])
        return {
            "customers": customers,
            "columns": _columns(lake.settings, transactions, rows),
            **{name: _shown(_median(each[1:]), each[0], base, rows) for name, each in costs.items()},
        }


@contextmanager
def _lake(folder: Path, rows: int, customers: int) -> Iterator[tuple[Lake, Servers]]:
    programs = postgres.find_programs()
    if programs is None:
        sys.exit("there is no PostgreSQL server here; Debian's package is `postgresql`")
    with postgres.running(programs) as database, running_store(folder / "s3") as store:
        bucket = store.bucket()
        os.environ.update(bucket.environment())
        database.run("CREATE DATABASE lake")
        where = {"catalog_url": database.url("lake"), "warehouse_url": bucket.url}
        settings = load_settings(home=folder / "home", memory_limit_mb=MEMORY_MB, **where)
        lake = Lake(settings)
        with synthetic_rows(rows, customers) as reader:
            staged = gather(settings, SILVER_TRANSACTIONS, in_few_files(reader))
        lake.publish(Draft(SILVER_TRANSACTIONS, staged, scope=all_time("transaction_ts")))
        with running_trino(folder, database, "lake", bucket, heap_mb=MEMORY_MB, is_optimizing=True) as trino:
            yield lake, Servers(store, trino)


def _engines(settings: Settings, trino_url: str) -> dict[str, Settings]:
    jars = ",".join(str(fetched(name)) for name in JARS)
    of = {"duckdb": {}, "trino": {"trino_url": trino_url}, "spark": {"spark_jars": jars}}
    return {name: settings.model_copy(update={"engine": name, **more}) for name, more in of.items()}


def _compute(settings: Settings, transactions: TableSnapshot) -> None:
    compute_features(settings, transactions, [DAY], created_at=AT)


def _measured(servers: Servers, engine: str, compute: Callable[[], object]) -> Cost:
    sent, spent, started = servers.sent(), _cpu(servers.processes(engine)), time.perf_counter()
    with _peak(servers, engine) as peak:
        compute()
    seconds = time.perf_counter() - started
    cpu = _cpu(servers.processes(engine)) - spent
    return Cost(cpu, seconds, max(peak) >> 20, (servers.sent() - sent) / 1e6)


@contextmanager
def _peak(servers: Servers, engine: str) -> Iterator[list[int]]:
    """Resident bytes of the engine's processes together, looked at ten times a second."""
    seen, is_over = [0], threading.Event()

    def look() -> None:
        while not is_over.wait(0.1):
            seen.append(sum(p.memory_info().rss for p in servers.processes(engine)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def _cpu(processes: list[psutil.Process]) -> float:
    spent = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in spent)


def _median(costs: list[Cost]) -> Cost:
    cpu, seconds, read = (statistics.median(getattr(c, name) for c in costs) for name in ("cpu", "seconds", "read_mb"))
    return Cost(cpu, seconds, max(cost.peak_mb for cost in costs), read)


def _shown(cost: Cost, first: Cost, base: Cost, rows: int) -> dict[str, Any]:
    millions = rows / 1e6
    return {
        "cpu_per_million": round(cost.cpu / millions, 2),
        "seconds_per_million": round(cost.seconds / millions, 2),
        "peak_mb": cost.peak_mb,
        "read_mb": round(cost.read_mb, 1),
        "cpu_over_duckdb": round(cost.cpu / base.cpu, 2),
        "seconds_over_duckdb": round(cost.seconds / base.seconds, 2),
        "first_cpu": round(first.cpu, 1),
        "first_seconds": round(first.seconds, 1),
        # Trino keeps what it has read.
        "first_read_mb": round(first.read_mb, 1),
    }


def _columns(settings: Settings, transactions: TableSnapshot, rows: int) -> dict[str, float]:
    """Compressed bytes a row of each column that features read, and of all columns."""
    from pyiceberg.io.pyarrow import PyArrowFileIO

    files = PyArrowFileIO(settings.file_properties).fs_by_scheme("s3", None)
    sizes: dict[str, int] = {}
    for path in data_files(transactions):
        with files.open_input_file(path.removeprefix("s3://")) as file:
            metadata = pq.ParquetFile(file).metadata
        for group in range(metadata.num_row_groups):
            for place in range(metadata.num_columns):
                column = metadata.row_group(group).column(place)
                sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_compressed_size
    found = {name: round(sizes[name] / rows, 2) for name in SOURCE_TYPES}
    return {**found, "all columns": round(sum(sizes.values()) / rows, 2)}


def _pid(server: Trino | ObjectStore) -> int:
    assert server.process is not None
    return server.process.pid


if __name__ == "__main__":
    main()
