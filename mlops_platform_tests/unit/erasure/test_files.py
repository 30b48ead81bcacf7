"""Erasing from files: only what names the customer goes, and a file somebody writes loses nothing."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

from mlops_platform.erasure import verify
from mlops_platform.erasure.files import erase_from_files
from mlops_platform.erasure.subjects import Subjects
from mlops_platform.inference_pipeline.prediction_log import PredictionLog, prediction_record, timestamp_of
from mlops_platform.settings import Settings
from mlops_platform.storage.pseudonym import customer_hmac

AT = datetime(2024, 7, 1, tzinfo=UTC)


def erased(home: Settings, *ids: str) -> tuple[list[str], list[str]]:
    """Erases; names of the files changed, and of those left alone."""
    changed, busy = erase_from_files(home, Subjects.of(home, ids))
    return [path.name for path in changed], [path.name for path in busy]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def logged(home: Settings, *customers: str) -> PredictionLog:
    """A service's log of predictions for customers, by their hashes."""
    log = PredictionLog(home.prediction_spool)
    for name in customers:
        features = {"customer_hmac": customer_hmac(home, name), "size": 12345}
        record = prediction_record(
            f"PRED_{name}", timestamp_of(AT), model_name="m", model_version="1", features=features, prediction=0,
            probability=0.5, inference_latency_ms=1.0,
        )  # fmt: skip
        assert log.append([record], day=date(2024, 7, 1))
    return log


def test_lines_of_a_complete_spool_file(home: Settings) -> None:
    logged(home, "c1", "c10", "12345").close()
    [spool] = home.prediction_spool.iterdir()
    # The size of every line is 12345, which is no customer.
    assert erased(home, "c1") == ([spool.name], [])
    assert [json.loads(line)["prediction_id"] for line in spool.read_text().splitlines()] == ["PRED_c10", "PRED_12345"]
    assert erased(home, "12345") == ([spool.name], [])
    assert len(spool.read_text().splitlines()) == 1
    assert erased(home, "12345") == ([], [])


def test_a_spool_file_that_a_service_writes_waits(home: Settings) -> None:
    log = logged(home, "c1", "c2")
    [spool] = home.prediction_spool.iterdir()
    before = spool.read_bytes()
    assert erased(home, "c1") == ([], [spool.name])
    assert erased(home, "c3") == ([], [])
    assert spool.read_bytes() == before
    log.close()
    assert erased(home, "c1") == ([spool.name], [])


def test_a_line_of_a_log_is_blanked_while_its_process_writes_on(home: Settings) -> None:
    path = put(home.home / "logs" / "service.log", "start\nscored C1 in 3 ms\nscored C10\n")
    compute = put(home.dagster_home / "storage" / "run" / "compute_logs" / "step.err", "row of C1\n")
    with path.open("ab") as writer:
        changed, _ = erased(home, "C1")
        writer.write(b"goes on\n")
    assert changed == ["service.log", "step.err"]
    assert path.read_text() == "start\n-----------------\nscored C10\ngoes on\n"
    assert compute.read_text() == "---------\n"


def test_a_drift_report_goes_whole(home: Settings) -> None:
    named = put(home.reports / "drift-1.html", "<script>['C1', 'C2']</script>")
    other = put(home.reports / "drift-2.html", "<p>C10, xC1, C1x</p>")
    assert erased(home, "C1") == (["drift-1.html"], [])
    assert (named.exists(), other.exists()) == (False, True)


def test_references_and_artifacts_keep_their_form(home: Settings) -> None:
    value = {"model": "1", "customers": ["C1", "C10"], "customer_id": 77, "rows": 77, "C1": None}
    reference = put(home.home / "references" / "ml" / "latest.json", json.dumps(value, indent=1))
    artifacts = home.mlflow_artifacts / "run"
    page, table = put(artifacts / "page.html", "<b>C1</b>"), put(artifacts / "rows.csv", "id,x\nC1,2\n77.5,1\n77,3\n")
    erased(home, "C1", "77")
    kept = {"model": "1", "customers": ["erased", "C10"], "customer_id": None, "rows": 77, "erased": None}
    assert reference.read_text() == json.dumps(kept, indent=1)
    assert page.read_text() == "<b>erased</b>"
    assert table.read_text() == "id,x\n77.5,1\n"
    assert verify(home, ["C1"]) == []
