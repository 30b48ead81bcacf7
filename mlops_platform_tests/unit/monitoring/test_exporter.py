"""The exporter: what it says of tables, that it reads a state once, and what it does with a broken or hostile one."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mlops_platform.contracts import PERFORMANCE, PREDICTIONS, all_contracts
from mlops_platform.errors import InputError
from mlops_platform.monitoring.alerts import AlertManager
from mlops_platform.monitoring.alerts.message import SEVERITIES
from mlops_platform.monitoring.exporter import MAX_LABEL_LENGTH, MAX_SERIES, Exporter, registry_of, serving
from mlops_platform.monitoring.exporter_alerts import AlertsSource
from mlops_platform.monitoring.exporter_rows import MOST_CATEGORIES
from mlops_platform.monitoring.exporter_tables import TableSource, table_sources, time_column
from mlops_platform.monitoring.metrics import Family, Figure
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.read import TableSnapshot
from mlops_platform_tests.unit.monitoring import watched

NOW = datetime(2024, 7, 2, tzinfo=UTC)
Samples = dict[str, dict[tuple[str, ...], float]]
# Text made to end a label, a line or a page, or to start another.
HOSTILE = (
    "</script><script>alert(1)</script>", '"} 1\nmlops_exporter_up{source="x"} 0\n', 'a"b\\c\nd', "a\\", "\\n", "\r\n",
    "é\u202e\x00\x1b[31m", "# HELP x", '=HYPERLINK("http://x")', "{{7*7}}", "'; DROP TABLE x; --", "", " ", "😀",
)  # fmt: skip
THING = Family("mlops_thing_rows", "A thing.", ("name",))


def samples(exporter: Exporter) -> Samples:
    """What a scrape answers, by metric, and then by its labels' values in the order of their names."""
    found: Samples = {}
    for family in text_string_to_metric_families(generate_latest(registry_of(exporter)).decode()):
        for sample in family.samples:
            values = tuple(value for _, value in sorted(sample.labels.items()))
            assert values not in found.setdefault(sample.name, {})
            found[sample.name][values] = sample.value
    return found


def look(lake: Lake) -> Samples:
    exporter = Exporter(table_sources(lake))
    exporter.refresh(NOW)
    return samples(exporter)


@dataclass
class Things:
    """A source that says what it is told to."""

    figures: list[Figure] = field(default_factory=list)
    problem: Exception | None = None
    name: str = "things"

    def read(self) -> tuple[Figure, ...]:
        if self.problem is not None:
            raise self.problem
        return tuple(self.figures)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return watched.fill(load_settings(home=tmp_path_factory.mktemp("watched") / "home", timezone="America/Sao_Paulo"))


@pytest.fixture(scope="module")
def found(filled: Lake) -> Samples:
    return look(filled)


