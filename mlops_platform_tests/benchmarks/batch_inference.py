"""What a batch costs: `measure` gives the ratio to a bare read, predict and write, the peak memory, and a second run.

Belongs here: one tick over made-up features, beside the loop that anybody would write by hand: read the store's Parquet
files, build the matrix, `inplace_predict`, write the same columns. The loop gets its prediction_ids for nothing, and
neither audits nor commits. Nothing is asserted: machines differ. Does not belong here: where figures are kept
(`monitoring.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.pipeline import Pipeline

from mlops_platform.contracts import PREDICTIONS, STANDARD, ColumnType
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.inference_pipeline.batch import predictions
from mlops_platform.inference_pipeline.batch_scoring import SCORING_ROWS, filled
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import data_files
from mlops_platform.storage.rows import gather
from mlops_platform.training_pipeline.calibration import CalibratedClassifier
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import PRODUCTION, RegisteredModel
from mlops_platform.training_pipeline.serving_form import serving_form
from mlops_platform_tests.benchmarks.measuring import ROUNDS, interleaved, peak_mb, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_platform.contracts import Column
    from mlops_platform.storage.publish import PublishResult

ROWS, TRAIN_ROWS = 10_000_000, 50_000
DAY, AT = date(2026, 6, 30), datetime(2026, 7, 1, 6, tzinfo=UTC)
TICK = datetime(2026, 7, 1, tzinfo=UTC)
# Nobody is outside the population of 365 days.
_MOST = 300


def measure(rows: int = ROWS, rounds: int = ROUNDS) -> dict[str, Any]:
    """The figures of one tick over so many customers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = _feature_store(folder / "home", rows)
        predictor = _predictor(lake)
        ids = _prediction_ids(lake)
        # What a process pays once, imports above all, is no part of a batch. Every tick is a new one.
        ticks = (TICK + timedelta(days=n) for n in range(1, rounds + 2))
        _tick(lake, predictor, next(ticks))
        parts = {
            "bare": lambda: _bare(lake, predictor, ids, folder / "bare.parquet"),
            "tick": lambda: _tick(lake, predictor, next(ticks)),
        }
        took = interleaved(parts, folder, rounds=rounds)
        command = [sys.executable, "-m", "mlops_platform_tests.benchmarks.batch_inference", str(folder / "home")]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = {"rows": rows, "rounds": rounds, **took, "tick_over_bare": ratio(took, "tick", "bare")}
    cpu = round(took["tick"]["cpu"] / took["bare"]["cpu"], 2)
    return found | {"tick_over_bare_cpu": cpu, **json.loads(done.stdout)}


def main() -> None:
    """Scores one tick twice in this process, for its peak memory and what the second run changes."""
    home = Path(sys.argv[1])
    lake = Lake(load_settings(home=home))
    predictor = _predictor(lake)
    first = _tick(lake, predictor, TICK)
    memory, files = peak_mb(), _files(home)
    again = _tick(lake, predictor, TICK)
    is_unchanged = not again.is_new and again.snapshot_id == first.snapshot_id and _files(home) == files
    figures = {"peak_mb": memory, "peak_mb_second_run": peak_mb(), "second_run_changes_nothing": is_unchanged}
    sys.stdout.write(json.dumps(figures) + "\n")


def _files(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (home / "warehouse").rglob("*") if path.is_file()}


def _tick(lake: Lake, predictor: Predictor, tick: datetime) -> PublishResult:
    features = lake.snapshot(STANDARD.customer_features)
    return lake.publish(predictions(lake.settings, predictor, features, feature_date=DAY, tick=tick, created_at=AT))


def _bare(lake: Lake, predictor: Predictor, ids: pa.ChunkedArray, target: Path) -> None:
    """The loop by hand."""
    schema = arrow_schema(PREDICTIONS)
    constants = {
        "tick": TICK,
        "model_name": predictor.model.name,
        "model_version": predictor.model.version,
        "inference_latency_ms": 0.0,
        "feature_snapshot_id": 1,
        "_created_at": AT,
    }
    assert predictor.form is not None
    booster, done = predictor.form.booster, 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in _batches(lake):
            probability = booster.inplace_predict(_matrix(batch, predictor)).astype(np.float64)
            columns = {
                "prediction_id": ids.slice(done, batch.num_rows),
                "customer_id": batch.column("customer_id"),
                "feature_date": batch.column("feature_date"),
                "churn_probability": probability,
                "prediction": (probability >= predictor.threshold).astype(np.int32),
                "confidence": np.maximum(probability, 1 - probability),
            }
            writer.write_table(filled(schema, columns, constants, batch.num_rows))
            done += batch.num_rows


