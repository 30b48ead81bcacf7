"""The drift report of a tick: which rows are compared, the table's rows, the page, and text made to break out of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_platform.contracts import DRIFT, PREDICTIONS, STANDARD
from mlops_platform.inference_pipeline.batch import predictions, reference_rows
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.monitoring.tick import NO_DRIFT_CHECK, DriftReport, drift_report, scored_rows
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import PRODUCTION, RegisteredModel
from mlops_platform_tests.unit.monitoring.test_report import HOSTILE, Page
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, AT, Shop

TICK = datetime(2024, 7, 1, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def predictor(shop: Shop) -> Predictor:
    rows = split_rows(shop.training.to_arrow(order_by=("feature_date", "customer_id")), "train")
    pipeline = make_model("xgboost", {"n_estimators": 5})
    pipeline.fit(rows.select(STANDARD.names), rows["churned"].to_numpy())
    version = RegisteredModel("churn", "1", PRODUCTION, "run", {})
    return Predictor(version, pipeline, 0.5, int(shop.training.snapshot_id or 0), STANDARD.names)


@pytest.fixture(scope="module")
def lake(shop: Shop, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Features of two days and the predictions of two ticks."""
    found = Lake(load_settings(home=tmp_path_factory.mktemp("tick") / "home"))
    days = (AS_OF - timedelta(days=90), AS_OF)
    scope = (Condition("feature_date", "in", days),)
    found.publish(Draft(STANDARD.customer_features, shop.features.to_arrow(where=scope), scope=scope))
    features = found.snapshot(STANDARD.customer_features)
    for tick, day, population in ((TICK, days[1], 365), (TICK + timedelta(hours=6), days[0], 60)):
        settings = found.settings.model_copy(update={"population_days": population})
        draft = predictions(settings, predictor, features, feature_date=day, tick=tick, created_at=AT)
        found.publish(draft)
    return found


class TestScoredRows:
    @pytest.mark.parametrize("hours", [0, 6])
    def test_they_are_the_ticks_customers_with_their_features(self, lake: Lake, hours: int) -> None:
        tick = TICK + timedelta(hours=hours)
        features, made = lake.snapshot(STANDARD.customer_features), lake.snapshot(PREDICTIONS)
        found = scored_rows(lake.settings, features, made, tick, STANDARD.names)
        stored = {(r["customer_id"], r["feature_date"]): r for r in features.to_arrow().to_pylist()}
        expected = [
            {name: stored[p["customer_id"], p["feature_date"]][name] for name in STANDARD.names}
            | {"churn_probability": p["churn_probability"]}
            for p in made.to_arrow(where=[Condition("tick", "=", tick)], order_by=["customer_id"]).to_pylist()
        ]
        assert found.to_pylist() == expected
        assert len(expected) > 20

    def test_a_tick_without_predictions_has_none(self, lake: Lake) -> None:
        tables = lake.snapshot(STANDARD.customer_features), lake.snapshot(PREDICTIONS)
        found = scored_rows(lake.settings, *tables, TICK - timedelta(hours=6), STANDARD.names)
        assert found.num_rows == 0
        assert found.column_names == [*STANDARD.names, "churn_probability"]


@pytest.fixture(scope="module")
def tables(shop: Shop, predictor: Predictor) -> tuple[pa.Table, pa.Table]:
    """The reference and, as the tick's rows, every third of it with one number moved far away."""
    reference = reference_rows(shop.settings, predictor, shop.training)
    current = reference.take(list(range(0, reference.num_rows, 3)))
    position = current.column_names.index("tenure_days")
    return reference, current.set_column(position, "tenure_days", pc.add(current["tenure_days"], 5000))


def report(
    lake: Lake,
    tables: tuple[pa.Table, pa.Table],
    *,
    tick: datetime = TICK,
    name: str = "churn",
    created_at: datetime = AT,
    **settings: Any,
) -> DriftReport:
    found = lake.settings.model_copy(update=settings)
    return drift_report(found, *tables, tick=tick, model_name=name, model_version="7", created_at=created_at)


