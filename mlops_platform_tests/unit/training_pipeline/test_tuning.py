"""Tuning: equal seeds, interruptions of every kind, runs under their parent, and mistakes told once."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest
from filelock import FileLock
from sklearn.linear_model import LogisticRegression

from mlops_platform.errors import InputError, StorageError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.training_pipeline import cross_validation as validating
from mlops_platform.training_pipeline import tuning as tuning_module
from mlops_platform.training_pipeline import tuning_study
from mlops_platform.training_pipeline.models import MODEL_TYPES, hyperparameters_of, make_model
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.search_spaces import SEARCH_SPACES, Range
from mlops_platform.training_pipeline.train import FitRows, line_rows, train
from mlops_platform.training_pipeline.tuning import BEST_TAG, Tuned, tune
from mlops_platform.training_pipeline.tuning_runs import PARENT_TAG, SCORE
from mlops_platform.training_pipeline.tuning_study import STUDIES, TrialCounts
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

SMALL = {"min_child_weight": 1, "n_jobs": 1, "n_estimators": 20}


def fit_rows(seed: int = 3) -> FitRows:
    """150 customers whose churn a logistic regression half understands."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=150), draw.normal(size=150)
    churned = (a + draw.normal(size=150) > 0).astype(np.int8)
    table = pa.table({"a": a, "b": b, "churned": churned, "split": ["train"] * 120 + ["validation"] * 30})
    return FitRows(read=lambda: table, features=("a", "b"), digest=str(seed), tags={"who": "me"})


@pytest.fixture
def settings(shop: Shop, tmp_path: Path) -> Settings:
    """A home of its own for studies; their runs go to the shop's MLflow, so the model's name must be one's own, too."""
    return shop.settings.model_copy(update={"home": tmp_path, "model_name": f"model-{tmp_path.name}"})


@pytest.fixture
def search(settings: Settings, mlflow: MLflowManager) -> Callable[..., Tuned]:
    """Tunes a logistic regression, quickly."""

    def tuned(name: str = "", **arguments: Any) -> Tuned:
        own = settings.model_copy(update={"model_name": settings.model_name + name})
        return tune(own, mlflow, **{"rows": fit_rows(), "model_type": "logistic_regression", **arguments})

    return tuned


@pytest.fixture
def no_fits(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., float]], None]:
    """Puts a function of the hyperparameters and `report` in the place of fitting."""

    def replace(score: Callable[..., float]) -> None:
        monkeypatch.setattr(validating, "cross_validated", lambda _type, values, _data, report: score(values, report))

    return replace


def trials(settings: Settings, tuned: Tuned) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name=tuned.study_name, storage=f"sqlite:///{settings.home / STUDIES}")
    found = study.get_trials()
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    return found


def tried(settings: Settings, tuned: Tuned) -> list[tuple[dict[str, Any], float | None]]:
    """Values and score of the trials that count."""
    return [(trial.params, trial.value) for trial in trials(settings, tuned) if trial.state.name != "FAIL"]


def children(mlflow: MLflowManager, tuned: Tuned) -> list[Any]:
    """The trials' runs, in the order they began."""
    experiment = mlflow.client.get_run(tuned.run_id).info.experiment_id
    return list(
        mlflow.client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{tuned.run_id}'", order_by=["start_time"])
    )


def quality(values: dict[str, Any], report: Callable[[int, float], None]) -> float:
    """Highest at C = .01."""
    return 0.9 - 0.1 * abs(float(np.log10(values["C"])) + 2)