def _batches(lake: Lake) -> Iterator[pa.RecordBatch]:
    names = ["customer_id", "feature_date", *STANDARD.names]
    for path in data_files(lake.snapshot(STANDARD.customer_features)):
        yield from pq.ParquetFile(path.removeprefix("file://")).iter_batches(SCORING_ROWS, columns=names)


def _matrix(batch: pa.RecordBatch, predictor: Predictor) -> NDArray[np.float32]:
    """The model's columns: numbers as they are, a 0/1 column for each known value of a category."""
    features = predictor.pipeline["features"]
    matrix = np.zeros((batch.num_rows, len(features.get_feature_names_out())), dtype=np.float32)
    place = 0
    for name in predictor.feature_names:
        known = features.categories_.get(name)
        if known is None:
            matrix[:, place] = batch.column(name).to_numpy(zero_copy_only=False)
        else:
            codes = pc.index_in(batch.column(name), pa.array(known)).to_numpy(zero_copy_only=False)
            matrix[np.arange(batch.num_rows), place + codes] = 1
        place += 1 if known is None else len(known)
    return matrix


def _prediction_ids(lake: Lake) -> pa.ChunkedArray:
    with lake.snapshot(STANDARD.customer_features).relation(["customer_id"]) as (duck, view):
        return duck.sql(f"SELECT md5(customer_id) AS id FROM {view}").to_arrow_table()["id"]


def _predictor(lake: Lake) -> Predictor:
    """The default model with its serving form, fitted on the store's first rows and made-up labels."""
    rows = pa.Table.from_batches([next(_batches(lake))]).slice(0, TRAIN_ROWS)
    churned = np.random.default_rng(1).random(rows.num_rows) < rows["churn_score"].to_numpy()
    pipeline = make_model()
    pipeline.fit(rows, churned)
    matrix = pipeline["features"].transform(rows)
    calibrated = CalibratedClassifier(pipeline["classifier"]).fit(matrix, churned)
    made = Pipeline([("features", pipeline["features"]), ("classifier", calibrated)])
    version = RegisteredModel("churn", "1", PRODUCTION, "run", {})
    return Predictor(version, made, 0.5, 1, STANDARD.names, serving_form(made))


def _feature_store(home: Path, rows: int) -> Lake:
    lake, contract = Lake(load_settings(home=home)), STANDARD.customer_features
    cells = ", ".join(f"{_cell(n, column)} AS {column.name}" for n, column in enumerate(contract.columns))
    with duckdb.connect(config={"memory_limit": "512MB"}) as source:
        source.execute("SET TimeZone = 'UTC'")
        reader = source.sql(f"SELECT {cells} FROM range({rows}) t(i)").to_arrow_reader(100_000)
        made = gather(lake.settings, contract, reader)
    lake.publish(Draft(contract, made, scope=(Condition("feature_date", "=", DAY),)))
    return lake


def _cell(number: int, column: Column) -> str:
    """SQL of a made-up value that the column's contract allows."""
    own = {
        "customer_id": "'C' || lpad(i::VARCHAR, 9, '0')",
        "feature_date": f"DATE '{DAY}'",
        "_feature_version": "'v1.0'",
        "_created_at": "TIMESTAMPTZ '2026-07-01 00:30:00+00'",
        "_feature_hash": "md5(i::VARCHAR)",
    }
    if column.name in own:
        return own[column.name]
    chance = f"hash(i, {number})"
    if column.isin is not None:
        return f"([{', '.join(map(repr, column.isin))}])[1 + ({chance} % {len(column.isin)})::INTEGER]"
    if column.type is ColumnType.STRING:
        return f"'value ' || {chance} % 12"
    low, high = column.ge or 0, column.le if column.le is not None else _MOST
    if column.type is ColumnType.INT:
        return f"({low} + {chance} % {int(high - low + 1)})::INTEGER"
    return f"round(({chance} % 1000000) * {high} / 1000000.0, 4)::DOUBLE"


if __name__ == "__main__":
    main()
