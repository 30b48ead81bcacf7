"""Batch predictions: who is scored, that nothing but the inputs decides a row, and that batch and online agree."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_platform.contracts import NOT_SCORED, PREDICTIONS, STANDARD
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.feature_pipeline.point_in_time import features_on
from mlops_platform.inference_pipeline import batch, batch_scoring
from mlops_platform.inference_pipeline.batch import inference_input, predictions, reference_rows
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.rows import StagedRows
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager, RegisteredModel
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG, train
from mlops_platform_tests.oracles.features import purchases_until
from mlops_platform_tests.oracles.labels import population
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, AT, Shop

TICK = datetime(2024, 7, 1, 0, tzinfo=UTC)
NEXT = TICK + timedelta(hours=6)


@pytest.fixture(scope="module")
def predictor(shop: Shop) -> Predictor:
    """A model fitted on the shop's train rows, as version 3."""
    rows = split_rows(shop.training.to_arrow(order_by=("feature_date", "customer_id")), "train")
    pipeline = make_model("xgboost", {"n_estimators": 20, "min_child_weight": 1})
    pipeline.fit(rows.select(STANDARD.names), rows["churned"].to_numpy())
    version = RegisteredModel("churn", "3", PRODUCTION, "run", {})
    return Predictor(version, pipeline, 0.4, int(shop.training.snapshot_id or 0), STANDARD.names)


def scored(shop: Shop, predictor: Predictor, tick: datetime = TICK, at: datetime = AT, **changed: Any) -> Draft:
    settings = shop.settings.model_copy(update=changed)
    return predictions(settings, predictor, shop.features, feature_date=AS_OF, tick=tick, created_at=at)


def population_rows(shop: Shop) -> pa.Table:
    """The population's features, in the order of their ids."""
    rows = features_on(shop.features, [AS_OF])
    return rows.filter(pc.less(rows["days_since_last_transaction"], 365))


def ids(draft: Draft) -> set[str]:
    return set(draft.rows["prediction_id"].to_pylist())


class TestPopulation:
    @pytest.mark.parametrize("days", [1, 30, 365, None])
    def test_it_is_the_oracles(self, shop: Shop, predictor: Predictor, days: int | None) -> None:
        settings = shop.settings.model_copy(update={"population_days": days})
        expected = population(shop.purchases, AS_OF, days)
        found = inference_input(settings, shop.features, AS_OF)
        assert found.feature_date == AS_OF
        assert found.snapshot_id == shop.features.snapshot_id
        assert (found.rows, found.outside_population) == (
            len(expected),
            len(purchases_until(shop.purchases, AS_OF)) - len(expected),
        )
        draft = scored(shop, predictor, population_days=days)
        assert draft.rows["customer_id"].to_pylist() == sorted(expected)
        assert draft.figures["scored"] == len(expected)
        assert expected

    def test_a_day_without_features_is_named(self, shop: Shop) -> None:
        day = AS_OF + timedelta(days=1)
        with pytest.raises(NotEnoughDataError, match=rf"no rows for feature_date {day}.*materialize that partition"):
            inference_input(shop.settings, shop.features, day)

    def test_an_empty_feature_store(self, lake: Lake) -> None:
        with pytest.raises(NotEnoughDataError, match="no rows for feature_date"):
            inference_input(lake.settings, lake.snapshot(STANDARD.customer_features), AS_OF)

    def test_nobody_in_it_is_no_prediction(self, shop: Shop, predictor: Predictor) -> None:
        silent = replace(shop.features, where=(Condition("days_since_last_transaction", ">", 0),))
        settings = shop.settings.model_copy(update={"population_days": 1})
        assert inference_input(settings, silent, AS_OF).rows == 0
        draft = predictions(settings, predictor, silent, feature_date=AS_OF, tick=TICK, created_at=AT)
        assert draft.rows.num_rows == 0
        left = inference_input(settings, silent, AS_OF).outside_population
        assert draft.figures == {"scored": 0, "predicted_churn": 0, "mean_probability": 0.0, "not_scored": left}
        assert all(outcome.passed for outcome in draft.audit())


