"""The gate on simulated scores, the held-out evaluation of a real model, and what a decision does to the registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlops_platform.contracts import PROMOTIONS
from mlops_platform.errors import ModelError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline import evaluation
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.evaluation import AucDifference, auc_difference, evaluate
from mlops_platform.training_pipeline.held_out import Evaluation, evaluate_held_out
from mlops_platform.training_pipeline.promotion import Decision, decide, gate
from mlops_platform.training_pipeline.registry import ARCHIVED, PRODUCTION, STAGING, MLflowManager
from mlops_platform.training_pipeline.stages import complete_history, promote, rollback
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG, TrainedModel, train
from mlops_platform_tests.unit.training_pipeline.worlds import AT, Shop

ROWS = 600
BETTER, EQUAL = AucDifference(0.8, 0.7, 0.05, 0.15), AucDifference(0.8, 0.8, -0.02, 0.02)


def held_out(**changed: Any) -> Evaluation:
    """An evaluation that passes; `changed` replaces parts of it."""
    labels, scores = np.array([0, 1] * 10), np.linspace(0, 1, 20)
    found = Evaluation(
        run_id="run",
        evaluation_date=date(2024, 4, 1),
        rows=20,
        rows_digest="rows",
        metrics=evaluate(labels, scores, 0.5),
        recency=BETTER,
        churn_score=EQUAL,
        intervals={},
        calibration_error=0.01,
    )
    return replace(found, **changed)


def judged(ours: Any, recency: Any, churn_score: Any, labels: Any, champion: Any = None) -> str | None:
    """The gate's answer to scores."""
    against = {
        "recency": auc_difference(labels, ours, recency),
        "churn_score": auc_difference(labels, ours, churn_score),
        "champion": None if champion is None else auc_difference(labels, ours, champion),
    }
    return gate(held_out(**against, champion_version="4"))


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    """Labels of 600 customers, and scores of several strengths that share part of their noise."""
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 2, ROWS)
    shared = rng.normal(size=ROWS)

    def scored(strength: float) -> Any:
        return strength * labels + shared + 0.3 * rng.normal(size=ROWS)

    return {
        "labels": labels,
        "recency": scored(0.8),
        "churn_score": scored(1.0),
        "good": scored(1.2),
        "better": scored(1.6),
        "random": rng.normal(size=ROWS),
    }


class TestGate:
    def test_a_good_model_passes(self, scores: dict[str, Any]) -> None:
        s = scores
        assert judged(s["good"], s["recency"], s["churn_score"], s["labels"]) is None

    def test_random_scores_are_refused(self, scores: dict[str, Any]) -> None:
        s = scores
        found = judged(s["random"], s["recency"], s["churn_score"], s["labels"])
        assert found is not None
        assert found.startswith("does not beat recency-only: ROC-AUC 0.4857 against 0.6787")

    def test_recency_itself_is_refused(self, scores: dict[str, Any]) -> None:
        s = scores
        for ours in (s["recency"], np.exp(s["recency"])):
            found = judged(ours, s["recency"], s["churn_score"], s["labels"])
            assert found is not None
            assert "lower 95 % bound of the difference +0.0000" in found

    def test_everyone_churns_is_refused_whatever_its_f1(self, scores: dict[str, Any]) -> None:
        s = scores
        assert judged(np.ones(ROWS), s["recency"], s["churn_score"], s["labels"]) is not None

    def test_worse_than_churn_score_is_refused(self, scores: dict[str, Any]) -> None:
        s = scores
        found = judged(s["good"], s["recency"], s["better"], s["labels"])
        assert found is not None
        assert found.startswith("is significantly worse than churn_score alone")

    def test_worse_than_the_champion_is_refused(self, scores: dict[str, Any]) -> None:
        s = scores
        found = judged(s["good"], s["recency"], s["churn_score"], s["labels"], champion=s["better"])
        assert found is not None
        assert found.startswith("is worse than the champion, version 4")

    def test_better_than_the_champion_passes(self, scores: dict[str, Any]) -> None:
        s = scores
        assert judged(s["better"], s["recency"], s["churn_score"], s["labels"], champion=s["good"]) is None

    @pytest.mark.parametrize(
        ("recency", "score", "champion", "passes"),
        [
            ((0.8, 0.7, 0.0001, 0.2), (0.8, 0.8, -0.1, 0.0), None, True),
            ((0.8, 0.7, 0.0, 0.2), (0.8, 0.7, 0.0, 0.2), None, False),
            ((0.8, 0.7, 0.01, 0.2), (0.8, 0.81, -0.1, -0.0001), None, False),
            # The champion may be better by 0.005, if that is not significant.
            ((0.8, 0.7, 0.01, 0.2), (0.8, 0.8, -0.1, 0.1), (0.796, 0.8, -0.01, 0.002), True),
            ((0.8, 0.7, 0.01, 0.2), (0.8, 0.8, -0.1, 0.1), (0.7949, 0.8, -0.02, 0.01), False),
            ((0.8, 0.7, 0.01, 0.2), (0.8, 0.8, -0.1, 0.1), (0.799, 0.8, -0.002, -0.0001), False),
            ((0.8, 0.7, 0.01, 0.2), (0.8, 0.8, -0.1, 0.1), (0.81, 0.8, -0.01, 0.03), True),
        ],
    )
    def test_its_limits(
        self,
        recency: tuple[float, ...],
        score: tuple[float, ...],
        champion: tuple[float, ...] | None,
        passes: bool,
    ) -> None:
        found = held_out(
            recency=AucDifference(*recency),
            churn_score=AucDifference(*score),
            champion=None if champion is None else AucDifference(*champion),
        )
        assert (gate(found) is None) == passes

    @pytest.mark.parametrize("part", ["recency", "churn_score", "champion"])
    def test_an_interval_that_is_not_a_number_is_no_evidence(self, part: str) -> None:
        assert gate(held_out(**{part: AucDifference(0.5, 0.5, float("nan"), float("nan"))})) is not None


