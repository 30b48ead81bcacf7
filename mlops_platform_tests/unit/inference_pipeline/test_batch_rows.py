"""A user's rows scored into a file: who is scored, why the others are not, and each score, against a loop over rows."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from hashlib import md5
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import PREDICTIONS, STANDARD
from mlops_platform.errors import InputError, NotEnoughDataError, StorageError
from mlops_platform.feature_pipeline.point_in_time import features_on
from mlops_platform.inference_pipeline import batch_files
from mlops_platform.inference_pipeline.batch_files import output_file
from mlops_platform.inference_pipeline.batch_rows import ScoredFile, score_rows
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import Settings, load_settings
from mlops_platform.training_pipeline.registry import PRODUCTION, RegisteredModel
from mlops_platform_tests.integration.buckets import Bucket, running_s3
from mlops_platform_tests.integration.hostile_texts import HOSTILE_TEXTS
from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import fitted
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, AT, Shop

PATH = "ml/predictions/batch_20240115.parquet"
GIVEN = ("days_since_last_transaction", "churn_score", "preferred_category", "customer_segment")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def predictor(shop: Shop) -> Predictor:
    """A small calibrated model of every feature, as version 3."""
    version = RegisteredModel("churn", "3", PRODUCTION, "run", {})
    return Predictor(version, fitted(shop), 0.4, 1, STANDARD.names)


@pytest.fixture(scope="module")
def stored(shop: Shop) -> dict[str, Row]:
    """The feature store's rows of the day by customer."""
    return {row["customer_id"]: row for row in features_on(shop.features, [AS_OF]).to_pylist()}


@dataclass(frozen=True)
class Scoring:
    """A home to write to, and what its rows are scored with."""

    settings: Settings
    shop: Shop
    predictor: Predictor

    def __call__(self, rows: Any, *, path: str = PATH, day: date = AS_OF, hours: int = 0, size: int = 50) -> ScoredFile:
        return score_rows(
            self.predictor,
            rows,
            self.shop.features,
            output_file(self.settings, path),
            feature_date=day,
            created_at=AT + timedelta(hours=hours),
            batch_rows=size,
        )

    def file(self, path: str = PATH) -> list[Row]:
        rows: list[Row] = pq.read_table(self.settings.warehouse / path).to_pylist()
        return rows

    def left(self) -> list[Row]:
        return self.file(PATH.replace(".parquet", ".not_scored.parquet"))


@pytest.fixture
def scoring(shop: Shop, predictor: Predictor, tmp_path: Path) -> Scoring:
    return Scoring(load_settings(home=tmp_path / "home"), shop, predictor)


def messy(stored: dict[str, Row], size: int = 240) -> list[Row]:
    """Rows with features of their own, of known and unknown customers, some of them at fault."""
    draw = random.Random(5)
    names = sorted(stored)
    found = []
    for number in range(size):
        customer = draw.choice([*names, *names, *(f"new{n}" for n in range(20)), None, " "])
        row: Row = {"customer_id": customer, "region": f"r{number}"}
        row |= {name: draw.choice(list(stored.values()))[name] for name in GIVEN}
        # Types that a DataFrame gives: whole numbers beside a missing one become floats.
        row["days_since_last_transaction"] = float(draw.choice([row["days_since_last_transaction"], 2, 400]))
        row |= draw.choice(
            [
                *([{}] * 8),
                {"churn_score": math.nan},
                {"churn_score": None},
                {"churn_score": 1.5},
                {"churn_score": math.inf},
                {"days_since_last_transaction": 2.5},
                {"days_since_last_transaction": -1.0},
                {"preferred_category": None},
                {"customer_segment": "gold", "churn_score": -0.1},
                {"preferred_category": draw.choice(HOSTILE_TEXTS)},
            ]
        )
        found.append(row)
    return found


def judged(row: Row, seen: set[str], stored: dict[str, Row], schema: RowSchema) -> tuple[str | None, list[str]]:
    """Why a row is not scored, and the features at fault: the slow, obvious way."""
    customer = row["customer_id"]
    if customer is None or not customer.strip():
        return "no_customer_id", []
    if customer in seen:
        return "duplicate_customer_id", []
    seen.add(customer)
    known = stored.get(customer, dict.fromkeys(STANDARD.names, 0))
    own = {name: row[name] for name in GIVEN if name in row}
    _, faults = schema.check({name: {**known, **own}[name] for name in schema.names})
    at_fault = [name for name in schema.names if name in own and name in faults]
    if at_fault:
        return "out_of_contract", at_fault
    if customer not in stored:
        return "unknown_customer", []
    return ("outside_population" if own["days_since_last_transaction"] >= 365 else None), []


