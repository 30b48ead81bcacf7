"""`ModelMonitor`, the documented call: what it compares with, what it answers, what it says when it can't."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import InputError
from mlops_platform.monitoring import ModelMonitor
from mlops_platform.settings import Settings
from mlops_platform.storage.conditions import Condition
from mlops_platform_tests.unit.monitoring.drifting import COLUMNS, draw
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

PATH = "ml/training_sets/train_v1.parquet"
ROWS = 1_000


@pytest.fixture
def reference(home: Settings) -> pa.Table:
    """A file of a training set: features, keys, label and split; rows of the split `test` are all alike."""
    rows = draw(np.random.default_rng(1), ROWS)
    rows = rows.append_column("customer_id", pa.array([f"c{n}" for n in range(ROWS)]))
    rows = rows.append_column("churned", pa.array([0, 1] * (ROWS // 2)))
    test = pa.table({**{name: rows[name].take([0] * ROWS) for name in rows.column_names}})
    both = pa.concat_tables([rows, test]).append_column("split", pa.array(["train"] * ROWS + ["test"] * ROWS))
    write(home, both)
    return rows


def write(home: Settings, rows: pa.Table, path: str = PATH) -> None:
    file = home.warehouse / path
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, file)


def current(*planted: str) -> pa.Table:
    return draw(np.random.default_rng(2), ROWS, planted)


def few(name: str, values: list[Any]) -> pa.Table:
    return pa.table({name: values * (ROWS // len(values))})


@pytest.mark.usefixtures("reference")
class TestAFile:
    def test_the_documented_call_answers_as_documented(self, home: Settings) -> None:
        monitor = ModelMonitor(reference_data_path=PATH, drift_threshold=0.05, settings=home)
        found = monitor.detect_data_drift(current_data=current("spend_1", "category_1").to_pandas())
        assert found["drift_detected"] is True
        assert (found["status"], found["drifted"]) == ("drift", ["spend_1", "category_1"])
        assert [column["column"] for column in found["columns"]] == list(COLUMNS)
        assert [column["column"] for column in found["columns"] if column["drifted"]] == found["drifted"]
        assert found["method"] == {
            "numeric": "ks_2samp",
            "categorical": "chi2_contingency",
            "correction": "holm",
        }
        assert found["rows"] == {"reference": ROWS, "current": ROWS, "sampled": ROWS}
        assert (found["sample_seed"], found["problems"], found["reference"]) == (0, [], PATH)
        assert (found["drift_threshold"], found["effect_limit"]) == (0.05, 0.1)
        page = Path(found["report_path"])
        assert page.parent == home.reports
        assert "Drift detected" in page.read_text("utf-8")
        json.dumps(found, allow_nan=False)

    def test_the_same_again_is_the_same_answer_and_page(self, home: Settings) -> None:
        # Few rows: no page of Evidently's to draw.
        answers = [ModelMonitor(settings=home).detect_data_drift(current().slice(0, 50)) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0]["status"] == "insufficient_data"
        other = ModelMonitor(settings=home).detect_data_drift(current().slice(0, 40))
        assert other["report_path"] != answers[0]["report_path"]
        assert len(list(home.reports.iterdir())) == 2

    def test_the_arguments_reach_the_decision(self, home: Settings) -> None:
        rows = current("normal_0").slice(0, 150)
        assert not ModelMonitor(PATH, 0.05, 0.5, settings=home).detect_data_drift(rows)["drift_detected"]
        assert not ModelMonitor(PATH, 1e-9, settings=home).detect_data_drift(rows)["drift_detected"]
        with pytest.raises(InputError, match="drift_threshold is 5"):
            ModelMonitor(PATH, 5.0, settings=home).detect_data_drift(rows)

    def test_a_missing_and_a_mistyped_column_are_problems(self, home: Settings) -> None:
        rows = current().slice(0, 90).drop_columns(["spend_1"])
        rows = rows.set_column(0, "normal_0", pa.array(["x"] * 90))
        found = ModelMonitor(settings=home).detect_data_drift(rows)
        assert found["problems"] == [
            "current has 90 rows, fewer than the 100 needed",
            "column 'normal_0': is string in current, which can't be compared as numeric",
            "column 'spend_1': missing in current",
        ]


class TestColumns:
    def test_scores_are_compared_where_both_sides_have_them(self, home: Settings) -> None:
        write(home, few("churn_probability", [0.1, 0.2]).append_column("x", few("x", [1, 2])["x"]))
        monitor = ModelMonitor(settings=home)
        scores = few("churn_probability", [0.8, 0.9]).append_column("x", few("x", [1, 2])["x"])
        assert monitor.detect_data_drift(scores)["drifted"] == ["churn_probability"]
        found = monitor.detect_data_drift(scores.select(["x"]))
        assert (found["status"], [column["column"] for column in found["columns"]]) == ("ok", ["x"])

    def test_a_feature_is_compared_as_declared_and_dates_not_at_all(self, home: Settings) -> None:
        rows = few("preferred_category", ["a", "b"]).append_column("recency_score", few("r", [1, 5])["r"])
        rows = rows.append_column("day", few("d", [pd.Timestamp("2024-01-01").date()])["d"])
        write(home, rows.append_column("_created_at", few("d", [1])["d"]))
        found = ModelMonitor(settings=home).detect_data_drift(rows)
        kinds = {column["column"]: column["kind"] for column in found["columns"]}
        assert kinds == {name: STANDARD.kinds[name] for name in ("preferred_category", "recency_score")}

    def test_a_reference_without_any_column_to_compare_is_refused(self, home: Settings) -> None:
        write(home, few("customer_id", ["a"]))
        with pytest.raises(InputError, match="no column to compare"):
            ModelMonitor(settings=home).detect_data_drift(few("x", [1]))

    @pytest.mark.parametrize("data", [[1, 2], pd.DataFrame({"x": ["a", 1]})])
    @pytest.mark.usefixtures("reference")
    def test_data_that_is_no_table_is_refused(self, home: Settings, data: Any) -> None:
        with pytest.raises(InputError, match="current_data"):
            ModelMonitor(settings=home).detect_data_drift(data)


class TestTables:
    def test_without_a_file_it_is_the_first_training_set(self, shop: Shop) -> None:
        monitor = ModelMonitor(settings=shop.settings)
        train = shop.training.to_arrow(where=[Condition("split", "=", "train")])
        assert monitor.reference.rows.num_rows == train.num_rows > 0
        first = shop.training.table.snapshots()[0].snapshot_id if shop.training.table is not None else None
        assert monitor.reference.source == f"ml.training_set, snapshot {first}, split train"
        position = train.column_names.index("tenure_days")
        moved = train.set_column(position, "tenure_days", pc.add(train["tenure_days"], 5000))
        found = monitor.detect_data_drift(moved.to_pandas())
        assert found["drifted"] == ["tenure_days"]
        assert [column["column"] for column in found["columns"]] == list(STANDARD.names)

    def test_a_tables_path_is_that_table(self, shop: Shop) -> None:
        found = ModelMonitor("s3://bucket/ml/features/customer_features/", settings=shop.settings).reference
        assert found.rows.num_rows == shop.features.count()

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("ml/training_sets/train_v999.parquet", r"train_v1\.parquet to train_v"),
            ("ml/training_sets/mine.parquet", r"mine\.parquet can't be read"),
            ("ml/nothing/", "names no table"),
        ],
    )
    def test_a_path_that_names_nothing_says_what_there_is(self, shop: Shop, path: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            ModelMonitor(path, settings=shop.settings).detect_data_drift(few("x", [1]))

    def test_a_home_without_a_training_set_says_how_to_get_one(self, home: Settings) -> None:
        with pytest.raises(InputError, match=r"none yet.*`mlops train`"):
            ModelMonitor(settings=home).detect_data_drift(few("x", [1]))

    def test_a_file_that_is_no_parquet_is_refused(self, home: Settings) -> None:
        write(home, few("x", [1]))
        (home.warehouse / PATH).write_text("x")
        with pytest.raises(InputError, match="can't be read"):
            ModelMonitor(settings=home).detect_data_drift(few("x", [1]))

    def test_another_bucket_than_the_warehouses_is_refused(self, home: Settings) -> None:
        settings = home.model_copy(update={"warehouse_url": "s3://ours/lake"})
        with pytest.raises(InputError, match="lies in the bucket theirs"):
            ModelMonitor("s3://theirs/x.parquet", settings=settings).detect_data_drift(few("x", [1]))


def test_importing_the_monitor_loads_nothing_heavy() -> None:
    code = "import sys; from mlops_platform.monitoring import ModelMonitor; print('evidently' in sys.modules, "
    code += "'scipy' in sys.modules, 'matplotlib' in sys.modules, 'pandas' in sys.modules)"
    done = run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"] * 4