@pytest.fixture(scope="module")
def models(shop: Shop, mlflow: MLflowManager) -> list[TrainedModel]:
    """Three models in three runs."""
    small = {"n_estimators": 6, "min_child_weight": 1}
    return [train(shop.settings, mlflow, shop.training, hyperparameters={**small, "max_depth": d}) for d in (1, 2, 4)]


@pytest.fixture(scope="module")
def found(shop: Shop, mlflow: MLflowManager, models: list[TrainedModel]) -> Evaluation:
    return evaluate_held_out(shop.settings, mlflow, shop.training, models[0])


class TestHeldOut:
    def test_figures_are_those_of_the_test_rows(
        self, shop: Shop, mlflow: MLflowManager, models: list[TrainedModel], found: Evaluation
    ) -> None:
        rows = split_rows(shop.training.to_arrow(), "test")
        labels = rows["churned"].to_numpy()
        probabilities = mlflow.load_model(models[0].run_id).predict_proba(rows)[:, 1]
        assert found.rows == rows.num_rows
        assert found.evaluation_date == shop.as_of - timedelta(days=90)
        assert found.metrics == evaluate(labels, probabilities, models[0].threshold)
        assert found.recency.ours == found.churn_score.ours == pytest.approx(found.metrics.roc_auc, abs=1e-12)
        assert found.recency.theirs == pytest.approx(roc_auc_score(labels, rows["days_since_last_transaction"]))
        assert found.churn_score.theirs == pytest.approx(roc_auc_score(labels, rows["churn_score"]))
        assert (found.champion_version, found.champion) == (None, None)

    def test_they_are_logged_to_the_models_run(self, mlflow: MLflowManager, found: Evaluation) -> None:
        logged = mlflow.client.get_run(found.run_id).data.metrics
        assert {name: logged[name] for name in found.figures()} == found.figures()

    def test_again_it_is_equal(
        self, shop: Shop, mlflow: MLflowManager, models: list[TrainedModel], found: Evaluation
    ) -> None:
        assert evaluate_held_out(shop.settings, mlflow, shop.training, models[0]) == found

    def test_the_champion_scores_the_same_rows(
        self, shop: Shop, mlflow: MLflowManager, models: list[TrainedModel], registry: Registry
    ) -> None:
        registry.decide(models[1], held_out())
        found = evaluate_held_out(registry.settings, mlflow, shop.training, models[0])
        rows = split_rows(shop.training.to_arrow(), "test")
        theirs = mlflow.load_model(models[1].run_id).predict_proba(rows)[:, 1]
        assert found.champion_version == "1"
        assert found.champion is not None
        assert found.champion.theirs == pytest.approx(roc_auc_score(rows["churned"], theirs))
        itself = evaluate_held_out(registry.settings, mlflow, shop.training, models[1])
        assert (itself.champion_version, itself.champion) == ("1", None)

    def test_intervals_come_from_a_fixed_sample_of_many_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluation, "MAX_INTERVAL_ROWS", 50)
        first, again = evaluation.interval_rows(1000), evaluation.interval_rows(1000)
        assert np.array_equal(first, again)
        assert len(np.unique(first)) == 50
        assert np.array_equal(evaluation.interval_rows(50), np.arange(50))