def as_parquet(rows: list[Row], folder: Path) -> str:
    pq.write_table(pa.Table.from_pylist(rows), folder / "given.parquet")
    return str(folder / "given.parquet")


FORMS: dict[str, Callable[[list[Row], Path], Any]] = {
    "DataFrame": lambda rows, _: pd.DataFrame(rows),
    "Arrow": lambda rows, _: pa.Table.from_pylist(rows),
    "Parquet": as_parquet,
    "categories": lambda rows, _: pd.DataFrame(rows).astype({"preferred_category": "category"}),
}


class TestAgainstALoop:
    @pytest.mark.parametrize("form", FORMS)
    def test_each_row_is_scored_to_the_last_bit_or_left_out_for_the_reason(
        self, scoring: Scoring, stored: dict[str, Row], tmp_path: Path, form: str
    ) -> None:
        rows = messy(stored)
        done = scoring(FORMS[form](rows, tmp_path))
        schema, seen = RowSchema.of(scoring.settings, STANDARD.names), set[str]()
        verdicts = [judged(row, seen, stored, schema) for row in rows]
        left = scoring.left()
        expected = [(n, row["customer_id"], why) for n, (row, (why, _)) in enumerate(zip(rows, verdicts, strict=True))]
        assert [(r["row"], r["customer_id"], r["reason"]) for r in left] == [each for each in expected if each[2]]
        details = [[word.split(" is ")[0] for word in r["detail"].split("; ")] for r in left if "out_of" in r["reason"]]
        assert details == [faults for _, faults in verdicts if faults]
        assert done.not_scored == Counter(why for why, _ in verdicts if why)
        assert len(done.not_scored) == 5

        scored = [row for row, (why, _) in zip(rows, verdicts, strict=True) if why is None]
        found = scoring.file()
        assert done.scored == len(found) == len(scored) > 40
        assert [r["customer_id"] for r in found] == [r["customer_id"] for r in scored]
        for row, mine in zip(scored, found, strict=True):
            record = stored[row["customer_id"]] | {name: row[name] for name in GIVEN}
            probability = float(scoring.predictor.pipeline.predict_proba([record])[0, 1])
            assert mine["churn_probability"] == probability
            assert mine["prediction"] == int(probability >= 0.4)
            assert mine["confidence"] == max(probability, 1 - probability)
            assert {name: mine[name] for name in GIVEN} == {name: row[name] for name in GIVEN}

    @pytest.mark.parametrize("size", [1, 7, 1_000])
    def test_the_size_of_a_batch_changes_no_byte(
        self, scoring: Scoring, stored: dict[str, Row], size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = pd.DataFrame(messy(stored))
        monkeypatch.setattr("mlops_platform.inference_pipeline.batch_scoring.perf_counter", lambda: 1.0)
        written = []
        for batch_rows in (50, size):
            scoring(rows, size=batch_rows, path=PATH)
            written.append((scoring.settings.warehouse / PATH).read_bytes())
            (scoring.settings.warehouse / PATH).unlink()
        assert written[0] == written[1]


class TestTheFile:
    def test_a_row_has_what_the_prediction_log_has(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        done = scoring(pd.DataFrame({"customer_id": sorted(stored)}))
        row = scoring.file()[0]
        own = [name for name in PREDICTIONS.column_names if name != "tick"]
        assert list(row) == own
        key = f"{row['customer_id']}/{AS_OF}/3/{PATH}"
        assert row["prediction_id"] == md5(key.encode(), usedforsecurity=False).hexdigest()
        assert (row["model_name"], row["model_version"], row["feature_date"]) == ("churn", "3", AS_OF)
        assert row["feature_snapshot_id"] == done.feature_snapshot_id == scoring.shop.features.snapshot_id
        assert row["_created_at"] == AT
        assert row["inference_latency_ms"] > 0

    def test_rows_with_every_feature_need_no_feature_store(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        rows = [row | {"customer_id": f"new{n}"} for n, row in enumerate(stored.values())]
        done = scoring(pa.Table.from_pylist(rows), day=AS_OF + timedelta(days=400))
        assert done.feature_snapshot_id is None
        assert done.scored == len(rows)
        expected = scoring.predictor.pipeline.predict_proba(rows)[:, 1].tolist()
        assert [row["churn_probability"] for row in scoring.file()] == expected

    def test_the_same_again_leaves_both_files_alone(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        rows = pd.DataFrame(messy(stored))
        paths = [scoring.settings.warehouse / PATH.replace(".parquet", e) for e in (".parquet", ".not_scored.parquet")]
        first = scoring(rows)
        before = [(path.read_bytes(), path.stat().st_ino) for path in paths]
        again = scoring(rows, hours=1)
        assert (first.is_new, again.is_new) == (True, False)
        assert [(path.read_bytes(), path.stat().st_ino) for path in paths] == before
        assert {path.name for path in paths[0].parent.iterdir()} == {path.name for path in paths}
        assert scoring(rows.iloc[:-1], hours=2).is_new

    def test_another_file_of_that_name_is_replaced(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        path = scoring.settings.warehouse / PATH
        path.parent.mkdir(parents=True)
        path.write_text("no Parquet")
        assert scoring(pd.DataFrame({"customer_id": sorted(stored)})).is_new
        assert len(scoring.file()) > 50

    def test_a_failure_on_the_way_leaves_the_old_file_and_nothing_else(
        self, scoring: Scoring, stored: dict[str, Row], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = pd.DataFrame({"customer_id": sorted(stored)})
        scoring(rows.iloc[:20])
        folder = (scoring.settings.warehouse / PATH).parent
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        calls = iter([None, None])

        def fails(self: Predictor, rows: Any) -> Any:
            next(calls, 1 / 0)

        monkeypatch.setattr(Predictor, "score", fails)
        with pytest.raises(ZeroDivisionError):
            scoring(rows)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    def test_a_folder_that_can_t_be_written_is_named(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        scoring.settings.warehouse.mkdir(parents=True)
        (scoring.settings.warehouse / "ml").write_text("in the way")
        with pytest.raises(StorageError, match=r"batch_20240115.*parquet can't be written"):
            scoring(pd.DataFrame({"customer_id": sorted(stored)}))

    def test_in_a_bucket_it_is_an_object(
        self, shop: Shop, predictor: Predictor, stored: dict[str, Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running_s3() as endpoint:
            bucket = Bucket.fresh(endpoint)
            for name, value in bucket.environment().items():
                monkeypatch.setenv(name, value)
            bucket.create()
            scoring = Scoring(load_settings(home=tmp_path / "home", warehouse_url=bucket.url), shop, predictor)
            rows = pd.DataFrame({"customer_id": sorted(stored)})
            assert [scoring(rows, hours=hours).is_new for hours in range(2)] == [True, False]
            assert bucket.listed() == [f"lake/{PATH[:-8]}.not_scored.parquet", f"lake/{PATH}"]
            # What was written can be given.
            given = scoring(f"s3://{bucket.name}/lake/{PATH}", path="ml/again.parquet")
            assert given.scored + sum(given.not_scored.values()) == scoring(rows).scored
        assert list((tmp_path / "home" / "tmp").iterdir()) == []

    def test_row_groups_are_bounded(
        self, scoring: Scoring, stored: dict[str, Row], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_files, "GROUP_ROWS", 16)
        done = scoring(pd.DataFrame({"customer_id": sorted(stored)}), size=7)
        groups = pq.ParquetFile(scoring.settings.warehouse / PATH).metadata
        sizes = [groups.row_group(n).num_rows for n in range(groups.num_row_groups)]
        assert sum(sizes) == done.scored
        assert set(sizes[:-1]) == {16}

    def test_hostile_texts_stay_what_they_are(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        known = [row for row in stored.values() if row["days_since_last_transaction"] < 365]
        rows = [
            known[n % len(known)] | {"customer_id": f"{n}{text}", "preferred_category": text}
            for n, text in enumerate(HOSTILE_TEXTS)
        ]
        assert scoring(pa.Table.from_pylist(rows)).scored == len(rows) == 200
        kept = [(row["customer_id"], row["preferred_category"]) for row in scoring.file()]
        assert kept == [(row["customer_id"], row["preferred_category"]) for row in rows]
        unknown = pd.DataFrame({"customer_id": [row["customer_id"] for row in rows]})
        assert scoring(unknown).not_scored == {"unknown_customer": 200}
        assert [row["customer_id"] for row in scoring.left()] == [row["customer_id"] for row in rows]

    def test_nothing_to_score_is_a_file_without_rows(self, scoring: Scoring) -> None:
        for rows in (pd.DataFrame({"customer_id": ["nobody"]}), pa.table({"customer_id": pa.array([], pa.string())})):
            assert scoring(rows).scored == 0
            assert scoring.file() == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (pd.DataFrame({"client": ["a"]}), "no column customer_id.*reset_index"),
            (pd.DataFrame([["a", "b"]], columns=["customer_id"] * 2), "more than one column customer_id"),
            (pd.DataFrame({"customer_id": [1.5]}), "customer_id is of type DOUBLE"),
            (pd.DataFrame({"customer_id": ["a", 1]}), "a column of several types"),
            (pd.DataFrame({"customer_id": ["a"], "churn_score": ["high"]}), "column churn_score is of type VARCHAR"),
            (pd.DataFrame({"customer_id": ["a"], "tenure_days": [True]}), "column tenure_days is of type BOOLEAN"),
            (pd.DataFrame({"customer_id": ["a"], "preferred_category": [3]}), "preferred_category is of type BIGINT"),
            ([{"customer_id": "a"}], "input_data is list"),
            ("no/such.parquet", "there is no file 'no/such.parquet'"),
            ("customers.csv", "ends in .parquet"),
        ],
    )
    def test_rows_that_can_t_be_meant(self, scoring: Scoring, rows: Any, words: str) -> None:
        with pytest.raises(InputError, match=words):
            scoring(rows)
        assert not (scoring.settings.warehouse / PATH).exists()

    def test_a_file_that_is_no_parquet(self, scoring: Scoring, tmp_path: Path) -> None:
        (tmp_path / "x.parquet").write_text("customer_id\na\n")
        with pytest.raises(InputError, match=r"x.parquet' can't be read"):
            scoring(tmp_path / "x.parquet")

    def test_a_day_without_features_names_the_command(self, scoring: Scoring) -> None:
        day = AS_OF + timedelta(days=1)
        with pytest.raises(NotEnoughDataError, match=f"mlops features backfill --from {day} --to {day}"):
            scoring(pd.DataFrame({"customer_id": ["a"]}), day=day)


class TestKindsOfColumns:
    @pytest.mark.parametrize(
        "cell",
        [3, 3.0, np.int8(3), np.float32(3), Decimal(3), None],
        ids=["int", "float", "int8", "float32", "decimal", "none"],
    )
    def test_a_number_is_a_number(self, scoring: Scoring, stored: dict[str, Row], cell: Any) -> None:
        customer = min(c for c, row in stored.items() if row["days_since_last_transaction"] < 365)
        done = scoring(pd.DataFrame({"customer_id": [customer], "tenure_days": [cell]}))
        if cell is None:
            assert done.not_scored == {"out_of_contract": 1}
            return
        expected = scoring.predictor.pipeline.predict_proba([stored[customer] | {"tenure_days": 3}])[0, 1]
        assert [row["churn_probability"] for row in scoring.file()] == [expected]

    def test_customers_may_be_whole_numbers(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        row = next(row for row in stored.values() if row["days_since_last_transaction"] < 365)
        scoring(pd.DataFrame([row | {"customer_id": 17}]))
        assert [row["customer_id"] for row in scoring.file()] == ["17"]

    def test_columns_that_are_no_features_are_left_alone(self, scoring: Scoring, stored: dict[str, Row]) -> None:
        rows = pd.DataFrame({"customer_id": sorted(stored)[:9], "_row": 1, "note": [object()] * 9})
        assert scoring(rows).scored + sum(scoring(rows).not_scored.values()) == 9

    def test_a_pattern_of_file_names_is_no_file(self, scoring: Scoring, tmp_path: Path) -> None:
        duckdb.sql("SELECT 'a' AS customer_id").write_parquet(str(tmp_path / "a.parquet"))
        with pytest.raises(InputError, match="none of"):
            scoring(str(tmp_path / "*.parquet"))