class TestReport:
    @pytest.fixture
    def found(self, lake: Lake, tables: tuple[pa.Table, pa.Table]) -> DriftReport:
        return report(lake, tables)

    def test_a_row_a_column_and_the_page(
        self, lake: Lake, tables: tuple[pa.Table, pa.Table], found: DriftReport
    ) -> None:
        draft, result, path = found.draft, found.result, found.path
        assert [outcome.name for outcome in draft.audit() if not outcome.passed] == [NO_DRIFT_CHECK]
        rows = draft.rows.to_pylist()
        assert [row["column_name"] for row in rows] == [*STANDARD.names, "churn_probability"]
        assert [row["column_name"] for row in rows if row["is_drifted"]] == ["tenure_days"]
        assert {(row["tick"], row["status"], row["model_name"], row["model_version"]) for row in rows} == {
            (TICK, "drift", "churn", "7")
        }
        assert {(row["reference_rows"], row["current_rows"]) for row in rows} == {tuple(t.num_rows for t in tables)}
        assert draft.figures == {"status": "drift", "drifted_columns": 1, "drifted": "tenure_days"}
        assert result.drift_detected
        assert path == lake.settings.reports / "drift-20240701T0000.html"
        text = Page(path.read_text()).text
        assert "Drift detected" in text
        assert all(name in text for name in STANDARD.names)

    def test_drift_is_a_warning_that_names_the_column(self, found: DriftReport) -> None:
        outcome = found.draft.checks[0]
        assert (outcome.name, outcome.passed, outcome.is_blocking) == (NO_DRIFT_CHECK, False, False)
        assert outcome.message == f"1 of {len(STANDARD.names) + 1} columns drifted: tenure_days"
        assert outcome.figures["drifted_columns"] == 1

    def test_made_again_it_is_no_new_snapshot_and_no_new_page(
        self, lake: Lake, tables: tuple[pa.Table, pa.Table], found: DriftReport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = lake.publish(found.draft)
        written = found.path.stat()

        def refuse(*_: object) -> str:
            raise AssertionError("the page was drawn again")

        monkeypatch.setattr("mlops_platform.monitoring.report._draw", refuse)
        # Computed from the rows once more, at another time.
        made = report(lake, tables, created_at=AT + timedelta(hours=1))
        again = lake.publish(made.draft)
        assert (again.snapshot_id, again.is_new) == (first.snapshot_id, False)
        assert lake.snapshot(DRIFT).count() == len(STANDARD.names) + 1
        assert (made.path.stat().st_mtime_ns, made.path.stat().st_ino) == (written.st_mtime_ns, written.st_ino)
        assert made.picture == found.picture

    def test_the_page_is_named_after_the_local_time_of_the_tick(
        self, lake: Lake, tables: tuple[pa.Table, pa.Table]
    ) -> None:
        few = tables[0].slice(0, 5), tables[1].slice(0, 5)
        path = report(lake, few, timezone="America/Sao_Paulo").path
        assert path.name == "drift-20240630T2100.html"


@pytest.mark.parametrize("rows", [0, 5])
def test_too_few_rows_are_said_to_be_too_few(lake: Lake, tables: tuple[pa.Table, pa.Table], rows: int) -> None:
    found = report(lake, (tables[0], tables[1].slice(0, rows)), tick=TICK + timedelta(hours=12))
    draft = found.draft
    assert found.result.status == "insufficient_data"
    assert [outcome.message for outcome in draft.audit() if not outcome.passed] == [
        f"can't be told: current has {rows} rows, fewer than the 100 needed"
    ]
    assert found.picture is None
    outcomes = [(row["p_value"], row["is_drifted"]) for row in draft.rows.to_pylist()]
    assert outcomes == [(None, False)] * (len(STANDARD.names) + 1)
    assert "Insufficient data" in Page(found.path.read_text()).text
    lake.publish(draft)


def test_names_and_categories_can_not_break_out(lake: Lake, tables: tuple[pa.Table, pa.Table]) -> None:
    rng = np.random.default_rng(1)

    def hostile(table: pa.Table) -> pa.Table:
        position = table.column_names.index("preferred_category")
        words = [HOSTILE[i] for i in rng.integers(0, len(HOSTILE), table.num_rows)]
        return table.set_column(position, "preferred_category", pa.array(words))

    found = report(lake, (hostile(tables[0]), hostile(tables[1])), name=HOSTILE[0])
    draft, path = found.draft, found.path
    assert {row["model_name"] for row in draft.rows.to_pylist()} == {HOSTILE[0]}
    text = path.read_text()
    assert all(word not in text for word in HOSTILE if "<" in word)
    page = Page(text)
    clean = Page(report(lake, tables).path.read_text())
    assert len(page.scripts) == len(clean.scripts)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert path.parent == lake.settings.reports
    # The table holds names as they are: it is no page.
    lake.publish(draft)