class Registry:
    """A model name and a table of promotions of one's own, in the shop's MLflow."""

    def __init__(self, settings: Settings, lake: Lake, mlflow: MLflowManager) -> None:
        self.settings, self.lake, self.mlflow = settings, lake, mlflow

    def decide(self, trained: TrainedModel, evaluation: Evaluation, at: datetime = AT) -> Decision:
        """Decides and records, as the asset does."""
        rival = self.mlflow.in_stage(self.settings.model_name, PRODUCTION)
        known = replace(evaluation, run_id=trained.run_id, champion_version=rival.version if rival else None)
        decision, draft = decide(self.settings, self.mlflow, self.lake, trained, known, decided_at=at)
        self.lake.publish(draft)
        return decision

    def stages(self) -> dict[str, str]:
        """Version to stage."""
        found = self.mlflow.client.search_model_versions(f"name = '{self.settings.model_name}'")
        return {str(v.version): str(v.current_stage) for v in sorted(found, key=lambda v: int(v.version))}

    def aliases(self) -> dict[str, str]:
        """Alias to version."""
        found = self.mlflow.client.get_registered_model(self.settings.model_name).aliases
        return {name: str(version) for name, version in found.items()}

    def rows(self) -> list[dict[str, Any]]:
        """ml.promotions, oldest first."""
        found: list[dict[str, Any]] = self.lake.snapshot(PROMOTIONS).to_arrow(order_by=["decided_at"]).to_pylist()
        return found

    def state(self) -> tuple[Any, ...]:
        """Everything a decision may change."""
        return self.stages(), self.aliases(), self.rows(), self.lake.snapshot(PROMOTIONS).snapshot_id


@pytest.fixture
def registry(shop: Shop, mlflow: MLflowManager, tmp_path: Path, request: pytest.FixtureRequest) -> Registry:
    settings = shop.settings.model_copy(update={"model_name": request.node.name})
    return Registry(settings, Lake(load_settings(home=tmp_path / "home")), mlflow)


REFUSED = {"recency": AucDifference(0.6, 0.7, -0.15, -0.05)}
LATER = AT + timedelta(days=1)