class TestRows:
    def test_a_row_is_the_customers_score(self, shop: Shop, predictor: Predictor) -> None:
        draft = scored(shop, predictor)
        expected = predictor.pipeline.predict_proba(population_rows(shop))[:, 1]
        assert all(outcome.passed for outcome in draft.audit())
        for row, probability in zip(draft.rows.to_pylist(), expected.tolist(), strict=True):
            assert row["churn_probability"] == probability
            assert row["prediction"] == int(probability >= 0.4)
            assert row["confidence"] == max(probability, 1 - probability)
            assert (row["feature_date"], row["tick"], row["_created_at"]) == (AS_OF, TICK, AT)
            assert (row["model_name"], row["model_version"]) == ("churn", "3")
            assert row["feature_snapshot_id"] == shop.features.snapshot_id
            assert row["inference_latency_ms"] > 0
        predicted = draft.rows["prediction"].to_pylist()
        assert 0 < sum(predicted) < len(predicted)
        assert draft.figures["predicted_churn"] == sum(predicted)

    def test_the_id_is_a_hash_of_customer_day_version_and_tick(self, shop: Shop, predictor: Predictor) -> None:
        microseconds = int(TICK.timestamp()) * 1_000_000
        for row in scored(shop, predictor).rows.to_pylist():
            key = f"{row['customer_id']}/{AS_OF}/3/{microseconds}"
            assert row["prediction_id"] == md5(key.encode(), usedforsecurity=False).hexdigest()

    def test_the_id_depends_on_nothing_else(self, shop: Shop, predictor: Predictor) -> None:
        first = scored(shop, predictor)
        sao_paulo = scored(shop, predictor, at=AT + timedelta(days=1), timezone="America/Sao_Paulo")
        assert ids(first) == ids(sao_paulo)
        assert len(ids(first)) == first.rows.num_rows

    def test_another_tick_or_version_has_other_ids(self, shop: Shop, predictor: Predictor) -> None:
        later = replace(predictor, model=replace(predictor.model, version="4"))
        found = [ids(scored(shop, p, tick)) for p in (predictor, later) for tick in (TICK, NEXT)]
        assert len(set.union(*found)) == sum(map(len, found))

    def test_scores_come_from_the_snapshot_given(self, shop: Shop, predictor: Predictor, tmp_path: Path) -> None:
        lake = Lake(load_settings(home=tmp_path / "home"))
        on_day = (Condition("feature_date", "=", AS_OF),)
        rows = shop.features.to_arrow(where=on_day)
        old = lake.publish(Draft(STANDARD.customer_features, rows, scope=on_day)).snapshot_id
        position = rows.column_names.index("churn_score")
        changed = rows.set_column(position, "churn_score", pc.subtract(1.0, rows["churn_score"]))
        lake.publish(Draft(STANDARD.customer_features, changed, scope=on_day))
        assert old is not None
        features = lake.snapshot(STANDARD.customer_features)
        now, then = (
            predictions(lake.settings, predictor, which, feature_date=AS_OF, tick=TICK, created_at=AT).rows
            for which in (features, features.at(old))
        )
        assert then["churn_probability"] == scored(shop, predictor).rows["churn_probability"]
        assert then["churn_probability"] != now["churn_probability"]


@pytest.fixture(scope="module")
def whole(shop: Shop, predictor: Predictor) -> pa.Table:
    """The tick's rows, as they are scored all at once."""
    return content(scored(shop, predictor).rows)