class TestSearch:
    def test_the_best_of_the_shop(self, shop: Shop, settings: Settings, mlflow: MLflowManager) -> None:
        told: list[tuple[str, float]] = []
        tuned = tune(
            settings, mlflow, shop.training, trials=4, hyperparameters=SMALL, say=lambda *line: told.append(line)
        )
        found = tried(settings, tuned)
        standard = hyperparameters_of(make_model("xgboost")["classifier"])
        default = {name: standard[name] for name in SEARCH_SPACES["xgboost"] if name not in SMALL}
        assert found[0] == (default, tuned.default_score)
        assert max(score or 0 for _, score in found) == tuned.score >= tuned.default_score
        assert (tuned.hyperparameters, tuned.score) in [(SMALL | values, score) for values, score in found]
        data = validating.cross_validation(line_rows(settings, shop.training))
        again = validating.cross_validated("xgboost", tuned.hyperparameters, data, lambda *_: None)
        assert again == tuned.score
        assert [share for _, share in told] == [0.25, 0.5, 0.75, 1.0]
        assert told[0][0] == f"trial 0: ROC-AUC {tuned.default_score:.4f}, best {tuned.default_score:.4f}"

    def test_what_is_found_is_what_train_takes(self, shop: Shop, settings: Settings, mlflow: MLflowManager) -> None:
        tuned = tune(settings, mlflow, shop.training, model_type="logistic_regression", trials=3)
        trained = train(
            settings, mlflow, shop.training, model_type=tuned.model_type, hyperparameters=tuned.hyperparameters
        )
        assert mlflow.client.get_run(trained.run_id).data.params["C"] == str(tuned.hyperparameters["C"])

    def test_equal_seeds_are_equal_trials(self, settings: Settings, search: Callable[..., Tuned]) -> None:
        one, other, third = search("-one", trials=4), search("-other", trials=4), search("-one", trials=4, seed=7)
        assert tried(settings, one) == tried(settings, other)
        assert (one.hyperparameters, one.score) == (other.hyperparameters, other.score)
        assert tried(settings, one)[0] == tried(settings, third)[0]
        assert tried(settings, one)[1:] != tried(settings, third)[1:]
        assert len({values["C"] for values, _ in tried(settings, one)}) == 4

    def test_a_search_nears_the_best(
        self, settings: Settings, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        no_fits(quality)
        tuned = search(trials=25)
        assert tuned.score > 0.88
        late = [score or 0 for _, score in tried(settings, tuned)[10:]]
        early = [score or 0 for _, score in tried(settings, tuned)[1:10]]
        assert np.mean(late) > np.mean(early)

    @pytest.mark.parametrize("changed", ["rows", "space", "fixed", "seed", "type"])
    def test_other_inputs_are_another_study(
        self, search: Callable[..., Tuned], no_fits: Callable[..., None], monkeypatch: pytest.MonkeyPatch, changed: str
    ) -> None:
        no_fits(lambda values, report: 0.7)
        before = search(trials=1)
        if changed == "space":
            monkeypatch.setitem(SEARCH_SPACES, "logistic_regression", {"C": Range(0.1, 2.0)})
        arguments: dict[str, Any] = {
            "rows": {"rows": fit_rows(4)},
            "space": {},
            "fixed": {"hyperparameters": {"max_iter": 50}},
            "seed": {"seed": 1},
            "type": {"model_type": "random_forest"},
        }
        after = search(trials=1, **arguments[changed])
        assert after.study_name != before.study_name
        assert after.run_id != before.run_id
        assert search(trials=1, **arguments[changed]) == after

    def test_a_type_of_ones_own(
        self, settings: Settings, search: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(MODEL_TYPES, "plain_logistic", plain_logistic)
        with pytest.raises(InputError, match="plain_logistic has no search space"):
            search(model_type="plain_logistic", trials=2)
        monkeypatch.setitem(SEARCH_SPACES, "plain_logistic", {"C": Range(0.01, 1.0), "max_iter": Range(50, 200)})
        tuned = search(model_type="plain_logistic", trials=2)
        assert tried(settings, tuned)[0][0] == {"C": 0.5, "max_iter": 100}
        assert tuned.hyperparameters.keys() == {"C", "max_iter"}

    def test_optuna_says_nothing(self, search: Callable[..., Tuned], capfd: pytest.CaptureFixture[str]) -> None:
        level = optuna.logging.get_verbosity()
        search(trials=2)
        assert capfd.readouterr() == ("", "")
        assert optuna.logging.get_verbosity() == level


def plain_logistic() -> Any:
    return LogisticRegression(C=0.5)


class TestRuns:
    def test_trials_hang_under_their_parent(
        self, settings: Settings, mlflow: MLflowManager, search: Callable[..., Tuned]
    ) -> None:
        tuned = search(trials=3)
        parent = mlflow.client.get_run(tuned.run_id)
        assert parent.info.status == "FINISHED"
        assert PARENT_TAG not in parent.data.tags
        assert parent.data.tags["who"] == "me"
        assert json.loads(parent.data.tags[BEST_TAG]) == tuned.hyperparameters
        assert parent.data.metrics == {
            "best_cv_roc_auc": tuned.score, "default_cv_roc_auc": tuned.default_score,
            "complete_trials": 3, "pruned_trials": 0, "failed_trials": 0,
        }  # fmt: skip
        runs = children(mlflow, tuned)
        assert [run.info.run_name for run in runs] == ["trial-0", "trial-1", "trial-2"]
        assert {run.info.status for run in runs} == {"FINISHED"}
        logged = [({"C": float(run.data.params["C"])}, run.data.metrics[SCORE]) for run in runs]
        assert logged == tried(settings, tuned)

    def test_a_pruned_trial_is_killed_and_counts(
        self, settings: Settings, mlflow: MLflowManager, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        calls: list[int] = []

        def worse_at_last(values: dict[str, Any], report: Callable[[int, float], None]) -> float:
            calls.append(len(calls))
            score = 0.4 if len(calls) == 6 else 0.7 + 0.01 * len(calls)
            for step in range(1, 30):
                report(step, score)
            return score

        no_fits(worse_at_last)
        tuned = search(trials=6)
        assert tuned.trials == TrialCounts(complete=5, pruned=1, failed=0)
        assert trials(settings, tuned)[5].last_step == validating.PARTS // 2
        pruned = children(mlflow, tuned)[5]
        assert pruned.info.status == "KILLED"
        assert SCORE not in pruned.data.metrics
        assert search(trials=6) == tuned
        assert len(calls) == 6

    def test_a_failed_trial_ends_the_search(
        self, mlflow: MLflowManager, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        outcomes = iter([0.7, ZeroDivisionError(), 0.6])
        no_fits(lambda values, report: given(next(outcomes)))
        with pytest.raises(ZeroDivisionError):
            search(trials=2)
        tuned = search(trials=2)
        assert tuned.trials == TrialCounts(complete=2, pruned=0, failed=1)
        assert [run.info.status for run in children(mlflow, tuned)] == ["FINISHED", "FAILED", "FINISHED"]


def given(outcome: float | BaseException) -> float:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


class TestInterrupted:
    def test_ctrl_c(
        self, settings: Settings, mlflow: MLflowManager, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        no_fits(quality)
        whole = search("-whole", trials=12)
        calls: list[int] = []

        def interrupted(values: dict[str, Any], report: Callable[[int, float], None]) -> float:
            calls.append(1)
            if len(calls) in (1, 12):
                raise KeyboardInterrupt
            return quality(values, report)

        no_fits(interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                search(trials=12)
            [parent] = parents(mlflow, settings)
            assert parent.info.status == "KILLED"
        tuned = search(trials=12)
        assert tuned.run_id == parent.info.run_id
        assert mlflow.client.get_run(tuned.run_id).info.status == "FINISHED"
        assert [run.info.status for run in children(mlflow, tuned)].count("KILLED") == 2
        assert tuned.trials == TrialCounts(complete=12, pruned=0, failed=2)
        assert tried(settings, tuned) == tried(settings, whole)

    def test_a_killed_process(self, settings: Settings, mlflow: MLflowManager, search: Callable[..., Tuned]) -> None:
        arguments = [str(settings.home), settings.model_name, mlflow.settings.tracking_uri]
        code = f"from {__name__} import die_in_third_trial; die_in_third_trial(*{arguments!r})"
        died = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert died.returncode == 9, died.stderr
        [parent] = parents(mlflow, settings)
        assert parent.info.status == "RUNNING"
        tuned = search(trials=4)
        assert tuned.run_id == parent.info.run_id
        assert tuned.trials == TrialCounts(complete=4, pruned=0, failed=1)
        runs = children(mlflow, tuned)
        assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "FAILED", "FINISHED", "FINISHED"]
        assert runs[2].data.params == runs[3].data.params
        assert tried(settings, tuned) == tried(settings, search("-whole", trials=4))

    def test_more_trials_are_added_to_those_there_are(
        self, settings: Settings, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        no_fits(quality)
        few = search(trials=3)
        more = search(trials=11)
        assert more.run_id == few.run_id
        assert sum(vars_of(more.trials)) == 11
        assert search(trials=5) == more
        assert tried(settings, more) == tried(settings, search("-whole", trials=11))


def vars_of(counts: TrialCounts) -> Iterator[int]:
    return (getattr(counts, name) for name in counts.__slots__)


def parents(mlflow: MLflowManager, settings: Settings) -> list[Any]:
    name = f"attributes.run_name = '{settings.model_name}-logistic_regression-tuning'"
    return list(mlflow.client.search_runs([mlflow.experiment_id(settings.experiment_name)], name))


def die_in_third_trial(home: str, model_name: str, tracking_uri: str) -> None:
    """Runs in a process of its own, which ends as if it were killed."""
    real, calls = validating.cross_validated, []

    def dying(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            os._exit(9)
        return real(*arguments)

    validating.cross_validated = dying
    settings = load_settings(home=home, model_name=model_name, mlflow_tracking_uri=tracking_uri)
    tune(settings, MLflowManager(settings), fit_rows(), model_type="logistic_regression", trials=4)


class TestBudget:
    def test_time(
        self, search: Callable[..., Tuned], no_fits: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]

        def takes_a_minute(values: dict[str, Any], report: Callable[[int, float], None]) -> float:
            now[0] += 60
            return quality(values, report)

        no_fits(takes_a_minute)
        monkeypatch.setattr(tuning_module, "monotonic", lambda: now[0])
        shares: list[float] = []
        tuned = search(trials=None, seconds=150, say=lambda _, share: shares.append(share))
        assert tuned.trials.complete == 3
        assert shares == [0.4, 0.8, 1.0]
        assert search(trials=20, seconds=61).trials.complete == 5

    def test_the_defaults_are_tried_however_short_it_is(
        self, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        no_fits(quality)
        tuned = search(trials=None, seconds=1e-9)
        assert tuned.hyperparameters == {"C": 1.0}
        assert tuned.score == tuned.default_score


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"trials": 0}, "0 trials are no budget"),
            ({"trials": None}, "there is no budget"),
            ({"trials": None, "seconds": 0}, "0 seconds are no budget"),
            ({"seconds": float("nan")}, "nan seconds are no budget"),
            ({"model_type": "prophet"}, "'prophet' is no model type"),
            ({"hyperparameters": {"CC": 1}}, "has no hyperparameter CC"),
            ({"hyperparameters": {"C": 1}}, "nothing of logistic_regression is left to tune"),
        ],
    )
    def test_before_anything_is_written(
        self, settings: Settings, search: Callable[..., Tuned], arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            search(**arguments)
        assert list(settings.home.iterdir()) == []

    @pytest.mark.parametrize(
        ("space", "message"),
        [
            ({"alpha": Range(0.1, 1.0)}, "names alpha, which it does not have"),
            ({"warm_start": Range(0, 1)}, "the default False can't be drawn"),
        ],
    )
    def test_a_space_that_does_not_fit(
        self, search: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch, space: dict[str, Range], message: str
    ) -> None:
        monkeypatch.setitem(SEARCH_SPACES, "logistic_regression", space)
        with pytest.raises(InputError, match=message):
            search(trials=1)

    @pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096])
    def test_a_damaged_file(self, settings: Settings, search: Callable[..., Tuned], content: bytes) -> None:
        (settings.home / STUDIES).write_bytes(content)
        with pytest.raises(StorageError, match=rf"the studies in .*{STUDIES} can't be used: .*Next: .*move"):
            search(trials=1)

    def test_a_file_of_another_version(
        self, settings: Settings, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        no_fits(quality)
        search(trials=1)
        with closing(sqlite3.connect(settings.home / STUDIES)) as database, database:
            database.execute("UPDATE alembic_version SET version_num = 'v99'")
        with pytest.raises(StorageError, match="no longer compatible"):
            search(trials=2)

    def test_a_locked_file(
        self,
        settings: Settings,
        search: Callable[..., Tuned],
        no_fits: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        no_fits(quality)
        search(trials=1)
        monkeypatch.setattr(tuning_study, "LOCK_SECONDS", 0)
        with closing(sqlite3.connect(settings.home / STUDIES)) as database:
            database.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StorageError, match="database is locked"):
                search(trials=2)
        assert search(trials=2).trials.complete == 2

    def test_another_process_is_at_it(
        self, settings: Settings, search: Callable[..., Tuned], no_fits: Callable[..., None]
    ) -> None:
        no_fits(quality)
        name = search(trials=1).study_name
        with (
            FileLock(settings.home / "locks" / f"tuning-{name}.lock"),
            pytest.raises(StorageError, match=f"another process is tuning {name}"),
        ):
            search(trials=2)
