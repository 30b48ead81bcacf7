"""Both DAGs on a real history of purchases, CDNOW's, where it is at hand.

Does not belong here: what any history shows.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from mlops_platform.contracts import PREDICTIONS
from mlops_platform.data_pipeline.crm_load import import_files
from mlops_platform_tests.airflow.airflows import Airflow
from mlops_platform_tests.airflow.homes import ingested
from mlops_platform_tests.scale import IS_FULL

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cdnow"
FIRST, LAST = date(1997, 1, 1), date(1998, 6, 30)


@pytest.mark.skipif(not IS_FULL, reason="FULL_PROOFS=1 runs it")
def test_a_model_is_trained_promoted_and_scores(airflow: Airflow, tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("the CDNOW data is not here")
    url = f"sqlite:///{tmp_path / 'crm.db'}"
    import_files(DATA, url)
    prepared = ingested(tmp_path, url, FIRST, LAST)
    # Airflow makes no task before a DAG's start_date: it is the home that lives in 1998.
    airflow.variables.update(MLOPS_HOME=str(prepared.settings.home), MLOPS_AS_OF=LAST.isoformat())

    trained = airflow.test("ml_training_pipeline", datetime(2025, 7, 1, 2, tzinfo=UTC))
    assert (trained.state, set(trained.states.values())) == ("success", {"success"}), trained.log[-8_000:]
    assert prepared.made("ml/production_model")["decision"] == "promoted"

    scored = airflow.test("ml_batch_inference_pipeline", datetime(2025, 7, 1, 6, tzinfo=UTC))
    assert scored.state == "success", scored.log[-8_000:]
    made = prepared.made("ml/inference_input")
    assert (
        prepared.lake.snapshot(PREDICTIONS).to_arrow(["prediction_id"]).num_rows == made["dagster/partition_row_count"]
    )
    assert made["dagster/partition_row_count"] > 8_000