class TestStream:
    @pytest.mark.parametrize("size", [1, 7, 64])
    def test_rows_and_their_order_do_not_depend_on_the_size_of_a_batch(
        self, shop: Shop, predictor: Predictor, whole: pa.Table, size: int
    ) -> None:
        found = predictions(
            shop.settings,
            predictor,
            shop.features,
            feature_date=AS_OF,
            tick=TICK,
            created_at=AT,
            batch_rows=size,
        )
        assert content(found.rows).equals(whole)
        assert found.figures["mean_probability"] == pytest.approx(np.mean(whole["churn_probability"].to_numpy()))

    def test_many_rows_are_staged_and_published_as_they_are(
        self, shop: Shop, predictor: Predictor, whole: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlops_platform.storage.rows.IN_MEMORY_BYTES", 1_000)
        lake = Lake(load_settings(home=tmp_path / "home"))
        draft = predictions(
            lake.settings, predictor, shop.features, feature_date=AS_OF, tick=TICK, created_at=AT, batch_rows=50
        )
        assert isinstance(draft.rows, StagedRows)
        lake.publish(draft)
        stored = lake.snapshot(PREDICTIONS).to_arrow(whole.column_names, order_by=["customer_id"])
        assert stored.to_pylist() == whole.to_pylist()

    def test_long_work_says_how_far_it_is(
        self, shop: Shop, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_scoring, "NOTE_ROWS", 60)
        said: list[str] = []
        draft = predictions(
            shop.settings,
            predictor,
            shop.features,
            feature_date=AS_OF,
            tick=TICK,
            created_at=AT,
            note=said.append,
            batch_rows=50,
        )
        total = draft.rows.num_rows
        assert said[0] == f"scored 100 of {total} rows"
        assert len(said) == total // 60

    @given(st.lists(st.integers(0, 9)), st.integers(1, 12))
    def test_recutting_keeps_every_row_in_its_place(self, sizes: list[int], size: int) -> None:
        rows = pa.table({"n": pa.array(range(sum(sizes)), pa.int64())}).combine_chunks()
        starts = np.cumsum([0, *sizes])
        batches = [rows.slice(int(a), n).combine_chunks().to_batches() for a, n in zip(starts, sizes, strict=False)]
        found = list(batch_scoring.recut((b for each in batches for b in each), size))
        assert [n for table in found for n in table["n"].to_pylist()] == rows["n"].to_pylist()
        assert all(table.num_rows == size for table in found[:-1])
        assert all(0 < table.num_rows <= size for table in found)


def content(rows: pa.Table) -> pa.Table:
    return rows.select([name for name in rows.column_names if name not in PREDICTIONS.volatile]).combine_chunks()


class TestNotScored:
    @pytest.fixture
    def tables(self, tmp_path: Path) -> Lake:
        return Lake(load_settings(home=tmp_path / "home"))

    def test_everybody_with_features_is_scored_or_named_with_the_reason(
        self, tables: Lake, shop: Shop, predictor: Predictor
    ) -> None:
        draft = scored(shop, predictor, population_days=30)
        tables.publish(draft)
        left = tables.snapshot(NOT_SCORED).to_arrow(order_by=["customer_id"]).to_pylist()
        both = {*draft.rows["customer_id"].to_pylist()} | {row["customer_id"] for row in left}
        assert both == purchases_until(shop.purchases, AS_OF).keys()
        assert len(both) == draft.rows.num_rows + len(left)
        assert draft.figures["not_scored"] == len(left) > 0
        expected = {"reason": "outside_population", "feature_date": AS_OF, "tick": TICK, "_created_at": AT}
        assert all(row.items() >= expected.items() for row in left)
        assert {row["feature_snapshot_id"] for row in left} == {shop.features.snapshot_id}

    def test_the_same_again_changes_neither_table(self, tables: Lake, shop: Shop, predictor: Predictor) -> None:
        before = []
        for hours in range(2):
            tables.publish(scored(shop, predictor, at=AT + timedelta(hours=hours), population_days=30))
            before.append([tables.snapshot(contract).snapshot_id for contract in (PREDICTIONS, NOT_SCORED)])
        assert before[0] == before[1]

    def test_a_tick_replaces_its_own_and_no_other(self, tables: Lake, shop: Shop, predictor: Predictor) -> None:
        for tick in (TICK, NEXT):
            tables.publish(scored(shop, predictor, tick, population_days=30))
        tables.publish(scored(shop, predictor, NEXT, population_days=None))
        held = tables.snapshot(NOT_SCORED)
        assert held.count([Condition("tick", "=", NEXT)]) == 0 < held.count([Condition("tick", "=", TICK)])


class TestPublishing:
    @pytest.fixture
    def tables(self, tmp_path: Path) -> Lake:
        return Lake(load_settings(home=tmp_path / "home"))

    def test_a_tick_replaces_itself_and_no_other(self, tables: Lake, shop: Shop, predictor: Predictor) -> None:
        for tick in (TICK, NEXT):
            tables.publish(scored(shop, predictor, tick))
        fewer = tables.publish(scored(shop, predictor, NEXT, population_days=30))
        stored = tables.snapshot(PREDICTIONS)
        rows = scored(shop, predictor).rows.num_rows
        assert stored.count([Condition("tick", "=", TICK)]) == rows
        assert stored.count([Condition("tick", "=", NEXT)]) == fewer.rows < rows
        assert stored.count() == rows + fewer.rows

    def test_the_same_tick_again_is_no_new_snapshot(self, tables: Lake, shop: Shop, predictor: Predictor) -> None:
        first = tables.publish(scored(shop, predictor))
        # Latency and the instant of writing differ, the content does not.
        again = tables.publish(scored(shop, predictor, at=AT + timedelta(hours=1)))
        assert (again.snapshot_id, again.is_new) == (first.snapshot_id, False)

    def test_the_snapshot_says_what_it_was_made_from(self, tables: Lake, shop: Shop, predictor: Predictor) -> None:
        tables.publish(scored(shop, predictor))
        found = tables.properties(PREDICTIONS)
        expected = {"model-version": "3", "feature-snapshot-id": str(shop.features.snapshot_id)}
        assert found.items() >= {**expected, "feature-date": AS_OF.isoformat()}.items()


class TestPredictor:
    def test_tables_frames_and_dictionaries_score_alike_to_the_last_bit(self, shop: Shop, predictor: Predictor) -> None:
        rows = population_rows(shop)
        expected = scored(shop, predictor).rows["churn_probability"].to_numpy()
        records = rows.to_pylist()
        assert np.array_equal(predictor.score(records).probability, expected)
        assert np.array_equal(predictor.score(rows.to_pandas()).probability, expected)
        alone = [float(predictor.score([record]).probability[0]) for record in records[:25]]
        assert alone == expected[:25].tolist()
        shuffled = [{name: record[name] for name in reversed(record)} for record in reversed(records)]
        assert np.array_equal(predictor.score(shuffled).probability[::-1], expected)

    def test_a_missing_feature_or_one_that_is_no_number_is_named(self, shop: Shop, predictor: Predictor) -> None:
        (record,) = population_rows(shop).slice(0, 1).to_pylist()
        with pytest.raises(InputError, match="feature tenure_days holds a value that is no number"):
            predictor.score([{**record, "tenure_days": "long"}])
        del record["tenure_days"]
        with pytest.raises(InputError, match="feature tenure_days is missing"):
            predictor.score([record])

    def test_production_is_loaded_with_its_threshold(self, shop: Shop, mlflow: MLflowManager) -> None:
        settings = shop.settings.model_copy(update={"model_name": "loaded"})
        trained = train(settings, mlflow, shop.training, hyperparameters={"n_estimators": 6, "min_child_weight": 1})
        tags = {THRESHOLD_TAG: repr(trained.threshold), TRAINING_SNAPSHOT_TAG: str(trained.training_snapshot_id)}
        made = mlflow.register_model(trained.model_uri, "loaded", tags=tags)
        mlflow.transition_model_stage("loaded", made.version, PRODUCTION)
        found = Predictor.load(settings)
        assert found.is_production
        assert (found.threshold, found.training_snapshot_id) == (trained.threshold, trained.training_snapshot_id)
        assert found.feature_names == STANDARD.names
        rows = population_rows(shop)
        assert np.array_equal(
            found.score(rows).probability, mlflow.load_model(trained.run_id).predict_proba(rows)[:, 1]
        )


class TestReference:
    def test_it_is_the_train_rows_with_their_scores(self, shop: Shop, predictor: Predictor) -> None:
        found = reference_rows(shop.settings, predictor, shop.training)
        expected = split_rows(shop.training.to_arrow(), "train")
        assert found.column_names == ["customer_id", "feature_date", *STANDARD.names, "churn_probability"]
        assert sorted(found["customer_id"].to_pylist()) == sorted(expected["customer_id"].to_pylist())
        assert np.array_equal(found["churn_probability"].to_numpy(), predictor.score(found).probability)

    def test_of_many_rows_it_is_a_sample_that_stays_the_same(
        self, shop: Shop, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch, "MAX_REFERENCE_ROWS", 60)
        first = reference_rows(shop.settings, predictor, shop.training)
        assert first.num_rows == 60
        assert len(set(first["feature_date"].to_pylist())) > 2
        assert first.equals(reference_rows(shop.settings, predictor, shop.training))

    def test_the_sample_does_not_depend_on_the_order_of_the_rows(
        self, shop: Shop, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = shop.training.to_arrow()
        turned: pa.Table = rows.take(list(reversed(range(rows.num_rows))))
        monkeypatch.setattr(batch, "MAX_REFERENCE_ROWS", 60)
        expected = reference_rows(shop.settings, predictor, shop.training)
        found = reference_rows(shop.settings, predictor, in_memory(turned))
        assert found.equals(expected)


def in_memory(rows: pa.Table) -> Any:
    """Rows in memory that are read as a snapshot is."""
    from contextlib import contextmanager

    import duckdb

    class Snapshot:
        @contextmanager
        def relation(self, columns: Any, where: Any) -> Any:
            with duckdb.connect() as duck:
                duck.register("given", rows)
                duck.execute(f"CREATE VIEW v AS SELECT {', '.join(columns)} FROM given WHERE {where[0].sql()}")
                yield duck, "v"

    return Snapshot()
