"""The prediction log: what is written is ingested exactly once, and what can't be written fails nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.contracts import ONLINE_PREDICTIONS
from mlops_platform.inference_pipeline.prediction_log import (
    PredictionLog,
    collect,
    customer_names,
    last_written,
    prediction_record,
    retire,
    timestamp_of,
)
from mlops_platform.inference_pipeline.spool import backlog
from mlops_platform.storage.catalog import load_table
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft

DAY = date(2024, 1, 15)
AT = datetime(2024, 1, 15, 15, tzinfo=UTC)


def record(number: int, **changes: Any) -> dict[str, Any]:
    found = prediction_record(
        f"PRED_{number:032x}",
        timestamp_of(AT + timedelta(seconds=number)),
        model_name="customer_churn_model",
        model_version="3",
        features={"tenure_days": number, "preferred_category": "é"},
        prediction=0,
        probability=0.25,
        inference_latency_ms=15.2,
    )
    return found | changes


@pytest.fixture
def log(lake: Lake) -> PredictionLog:
    return PredictionLog(lake.settings.prediction_spool)


def spool(lake: Lake) -> list[Path]:
    return sorted(lake.settings.prediction_spool.glob("predictions-*.jsonl"))


def test_a_record_is_as_documented() -> None:
    assert record(0) == {
        "prediction_id": "PRED_00000000000000000000000000000000",
        "timestamp": "2024-01-15T15:00:00.000000Z",
        "model_name": "customer_churn_model",
        "model_version": "v3",
        "features": {"tenure_days": 0, "preferred_category": "é"},
        "prediction": 0,
        "probability": [0.75, 0.25],
        "confidence": 0.75,
        "inference_latency_ms": 15.2,
    }


def test_a_record_is_one_line_at_once(log: PredictionLog, lake: Lake) -> None:
    assert log.append([record(1), record(2)], day=DAY)
    (path,) = spool(lake)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [record(1), record(2)]


def test_day_size_and_deletion_begin_a_new_file(log: PredictionLog, lake: Lake) -> None:
    log.rotate_bytes = 100
    log.append([record(1)], day=DAY)
    log.append([record(2)], day=DAY)
    log.rotate_bytes = 10_000
    log.append([record(3)], day=DAY)
    log.append([record(4)], day=DAY + timedelta(days=1))
    assert [len(path.read_text().splitlines()) for path in spool(lake)] in ([1, 2, 1], [2, 1, 1])
    spool(lake)[-1].unlink()
    assert log.append([record(5)], day=DAY + timedelta(days=1))
    assert json.loads(spool(lake)[-1].read_text()) == record(5)


def test_a_folder_that_cannot_be_made_fails_no_prediction(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = PredictionLog(tmp_path / "file" / "spool")
    assert not log.append([record(1)], day=DAY)
    (tmp_path / "file").unlink()
    assert log.append([record(2)], day=DAY)


def test_a_write_cut_short_is_taken_back(log: PredictionLog, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append([record(1)], day=DAY)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        assert not log.append([record(2)], day=DAY)
    assert log.append([record(3)], day=DAY)
    (path,) = spool(lake)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [record(1), record(3)]


def test_rows_are_ingested_once(log: PredictionLog, lake: Lake) -> None:
    log.append([record(1), record(2)], day=DAY)
    first = collect(lake)
    assert first.draft.rows.num_rows == 2
    lake.publish(first.draft)

    log.append([record(2), record(3), record(3)], day=DAY)
    second = collect(lake)
    assert second.draft.rows.column("prediction_id").to_pylist() == [record(3)["prediction_id"]]
    lake.publish(second.draft)
    assert collect(lake).draft.rows.num_rows == 0

    (row,) = lake.snapshot(ONLINE_PREDICTIONS).to_arrow(order_by=["predicted_at"]).slice(0, 1).to_pylist()
    assert row == {
        "prediction_id": record(1)["prediction_id"],
        "predicted_at": AT + timedelta(seconds=1),
        "model_name": "customer_churn_model",
        "model_version": "3",
        "features": '{"tenure_days":1,"preferred_category":"\\u00e9"}',
        "prediction": 0,
        "churn_probability": 0.25,
        "confidence": 0.75,
        "inference_latency_ms": 15.2,
        "customer_hmac": None,
    }


def test_only_complete_and_published_files_are_retired(log: PredictionLog, lake: Lake) -> None:
    log.append([record(1)], day=DAY)
    lake.publish(collect(lake).draft)
    assert retire(lake) == ()  # still being written
    log.append([record(2)], day=DAY)
    log.close()
    assert retire(lake) == ()  # holds a row that is not in the table
    lake.publish(collect(lake).draft)
    complete = spool(lake)
    assert list(retire(lake)) == complete
    assert spool(lake) == []
    assert collect(lake).files == ()
    assert lake.snapshot(ONLINE_PREDICTIONS).count() == 2


def test_a_half_written_line_waits_for_its_writer(log: PredictionLog, lake: Lake) -> None:
    log.append([record(1)], day=DAY)
    (path,) = spool(lake)
    with path.open("ab") as file:
        file.write(json.dumps(record(2)).encode()[:50])
    assert collect(lake).read == 1
    assert collect(lake).rejected == 0
    log.close()  # its writer is gone: it will never be finished
    found = collect(lake)
    assert (found.read, found.rejected) == (1, 1)
    assert path.with_name(path.name + ".rejected").read_bytes() == json.dumps(record(2)).encode()[:50] + b"\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction": 2},
        {"prediction": True},
        {"probability": [0.5]},
        {"probability": [2.0, -1.0]},
        {"confidence": None},
        {"inference_latency_ms": -1},
        {"inference_latency_ms": float("nan")},
        {"timestamp": "yesterday"},
        {"prediction_id": ""},
        {"model_version": 3},
        {"features": []},
    ],
    ids=str,
)
def test_a_line_that_is_no_prediction_is_set_aside(lake: Lake, log: PredictionLog, changes: dict[str, Any]) -> None:
    log.append([record(1)], day=DAY)
    (path,) = spool(lake)
    line = json.dumps(record(2, **changes)).encode()
    path.write_bytes(path.read_bytes() + line + b"\n" + json.dumps(record(3)).encode() + b"\n")
    for _ in range(2):
        found = collect(lake)
        assert (found.read, found.rejected) == (2, 1)
        assert path.with_name(path.name + ".rejected").read_bytes() == line + b"\n"
    lake.publish(found.draft)
    assert lake.snapshot(ONLINE_PREDICTIONS).count() == 2


def test_a_bound_leaves_files_for_the_next_time(lake: Lake, log: PredictionLog) -> None:
    log.rotate_bytes = 1
    for number in range(3):
        log.append([record(number)], day=DAY)
    seen = 0
    for _ in range(3):
        found = collect(lake, max_bytes=1)
        assert found.draft.rows.num_rows == 1
        lake.publish(found.draft)
        log.close()
        seen += len(retire(lake))
    assert seen == 3


def test_last_written_moves_only_with_writes(lake: Lake, log: PredictionLog) -> None:
    assert last_written(lake.settings.prediction_spool) == 0
    log.append([record(1)], day=DAY)
    first = last_written(lake.settings.prediction_spool)
    collect(lake)
    assert last_written(lake.settings.prediction_spool) == first > 0


def test_a_killed_process_loses_nothing_and_releases_its_file(lake: Lake) -> None:
    code = (
        "import sys, itertools\nfrom pathlib import Path\n"
        "from mlops_platform_tests.unit.inference_pipeline.test_prediction_log import DAY, record\n"
        "from mlops_platform.inference_pipeline.prediction_log import PredictionLog\n"
        "log = PredictionLog(Path(sys.argv[1]))\n"
        "for number in itertools.count():\n"
        "    assert log.append([record(number)], day=DAY)\n"
        "    print(number, flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(lake.settings.prediction_spool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 200:
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = 200 + len(process.stdout.read().splitlines())
    found = collect(lake)
    assert found.draft.rows.num_rows > acknowledged
    assert found.retire() == ()  # before the publish nothing may go
    lake.publish(found.draft)
    assert found.retire() == found.files


def test_a_customer_is_known_by_a_keyed_hash_only(log: PredictionLog, lake: Lake) -> None:
    names = customer_names(lake.settings, ["C1", " C1", "C2"])
    assert names is not None
    assert names[0] == names[1] != names[2]
    asked = prediction_record(
        "PRED_1", timestamp_of(AT), model_name="m", model_version="1", features={}, prediction=0, probability=0.25,
        inference_latency_ms=1.0, customer_hmac=names[0],
    )  # fmt: skip
    log.append([asked, record(2, customer_hmac=7), record(3, customer_hmac="é")], day=DAY)
    found = collect(lake)
    assert found.draft.rows["customer_hmac"].to_pylist() == [names[0]]
    assert found.rejected == 2
    assert b"C1" not in spool(lake)[0].read_bytes()


def test_a_table_of_before_customers_were_named_gains_their_column(log: PredictionLog, lake: Lake) -> None:
    columns = tuple(column for column in ONLINE_PREDICTIONS.columns if column.name != "customer_hmac")
    log.append([record(1)], day=DAY)
    rows = collect(lake).draft.rows.drop_columns(["customer_hmac"])
    lake.publish(Draft(replace(ONLINE_PREDICTIONS, columns=columns), rows))
    table = load_table(lake.catalog, ONLINE_PREDICTIONS, lake.settings.timezone)
    assert table is not None
    assert "customer_hmac" not in table.schema().column_names

    log.append([record(2, customer_hmac="a" * 64)], day=DAY)
    found = collect(lake)
    assert found.draft.rows.num_rows == 1
    lake.publish(found.draft)
    published = lake.snapshot(ONLINE_PREDICTIONS).to_arrow(order_by=["predicted_at"])
    assert published["customer_hmac"].to_pylist() == [None, "a" * 64]


def test_a_key_that_can_not_be_read_names_nobody(lake: Lake) -> None:
    lake.settings.home.mkdir()
    (lake.settings.home / "hmac.key").write_text("short")
    assert customer_names(lake.settings, ["C1"]) is None


def test_the_backlog_is_what_waits(log: PredictionLog, lake: Lake) -> None:
    assert backlog(lake.settings.prediction_spool) == (0, 0)
    log.append([record(1)], day=DAY)
    log.append([record(2)], day=DAY + timedelta(days=1))
    assert backlog(lake.settings.prediction_spool) == (2, sum(path.stat().st_size for path in spool(lake)))
    log.close()
    lake.publish(collect(lake).draft)
    retire(lake)
    assert backlog(lake.settings.prediction_spool) == (0, 0)