class TestTables:
    def test_every_tables_size_and_age(self, filled: Lake, found: Samples) -> None:
        assert found["mlops_table_rows"] == {
            ("feature_store.customer_features",): 200,
            ("ml.predictions",): 40,
            ("ml.promotions",): 1,
            ("monitoring.drift",): 3,
            ("monitoring.performance",): 4,
        }
        assert found["mlops_table_files"][("monitoring.performance",)] == 2
        assert found["mlops_table_size_bytes"][("ml.predictions",)] > 1000
        table = filled.snapshot(PREDICTIONS).table
        assert table is not None
        assert found["mlops_table_last_commit_timestamp_seconds"][("ml.predictions",)] * 1000 == pytest.approx(
            table.metadata.snapshots[-1].timestamp_ms
        )

    def test_newest_data_is_an_instant_or_a_local_days_end(self, found: Samples) -> None:
        newest = found["mlops_table_newest_data_timestamp_seconds"]
        assert newest[("ml.predictions",)] == watched.TICK.timestamp()
        # The day ends at midnight in São Paulo.
        assert newest[("feature_store.customer_features",)] == datetime(2024, 7, 1, 3, tzinfo=UTC).timestamp()

    def test_a_table_that_was_never_written_is_absent_and_no_error(self, found: Samples) -> None:
        assert found["mlops_exporter_up"][("silver.customers",)] == 1
        assert ("silver.customers",) not in found["mlops_table_rows"]
        assert set(found["mlops_exporter_up"].values()) == {1}
        assert set(found["mlops_exporter_errors_total"].values()) == {0}

    def test_which_column_says_how_far_a_table_reaches(self) -> None:
        found = {name: time_column(contract) for name, contract in all_contracts().items()}
        assert {name for name, column in found.items() if column is None} == {
            "bronze.erasures", "silver.customers", "silver.quarantine", "ml.training_set", "ml.promotions",
        }  # fmt: skip
        assert found["bronze.crm_transactions"] == "_ingested_at"
        assert (found["silver.transactions"], found["ml.online_predictions"]) == ("transaction_ts", "predicted_at")

    def test_an_empty_home(self, lake: Lake) -> None:
        assert set(look(lake)["mlops_exporter_up"].values()) == {1}

    def test_a_tables_newest_instant_where_files_have_no_statistics(
        self, filled: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pyiceberg.manifest import DataFile

        monkeypatch.setattr(DataFile, "upper_bounds", property(lambda _: None))
        found = look(filled)["mlops_table_newest_data_timestamp_seconds"]
        assert found[("ml.predictions",)] == watched.TICK.timestamp()
        assert found[("monitoring.performance",)] == datetime(2024, 7, 31, 3, tzinfo=UTC).timestamp()


class TestRows:
    def test_predictions_of_the_newest_tick(self, found: Samples) -> None:
        model = "customer_churn_model"
        assert found["mlops_batch_predictions_rows"] == {(model, "0", "2"): 30, (model, "1", "2"): 10}
        assert found["mlops_batch_scoring_seconds"][model, "2"] == pytest.approx(0.0005)
        assert found["mlops_batch_churn_probability_ratio"][("50",)] == pytest.approx(0.5)

    def test_drift_of_the_newest_tick(self, lake: Lake) -> None:
        watched.drift(lake, watched.TICK, a=0.5)
        watched.drift(lake, watched.TICK + timedelta(hours=6), a=0.02, b=0.3)
        found = look(lake)
        assert found["mlops_drift_effect_ratio"] == {("a",): 0.02, ("b",): 0.3}
        assert found["mlops_drift_detected"] == {("a",): 0, ("b",): 1}
        assert found["mlops_drift_status"] == {("ok",): 0, ("drift",): 1, ("insufficient_data",): 0}
        assert found["mlops_drift_compared_rows"] == {("reference",): 5000, ("current",): 300}

    def test_the_last_judgement_of_each_version(self, lake: Lake) -> None:
        day = watched.DAY
        watched.judge(lake, watched.judged(day, roc_auc=0.6, model_version="1"))
        watched.judge(lake, watched.judged(day + timedelta(days=1), roc_auc=None, source=None, segment=None))
        watched.judge(lake, watched.judged(day - timedelta(days=1), roc_auc=0.5, model_version="1"))
        # Long before: history.
        watched.judge(lake, watched.judged(day - timedelta(days=200), model_version="0"))
        watched.judge(lake, watched.judged(day + timedelta(days=60), model_version="1", is_estimate=True))
        found = look(lake)
        model = "customer_churn_model"
        assert found["mlops_model_roc_auc_ratio"] == {
            ("false", model, "all", "batch", "1"): 0.6,
            ("true", model, "all", "batch", "1"): 0.75,
        }
        # One class only: no ROC-AUC, but an accuracy; null stands for the batch and for all customers.
        assert found["mlops_model_accuracy_ratio"]["false", model, "all", "batch", "2"] == 0.8
        assert {labels[4] for labels in found["mlops_model_judged_rows"]} == {"1", "2"}

    def test_gate_decisions(self, lake: Lake) -> None:
        watched.decide(lake)
        watched.decide(lake, "refused", watched.AT + timedelta(days=1), model_version="3", roc_auc_champion=0.76)
        by_hand = {"roc_auc": None, "roc_auc_recency_only": None, "roc_auc_churn_score": None, "model_version": "1"}
        rolled_back = watched.AT + timedelta(days=2)
        watched.decide(lake, "rolled_back", rolled_back, **by_hand)
        found = look(lake)
        model = "customer_churn_model"
        assert found["mlops_gate_last_decision_timestamp_seconds"] == {("rolled_back", model): rolled_back.timestamp()}
        scorers = found["mlops_gate_roc_auc_ratio"]
        assert scorers[model, "model", "2"] == 0.76
        assert {labels[1] for labels in scorers if labels[2] == "3"} == {
            "model", "recency_only", "churn_score", "champion",
        }  # fmt: skip
        assert len(scorers) == 7

    def test_features_of_the_newest_day(self, lake: Lake) -> None:
        categories = [f"k{n}" for n in range(20)] * 5
        later = watched.DAY + timedelta(days=1)
        watched.feature(lake, watched.feature_rows(rows=50))
        watched.feature(
            lake,
            watched.feature_rows(later, 100, tenure_days=list(range(100)), preferred_category=sorted(categories)),
        )
        found = look(lake)
        values = found["mlops_feature_value"]
        own = {labels[1]: value for labels, value in values.items() if labels[0] == "tenure_days"}
        assert own == pytest.approx({"5": 4.95, "25": 24.75, "50": 49.5, "75": 74.25, "95": 94.05})
        shares = found["mlops_feature_category_ratio"]
        own = {labels[0]: share for labels, share in shares.items() if labels[1] == "preferred_category"}
        assert len(own) == MOST_CATEGORIES + 1
        assert own["other"] == 0.5
        assert sum(own.values()) == pytest.approx(1)


def test_alerts_of_the_platforms_own(home: Settings) -> None:
    def look() -> Samples:
        exporter = Exporter([AlertsSource(home)])
        exporter.refresh(NOW)
        return samples(exporter)

    nothing = look()
    assert nothing["mlops_alerts_open"] == dict.fromkeys(((severity,) for severity in SEVERITIES), 0)
    assert "mlops_alert_deliveries_total" not in nothing
    assert nothing["mlops_exporter_up"] == {("alerts",): 1}
    manager = AlertManager(["log"], settings=home)
    for _ in range(2):
        manager.send_alert("drift", "moved", "warning")
    found = look()
    assert found["mlops_alerts_open"] == dict.fromkeys(((severity,) for severity in SEVERITIES), 0) | {("warning",): 1}
    assert found["mlops_alert_deliveries_total"] == {("drift", "log", "sent"): 1, ("drift", "log", "suppressed"): 1}
    home.alert_state.write_bytes(b"no database")
    assert look()["mlops_exporter_up"] == {("alerts",): 0}


class TestReadingOnce:
    def test_a_state_is_read_once_and_the_next_one_again(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[str] = []
        real = TableSnapshot.relation

        def relation(self: TableSnapshot, *arguments: Any) -> Any:
            read.append(self.contract.name)
            return real(self, *arguments)

        monkeypatch.setattr(TableSnapshot, "relation", relation)
        watched.judge(lake, watched.judged())
        exporter = Exporter(table_sources(lake))
        read.clear()
        for _ in range(3):
            exporter.refresh(NOW)
            samples(exporter)
        assert read == [PERFORMANCE.name]
        watched.judge(lake, watched.judged(accuracy=0.9))
        read.clear()
        exporter.refresh(NOW)
        assert read == [PERFORMANCE.name]
        assert 0.9 in samples(exporter)["mlops_model_accuracy_ratio"].values()


class TestFailure:
    def test_a_broken_table_is_told_and_the_others_stay(self, lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
        watched.drift(lake, a=0.5)
        watched.judge(lake, watched.judged())
        (file,) = (path for path in lake.settings.warehouse.rglob("*.parquet") if "performance" in str(path))
        kept = file.read_bytes()
        file.unlink()
        exporter = Exporter(table_sources(lake))
        for _ in range(2):
            exporter.refresh(NOW)
        found = samples(exporter)
        assert found["mlops_exporter_up"][(PERFORMANCE.name,)] == 0
        assert found["mlops_exporter_errors_total"][(PERFORMANCE.name,)] == 2
        assert "mlops_model_accuracy_ratio" not in found
        assert found["mlops_drift_detected"] == {("a",): 1}
        # Said once, not at each look.
        assert len([record for record in caplog.records if PERFORMANCE.name in record.getMessage()]) == 1
        file.write_bytes(kept)
        exporter.refresh(NOW)
        assert samples(exporter)["mlops_exporter_up"][(PERFORMANCE.name,)] == 1
        assert "mlops_model_accuracy_ratio" in samples(exporter)

    def test_it_answers_whatever_a_source_raises(self, tmp_path: Path) -> None:
        source = Things([THING.figure(1, "a")])
        exporter = Exporter([source])
        exporter.refresh(NOW)
        source.problem = RuntimeError("postgresql://me:hidden@host/db is gone")
        exporter.refresh(NOW + timedelta(minutes=1))
        with serving(exporter, tmp_path, "127.0.0.1", 0) as port:
            answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
        assert answer.status_code == 200
        assert 'mlops_exporter_up{source="things"} 0.0' in answer.text
        # A value that may no longer hold is not shown; when it was looked at is.
        assert "mlops_thing_rows" not in answer.text
        assert samples(exporter)["mlops_exporter_last_refresh_timestamp_seconds"][()] == NOW.timestamp() + 60

    def test_a_password_is_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        Exporter([Things(problem=RuntimeError("postgresql://me:hidden@host/db is gone"))]).refresh(NOW)
        assert "is gone" in caplog.text
        assert "hidden" not in caplog.text

    def test_a_taken_port_is_a_message(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with (
                pytest.raises(InputError, match="--port"),
                serving(Exporter([]), Path(), "127.0.0.1", taken.getsockname()[1]),
            ):
                pass


class TestLabels:
    def test_hostile_text_comes_back_as_it_was(self) -> None:
        exporter = Exporter([Things([THING.figure(1, text) for text in HOSTILE])])
        exporter.refresh(NOW)
        page = generate_latest(registry_of(exporter)).decode()
        # One line a series: nothing starts a line, or a series, of its own.
        lines = [line for line in page.split("\n") if line.startswith("mlops_thing_rows")]
        assert len(lines) == len(HOSTILE)
        assert {labels[0] for labels in samples(exporter)["mlops_thing_rows"]} == set(HOSTILE)

    def test_series_and_labels_are_bounded(self) -> None:
        figures = [THING.figure(n, f"{n:05}" + "x" * 500) for n in range(MAX_SERIES + 7)]
        exporter = Exporter([Things(figures)])
        exporter.refresh(NOW)
        found = samples(exporter)
        assert len(found["mlops_thing_rows"]) == MAX_SERIES
        assert {len(labels[0]) for labels in found["mlops_thing_rows"]} == {MAX_LABEL_LENGTH}
        assert found["mlops_exporter_dropped_series"] == {("mlops_thing_rows",): 7}

    def test_no_number_is_no_series(self) -> None:
        exporter = Exporter([Things([THING.figure(float("nan"), "a"), THING.figure(float("inf"), "b")])])
        exporter.refresh(NOW)
        assert "mlops_thing_rows" not in samples(exporter)


def test_the_exporters_own_process_is_in_it(filled: Lake) -> None:
    assert samples(Exporter([TableSource(filled, PREDICTIONS)]))["process_cpu_seconds_total"][()] > 0