class TestDecision:
    def test_the_first_good_model_goes_to_production(self, registry: Registry, models: list[TrainedModel]) -> None:
        decision = registry.decide(models[0], held_out())
        assert (decision.promoted, decision.model.stage, decision.model.version) == (True, PRODUCTION, "1")
        assert registry.stages() == {"1": PRODUCTION}
        assert registry.aliases()["production"] == "1"
        (row,) = registry.rows()
        assert (row["decision"], row["champion_version"], row["run_id"]) == ("promoted", None, models[0].run_id)

    def test_the_version_carries_what_serving_needs(self, registry: Registry, models: list[TrainedModel]) -> None:
        registry.decide(models[0], held_out())
        tags = registry.mlflow.production(registry.settings.model_name).tags
        assert float(tags[THRESHOLD_TAG]) == models[0].threshold
        assert int(tags[TRAINING_SNAPSHOT_TAG]) == models[0].training_snapshot_id

    def test_a_refused_model_waits_in_staging(self, registry: Registry, models: list[TrainedModel]) -> None:
        decision = registry.decide(models[0], held_out(**REFUSED))
        assert not decision.promoted
        assert decision.reason.startswith("does not beat recency-only")
        assert registry.stages() == {"1": STAGING}
        assert registry.aliases() == {"staging": "1"}
        assert [(row["decision"], row["reason"]) for row in registry.rows()] == [("refused", decision.reason)]
        with pytest.raises(ModelError, match=r"no version of .* is in Production"):
            registry.mlflow.production(registry.settings.model_name)

    def test_a_better_model_archives_the_champion(self, registry: Registry, models: list[TrainedModel]) -> None:
        registry.decide(models[0], held_out())
        decision = registry.decide(models[1], held_out(champion=BETTER), LATER)
        assert decision.promoted
        assert registry.stages() == {"1": ARCHIVED, "2": PRODUCTION}
        assert registry.aliases()["production"] == "2"
        assert [row["champion_version"] for row in registry.rows()] == [None, "1"]
        assert registry.rows()[1]["roc_auc_champion"] == BETTER.theirs

    def test_a_worse_model_leaves_the_champion_alone(self, registry: Registry, models: list[TrainedModel]) -> None:
        registry.decide(models[0], held_out())
        decision = registry.decide(models[1], held_out(champion=AucDifference(0.7, 0.8, -0.15, -0.05)), LATER)
        assert not decision.promoted
        assert registry.stages() == {"1": PRODUCTION, "2": STAGING}
        assert registry.aliases()["production"] == "1"

    def test_there_is_one_production_version_through_all_of_it(
        self, registry: Registry, models: list[TrainedModel]
    ) -> None:
        rivals: list[dict[str, Any]] = [{}, {"champion": BETTER}, {"champion": EQUAL}, {"champion": EQUAL, **REFUSED}]
        for number, (trained, changed) in enumerate(zip([*models, models[0]], rivals, strict=True)):
            registry.decide(trained, held_out(**changed), AT + timedelta(hours=number))
            assert list(registry.stages().values()).count(PRODUCTION) == 1
            production = registry.mlflow.production(registry.settings.model_name)
            assert registry.aliases()["production"] == production.version
        assert production.run_id == models[2].run_id

    def test_the_same_decision_again_changes_nothing(self, registry: Registry, models: list[TrainedModel]) -> None:
        registry.decide(models[0], held_out())
        registry.decide(models[1], held_out(champion=AucDifference(0.7, 0.8, -0.15, -0.05)), LATER)
        before = (
            registry.stages(),
            registry.aliases(),
            registry.rows(),
            registry.lake.snapshot(PROMOTIONS).snapshot_id,
        )
        again = registry.decide(models[0], held_out(), LATER)
        assert (again.promoted, again.model.version) == (True, "1")
        registry.decide(models[1], held_out(champion=AucDifference(0.7, 0.8, -0.15, -0.05)), LATER)
        assert registry.state() == before

    def test_other_held_out_rows_are_another_decision(self, registry: Registry, models: list[TrainedModel]) -> None:
        registry.decide(models[0], held_out(**REFUSED))
        registry.decide(models[0], held_out(**REFUSED, rows_digest="later rows"), LATER)
        assert len({row["decision_id"] for row in registry.rows()}) == 2

    def test_the_champion_judged_again_and_found_wanting_stays(
        self, registry: Registry, models: list[TrainedModel]
    ) -> None:
        registry.decide(models[0], held_out())
        decision = registry.decide(models[0], held_out(**REFUSED, rows_digest="later rows"), LATER)
        assert registry.stages() == {"1": PRODUCTION}
        assert decision.reason.startswith("does not beat recency-only")

    def test_the_staging_alias_leaves_with_the_stage(self, registry: Registry, models: list[TrainedModel]) -> None:
        registry.decide(models[0], held_out(**REFUSED))
        registry.decide(models[0], held_out(rows_digest="later rows"), LATER)
        assert registry.stages() == {"1": PRODUCTION}
        assert registry.aliases() == {"production": "1"}

    def test_every_change_of_the_champion_is_recorded(self, registry: Registry, models: list[TrainedModel]) -> None:
        one, other = models[:2]
        for number, trained in enumerate([one, other, one, other]):
            champion = {"champion": EQUAL} if number else {}
            assert registry.decide(trained, held_out(**champion), AT + timedelta(days=number)).promoted
        assert registry.stages() == {"1": ARCHIVED, "2": PRODUCTION}
        assert registry.rows()[-1]["model_version"] == "2"


