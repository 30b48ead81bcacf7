"""A small home with all there is in one, and what may be asked of it after a move.

Does not belong here: tests.
"""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from mlops_platform.contracts import Column, ColumnType, TableContract
from mlops_platform.settings import Settings, load_settings, pin
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.unit.storage.things import APPEND, FEB, JAN, RANGE, TABLE, draft, on, rows

AT = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)
# RANGE with a column that was added after its first rows.
WIDER = replace(RANGE, columns=(*RANGE.columns, Column("weight", ColumnType.DOUBLE, "Its weight", nullable=True)))
TABLES = (WIDER, TABLE, APPEND)
KEY = bytes(range(32))


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


def publish_tables(settings: Settings) -> None:
    """Three tables with several snapshots each: ranges replaced, rows appended, a column added."""
    lake = Lake(settings)
    lake.publish(draft("a", "b", day=JAN))
    lake.publish(draft("a", "c", "d", day=FEB))
    lake.publish(draft("a", "e", day=JAN, size=2.5))
    weighed = rows("f", "g", day=FEB).append_column("weight", pa.array([1.5, None]))
    lake.publish(Draft(WIDER, weighed, scope=on(FEB)))
    lake.publish(Draft(TABLE, rows("x")))
    lake.publish(Draft(TABLE, rows("y", "z", colour="blue")))
    for thing in "pqr":
        lake.publish(Draft(APPEND, rows(thing)))


def fill(settings: Settings) -> None:
    """The tables, and small stand-ins for everything else a home holds."""
    home = settings.home
    publish_tables(settings)
    pin(settings, history_start=JAN, crm_url=settings.demo_crm_url)
    write(home / "references/ml/model/latest.json", json.dumps({"report": f"{home}/reports/r.html", "é": str(home)}))
    write(home / "reports/r.html", f"<a href='file://{home}/reports'>here</a>")
    write(
        home / "mlflow-artifacts/e/r/artifacts/model/MLmodel",
        f"artifact_path: {(home / 'mlflow-artifacts').as_uri()}\n",
    )
    write(home / "dagster/dagster.yaml", f"base_dir: {home}/dagster\n")
    write(home / "dagster/storage/r/compute_logs/a.err", f"\x1b[34m{home}\x1b[0m and {home}2/other\n")
    write(home / "prediction-log/predictions-1.jsonl", '{"prediction_id": 1}\n{"predic')
    write(home / "warehouse/ml/export.parquet", "a user's own file")
    for scratch in ("locks/a.lock", "tmp/spilled", "logs/up.log", "bentoml/metrics.db", "references/ml/x.1.tmp"):
        write(home / scratch, "scratch")
    (home / "hmac.key").write_bytes(KEY)
    (home / "hmac.key").chmod(0o600)
    artifacts = (home / "mlflow-artifacts").as_uri()
    database(
        home / "mlflow.db",
        "CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT)",
        "CREATE TABLE runs (run_id TEXT PRIMARY KEY, artifact_uri TEXT, name TEXT, size INTEGER, "
        "twice INTEGER GENERATED ALWAYS AS (size * 2) STORED)",
        ("INSERT INTO experiments VALUES (1, ?)", f"{artifacts}/e"),
        ("INSERT INTO runs VALUES ('r', ?, 'no path', 3)", f"{artifacts}/e/r"),
    )
    event = json.dumps({"path": f"{home}/reports/r.html", "inner": json.dumps({"text": f"é\n{home}/reports"})})
    database(
        home / "dagster/history/runs/index.db",
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE event_logs (id INTEGER PRIMARY KEY, event TEXT)",
        ("INSERT INTO event_logs (event) VALUES (?)", event),
    )
    database(
        home / "dagster/history/runs.db",
        "CREATE TABLE runs (id INTEGER PRIMARY KEY, run_id TEXT, status TEXT)",
        "INSERT INTO runs (run_id, status) VALUES ('one', 'SUCCESS'), ('two', 'STARTED')",
    )
    database(
        home / "crm.db",
        "CREATE TABLE customers (customer_id TEXT, name TEXT)",
        ("INSERT INTO customers VALUES ('c1', ?)", f"lives in {home}"),
    )


def write(path: Path, text: str) -> None:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def database(path: Path, *statements: str | tuple[str, str]) -> None:
    """Makes a SQLite file; a statement may come with its value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        for statement in statements:
            sql, *values = (statement,) if isinstance(statement, str) else statement
            made.execute(sql, values)


def cell(path: Path, sql: str) -> object:
    """The one value of a query."""
    with closing(sqlite3.connect(path)) as opened:
        (found,) = opened.execute(sql).fetchone()
    return found


History = dict[str, dict[int, pa.Table]]


def history(home: Path, tables: tuple[TableContract, ...] = TABLES) -> History:
    """The rows of every snapshot of every table, the current ones under 0."""
    lake, found = Lake(load_settings(home=home)), History()
    for contract in tables:
        now = lake.snapshot(contract)
        assert now.table is not None
        order = ["thing", "day", "price", "size"]
        found[contract.name] = {0: now.to_arrow(order_by=order)} | {
            s.snapshot_id: now.at(s.snapshot_id).to_arrow(order_by=order) for s in now.table.snapshots()
        }
    return found


def naming(home: Path, old: str) -> set[str]:
    """Files of a home that hold an old path: as it is, inside Avro's compressed blocks, anywhere in SQLite's pages."""
    forms = [old.encode(), json.dumps(old)[1:-1].encode(), Path(old).as_uri().removeprefix("file://").encode()]
    found = set()
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            data += b"".join(_inflated(data)) if path.suffix == ".avro" else b""
            if any(re.search(re.escape(form) + rb"(?!\w)", data) for form in forms):
                found.add(path.relative_to(home).as_posix())
    return found


def _inflated(data: bytes) -> list[bytes]:
    """What each deflate block of an Avro file holds; where a block's sizes end is found by trying."""
    sync, blocks = data[-16:], []
    for part in data.split(sync)[1:-1]:
        for start in range(12):
            try:
                blocks.append(zlib.decompress(part[start:], -15))
            except zlib.error:
                continue
    return blocks
