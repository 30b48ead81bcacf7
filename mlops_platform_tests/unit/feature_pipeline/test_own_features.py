"""A user's own feature through real tables: declared once, it is in the store, the checks, the docs and the model.

One home lives through it in order: standard features and a model of them; a feature is declared; one feature_date is
published; all are; a model is trained with it; the declaration is removed. Does not belong here: what is wrong with a
declaration (`contracts/test_feature_set.py`), records (`test_record.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_platform.contracts import PREDICTIONS, SILVER_TRANSACTIONS, STANDARD, load_feature_set
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.definitions import build_definitions
from mlops_platform.errors import ContractError, InputError, ModelError, NotEnoughDataError, StorageError
from mlops_platform.feature_pipeline.load import features_draft
from mlops_platform.feature_pipeline.record import record
from mlops_platform.inference_pipeline.batch import predictions, reference_rows
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.monitoring.tick import drift_report, scored_rows
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage import maintenance
from mlops_platform.storage.catalog import load_table
from mlops_platform.storage.conditions import Condition, all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.query import query
from mlops_platform.training_pipeline.held_out import evaluate_held_out
from mlops_platform.training_pipeline.labels import labelled_dates
from mlops_platform.training_pipeline.promotion import decide
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager, RegisteredModel
from mlops_platform.training_pipeline.train import TrainedModel, train
from mlops_platform_tests.unit.contracts.test_contracts import sample
from mlops_platform_tests.unit.own_features import FORTNIGHT, LAST_HOUR, Declare, write_module
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, AT, Shop, history, silver_rows

NEW = "total_transactions_14d"
SMALL = {"n_estimators": 8, "min_child_weight": 1}
TICK = datetime(2024, 7, 1, tzinfo=UTC)


@dataclass
class Life:
    """The home at the point it has come to.

    Args:
        plain: Its tables as someone without the module sees them.
        own: The same with the module.
        days: The feature_dates of a training, and the last day.
        old: The model of the standard features.
    """

    plain: Shop
    own: Shop
    days: list[date]
    old: TrainedModel

    @property
    def mlflow(self) -> MLflowManager:
        return MLflowManager(self.plain.settings)

    def predictor(self, trained: TrainedModel) -> Predictor:
        pipeline = self.mlflow.load_model(trained.run_id)
        names = tuple(pipeline["features"].feature_names_in_)
        version = RegisteredModel("churn", "1", PRODUCTION, trained.run_id, {})
        return Predictor(version, pipeline, trained.threshold, trained.training_snapshot_id, names)


def publish(shop: Shop, days: list[date]) -> None:
    shop.lake.publish(features_draft(shop.lake, shop.transactions, days, created_at=AT))


def tags(shop: Shop) -> dict[str, int]:
    table = shop.features.table
    assert table is not None
    return {name: ref.snapshot_id for name, ref in table.refs().items() if name != "main"}


def ask(lake: Lake, sql: str, at: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    with query(lake, sql, at=at) as reader:
        rows: list[dict[str, Any]] = reader.read_all().to_pylist()
    return rows


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        module = write_module(folder, FORTNIGHT)
        record(load_feature_set(module))
        purchases = history(customers=150)
        first = min(p.day for p in purchases)
        settings = load_settings(home=folder / "home", history_start=first)
        plain = Shop(Lake(settings), purchases, AS_OF)
        rows = silver_rows(settings, purchases)
        plain.lake.publish(Draft(SILVER_TRANSACTIONS, rows, scope=all_time("transaction_ts")))
        # A day of the same month as the last one: their rows lie in one file.
        days = [*labelled_dates(AS_OF, first, settings.horizon_days).all, AS_OF.replace(day=1), AS_OF]
        publish(plain, days)
        plain.lake.publish(plain.draft())
        old = train(settings, MLflowManager(settings), plain.training, hyperparameters=SMALL)
        own = Shop(Lake(settings.model_copy(update={"features_module": module})), purchases, AS_OF)
        yield Life(plain, own, days, old)


@pytest.fixture(scope="module")
def trained(life: Life) -> TrainedModel:
    """The model with the feature, which is computed for every day first."""
    publish(life.own, life.days)
    life.own.lake.publish(life.own.draft())
    return train(life.own.settings, life.mlflow, life.own.training, hyperparameters=SMALL)


class TestBeforeItIsComputed:
    def test_one_day_is_published_and_the_others_lack_it(self, life: Life) -> None:
        before = life.plain.features.to_arrow(order_by=["feature_date", "customer_id"])
        state = life.plain.features.snapshot_id
        publish(life.own, [AS_OF])
        rows = life.own.features.to_arrow([*before.column_names, NEW], order_by=["feature_date", "customer_id"])
        is_new = pc.equal(rows["feature_date"], AS_OF)
        assert rows.filter(is_new)[NEW].null_count == 0
        others = rows.filter(pc.invert(is_new))
        assert others.num_rows == others[NEW].null_count > 0
        assert others.drop_columns(NEW).equals(before.filter(pc.not_equal(before["feature_date"], AS_OF)))
        assert set(rows.filter(is_new)["_feature_version"].to_pylist()) == {"v1.0+u1"}
        assert tags(life.own) == {"features-v1.0": state}

    def test_the_column_is_optional_in_the_table(self, life: Life) -> None:
        table = life.own.features.table
        assert table is not None
        field = table.schema().find_field(NEW)
        assert (field.required, str(field.field_type), field.doc) == (False, "int", "Purchases in 14 days [purchases]")

    def test_a_training_names_the_command_that_computes_it(self, life: Life) -> None:
        first, last = min(life.days), AS_OF.replace(day=1)
        words = rf"{NEW} is not computed for feature_date {first}.*mlops features backfill --from {first} --to "
        with pytest.raises(NotEnoughDataError, match=words) as caught:
            life.own.draft()
        assert str(last) not in str(caught.value)

    def test_so_does_a_model_that_needs_it(self, life: Life) -> None:
        day, old = AS_OF.replace(day=1), life.predictor(life.old)
        new = replace(old, feature_names=(*STANDARD.names, NEW))
        stored = (life.own.settings, old, life.own.features)
        assert predictions(*stored, feature_date=day, tick=TICK, created_at=AT).rows.num_rows
        with pytest.raises(NotEnoughDataError, match=f"--from {day} --to {day}"):
            predictions(stored[0], new, stored[2], feature_date=day, tick=TICK, created_at=AT)

    def test_a_model_without_it_goes_on(self, life: Life) -> None:
        predictor = life.predictor(life.old)
        assert predictor.feature_names == STANDARD.names
        drafts = [
            predictions(s.settings, predictor, s.features, feature_date=AS_OF, tick=TICK, created_at=AT)
            for s in (life.plain, life.own)
        ]
        scores = [draft.rows["churn_probability"].to_pylist() for draft in drafts]
        assert scores[0] == scores[1]
        assert scores[0]
        contract = life.own.lake.features.training_set
        pinned = life.own.lake.snapshot(contract, snapshot_id=predictor.training_snapshot_id)
        reference = reference_rows(life.own.settings, predictor, pinned)
        assert reference.column_names == ["customer_id", "feature_date", *STANDARD.names, "churn_probability"]
        assert reference.equals(reference_rows(life.plain.settings, predictor, life.plain.training))


class TestOnceItIsComputed:
    def test_the_values_are_the_declared_ones(self, life: Life, trained: TrainedModel) -> None:
        rows = life.own.features.to_arrow(["customer_id", NEW], [Condition("feature_date", "=", AS_OF)])
        found = dict(zip(*rows.to_pydict().values(), strict=True))
        window = [p for p in life.own.purchases if p.amount > 0 and 0 <= (AS_OF - p.day).days < 14]
        assert found == {c: sum(p.customer_id == c for p in window) for c in found}
        assert sum(found.values()) == len(window) > 0

    def test_the_same_version_again_makes_no_other_tag(self, life: Life, trained: TrainedModel) -> None:
        assert list(tags(life.own)) == ["features-v1.0"]

    def test_training_set_model_and_request_have_it(self, life: Life, trained: TrainedModel) -> None:
        assert life.own.training.to_arrow([NEW])[NEW].null_count == 0
        predictor = life.predictor(trained)
        assert predictor.feature_names == (*STANDARD.names, NEW)
        assert NEW in predictor.pipeline["features"].get_feature_names_out()
        schema = RowSchema.of(life.own.settings, predictor.feature_names)
        row, faults = schema.check(schema.example())
        assert not faults
        assert 0 <= predictor.score([row]).probability[0] <= 1
        assert schema.check({**row, NEW: -1})[1] == {NEW: "is -1; expected an integer from 0 to 5000 [purchases]"}
        run = life.mlflow.client.get_run(trained.run_id)
        assert run.data.tags["feature_version"] == "v1.0+u1"

    def test_it_is_part_of_the_drift_report(self, life: Life, trained: TrainedModel) -> None:
        predictor, lake = life.predictor(trained), life.own.lake
        lake.publish(
            predictions(lake.settings, predictor, life.own.features, feature_date=AS_OF, tick=TICK, created_at=AT)
        )
        current = scored_rows(
            lake.settings, life.own.features, lake.snapshot(PREDICTIONS), TICK, predictor.feature_names
        )
        reference = reference_rows(lake.settings, predictor, life.own.training)
        found = drift_report(
            lake.settings, reference, current, tick=TICK, model_name="churn", model_version="1", created_at=AT
        )
        assert [c.column for c in found.result.columns] == [*STANDARD.names, NEW, "churn_probability"]

    def test_the_champion_without_it_is_compared(self, life: Life, trained: TrainedModel) -> None:
        manager = life.mlflow
        name = life.own.settings.model_name
        model = manager.register_model(life.old.model_uri, name, tags={}, description="old")
        manager.transition_model_stage(name, model.version, PRODUCTION)
        found = evaluate_held_out(life.own.settings, manager, life.own.training, trained)
        assert found.champion_version == model.version
        assert found.champion is not None

    def test_the_checks_refuse_a_bad_value(self, life: Life, trained: TrainedModel) -> None:
        draft = features_draft(life.own.lake, life.own.transactions, [AS_OF], created_at=AT)
        rows = draft.rows
        assert isinstance(rows, pa.Table)
        for bad in (-1, 5_001, None):
            column = pa.array([bad] + [1] * (rows.num_rows - 1), pa.int32())
            changed = rows.set_column(rows.schema.get_field_index(NEW), NEW, column)
            with pytest.raises(ContractError, match=NEW):
                life.own.lake.publish(replace(draft, rows=changed))

    def test_dagster_documents_it(self, life: Life) -> None:
        for shop, is_there in ((life.own, True), (life.plain, False)):
            definitions = build_definitions(shop.settings)
            for key in (["feature_store", "customer_features"], ["ml", "training_set"]):
                metadata = definitions.resolve_assets_def(dg.AssetKey(key)).metadata_by_key[dg.AssetKey(key)]
                columns = {c.name: c.description for c in metadata["dagster/column_schema"].columns}
                assert (columns.get(NEW) == "Purchases in 14 days [purchases]") == is_there

    def test_the_state_before_stays_readable_by_its_tag(self, life: Life, trained: TrainedModel) -> None:
        publish(life.own, [AS_OF])
        lake = life.own.lake
        # A century later everything is old: only what is current or tagged stays.
        later = datetime(2124, 1, 1, tzinfo=UTC)
        maintenance.maintain(lake, now=later, keep=(), keep_days=0, orphan_days=1)
        figures = f"count(*) AS n, count({NEW}) AS new, min(_feature_version) AS v"
        sql = f"SELECT {figures} FROM feature_store.customer_features"
        total = life.own.features.count()
        assert ask(lake, sql, {"": "features-v1.0"}) == [{"n": total, "new": 0, "v": "v1.0"}]
        assert ask(lake, sql) == [{"n": total, "new": total, "v": "v1.0+u1"}]


class TestOnceItIsRemoved:
    def test_publishing_goes_on_and_what_was_stays(self, life: Life) -> None:
        publish(life.own, life.days)
        before = life.own.features.snapshot_id
        publish(life.plain, [AS_OF])
        rows = life.own.features.to_arrow(["feature_date", NEW])
        on_day = pc.equal(rows["feature_date"], AS_OF)
        assert rows.filter(on_day)[NEW].null_count == rows.filter(on_day).num_rows > 0
        # The first of the month shares a file with the last, and was rewritten with it.
        assert rows.filter(pc.invert(on_day))[NEW].null_count == 0
        assert tags(life.plain)["features-v1.0+u1"] == before

    def test_it_can_still_be_asked_for(self, life: Life) -> None:
        sql = f"SELECT count({NEW}) AS n FROM feature_store.customer_features"
        (now,), (then,) = ask(life.plain.lake, sql), ask(life.plain.lake, sql, {"": "features-v1.0+u1"})
        assert 0 < now["n"] < then["n"] == life.plain.features.count()

    def test_a_champion_that_needs_it_is_not_compared_and_serves_no_more(
        self, life: Life, trained: TrainedModel
    ) -> None:
        manager, name = life.mlflow, life.plain.settings.model_name
        model = manager.register_model(trained.model_uri, name, tags={}, description="with it")
        manager.transition_model_stage(name, model.version, PRODUCTION, archive_existing_versions=True)
        life.plain.lake.publish(life.plain.draft())
        found = evaluate_held_out(life.plain.settings, manager, life.plain.training, life.old)
        assert (found.champion_version, found.champion) == (model.version, None)
        passing = replace(
            found, recency=replace(found.recency, lower=0.1), churn_score=replace(found.churn_score, upper=0)
        )
        decision, _ = decide(life.plain.settings, manager, life.plain.lake, life.old, passing, decided_at=AT)
        assert decision.promoted
        assert f"version {model.version} is no rival: it needs a feature" in decision.reason
        words = f"needs {NEW}, which no feature declares.*MLOPS_FEATURES_MODULE.*mlops train"
        with pytest.raises(ModelError, match=words):
            predictions(
                life.plain.settings, life.predictor(trained), life.plain.features,
                feature_date=AS_OF, tick=TICK, created_at=AT,
            )  # fmt: skip
        with pytest.raises(ModelError, match=words):
            RowSchema.of(life.plain.settings, (*STANDARD.names, NEW))


class TestTheTable:
    def opened(self, home: Settings, module: str) -> Lake:
        record(load_feature_set(module))
        lake = Lake(home.model_copy(update={"features_module": module}))
        lake.publish(Draft(lake.features.customer_features, self.rows(lake), scope=self.scope()))
        return lake

    def scope(self) -> tuple[Condition, ...]:
        return (Condition("feature_date", "=", AS_OF),)

    def rows(self, lake: Lake, **cells: Any) -> pa.Table:
        contract = lake.features.customer_features
        row = {**sample(contract).to_pylist()[0], "feature_date": AS_OF, **cells}
        return pa.Table.from_pylist([row], schema=arrow_schema(contract))

    def test_a_feature_that_was_there_from_the_first_can_be_removed(self, home: Settings, declare: Declare) -> None:
        lake = self.opened(home, declare(FORTNIGHT))
        plain = Lake(home)
        plain.publish(Draft(STANDARD.customer_features, self.rows(plain, tenure_days=7), scope=self.scope()))
        table = load_table(plain.catalog, STANDARD.customer_features, "UTC")
        assert table is not None
        assert not table.schema().find_field(NEW).required
        (row,) = lake.snapshot(lake.features.customer_features).to_arrow([NEW, "tenure_days"]).to_pylist()
        assert row == {NEW: None, "tenure_days": 7}

    def test_another_type_under_the_same_name_is_refused(self, home: Settings, declare: Declare) -> None:
        module = declare(FORTNIGHT)
        self.opened(home, module)
        declare(FORTNIGHT.replace("INT", "DOUBLE"), name=module)
        words = f"holds the column {NEW} as int, it is declared as DOUBLE.*another name"
        with pytest.raises(StorageError, match=words):
            self.opened(home, module)

    def test_declarations_that_nobody_recorded_are_not_published(self, life: Life, declare: Declare) -> None:
        module = declare(FORTNIGHT, LAST_HOUR)
        lake = Lake(life.plain.settings.model_copy(update={"features_module": module}))
        with pytest.raises(InputError, match=f"added {NEW}, usual_hour.*mlops features record"):
            features_draft(lake, life.plain.transactions, [AS_OF], created_at=AT)


def test_the_example_of_the_docs_works_as_it_stands(life: Life, declare: Declare, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "features.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = declare()
    (tmp_path / f"{module}.py").write_text(example)
    record(load_feature_set(module))
    settings = life.plain.settings.model_copy(update={"features_module": module})
    rows = features_draft(Lake(settings), life.plain.transactions, [AS_OF], created_at=AT).rows
    assert isinstance(rows, pa.Table)
    shares = {
        row["customer_id"]: (row[NEW], row["total_transactions_90d"], row["recent_share"]) for row in rows.to_pylist()
    }
    assert {share for _, _, share in shares.values()} > {0.0}
    assert all(share == (few / many if many else 0.0) for few, many, share in shares.values())