class TestPeopleAndTheGate:
    """What people did to Production since, the gate respects; what it decided is recorded whatever dies."""

    def judge(self, registry: Registry, trained: TrainedModel, champion: str | None, at: datetime) -> Decision:
        """Decides on an evaluation against a champion of then."""
        rival = EQUAL if champion is not None else None
        known = held_out(run_id=trained.run_id, champion_version=champion, champion=rival)
        decision, draft = decide(registry.settings, registry.mlflow, registry.lake, trained, known, decided_at=at)
        registry.lake.publish(draft)
        return decision

    def by_hand(self, registry: Registry, change: Any, *arguments: Any, at: datetime) -> None:
        change(registry.mlflow, registry.lake, registry.settings.model_name, *arguments, at=at)

    def test_a_model_taken_back_by_hand_stays_out(self, registry: Registry, models: list[TrainedModel]) -> None:
        one, other = models[:2]
        registry.decide(one, held_out())
        registry.decide(other, held_out(champion=BETTER), LATER)
        self.by_hand(registry, rollback, at=LATER + timedelta(hours=1))
        for hour in (2, 3):
            decision = registry.decide(other, held_out(champion=BETTER), LATER + timedelta(hours=hour))
            assert not decision.promoted
            assert decision.reason == ("was taken out of Production by hand: `mlops models promote 2` puts it back")
        assert registry.stages() == {"1": PRODUCTION, "2": STAGING}
        assert [row["decision"] for row in registry.rows()] == ["promoted", "promoted", "rolled_back", "refused"]
        self.by_hand(registry, promote, "2", at=LATER + timedelta(hours=4))
        assert registry.decide(other, held_out(), LATER + timedelta(hours=5)).promoted

    def test_another_champion_than_it_was_compared_with(self, registry: Registry, models: list[TrainedModel]) -> None:
        one, other, third = models
        registry.decide(one, held_out())
        registry.decide(third, held_out(champion=BETTER), LATER)
        decision = self.judge(registry, other, "1", LATER + timedelta(hours=1))
        assert not decision.promoted
        assert decision.reason.startswith("was not compared with version 2, which went into Production after its")
        assert registry.stages() == {"1": ARCHIVED, "2": PRODUCTION, "3": STAGING}
        # Compared with the champion of now it passes, though all else is the same.
        assert self.judge(registry, other, "2", LATER + timedelta(hours=2)).promoted
        assert [row["decision"] for row in registry.rows()[2:]] == ["refused", "promoted"]

    @pytest.mark.parametrize("is_retried", [True, False])
    def test_a_death_before_the_row_loses_nothing(
        self, registry: Registry, models: list[TrainedModel], is_retried: bool
    ) -> None:
        registry.decide(models[0], held_out())
        known = held_out(run_id=models[1].run_id, champion_version="1", champion=BETTER)
        decide(registry.settings, registry.mlflow, registry.lake, models[1], known, decided_at=LATER)
        assert registry.stages() == {"1": ARCHIVED, "2": PRODUCTION}
        assert len(registry.rows()) == 1
        if is_retried:
            assert registry.decide(models[1], known, LATER + timedelta(hours=1)).promoted
        else:
            self.by_hand(registry, complete_history, at=LATER + timedelta(hours=1))
        assert len(registry.rows()) == 2
        row = registry.rows()[1]
        assert (row["decision"], row["model_version"], row["decided_at"]) == ("promoted", "2", LATER)
        assert (row["roc_auc_champion"], row["evaluation_date"]) == (BETTER.theirs, date(2024, 4, 1))
        assert row["change_number"] == 2

    def test_a_row_added_meanwhile_is_not_added_twice(self, registry: Registry, models: list[TrainedModel]) -> None:
        known = held_out(run_id=models[0].run_id)
        _, draft = decide(registry.settings, registry.mlflow, registry.lake, models[0], known, decided_at=AT)
        self.by_hand(registry, complete_history, at=LATER)
        registry.lake.publish(draft)
        assert len(registry.rows()) == 1
