"""Tuning: searches a model type's hyperparameters with Optuna, every trial a nested MLflow run.

The type's defaults are the first trial: by the score that is searched, what is found is never worse than they are
(`cross_validation.py` says which score, and why it touches no test row). Equal rows, space, seed and code are one
study, which a later call takes up: `trials` counts those of all calls. Does not belong here: training with what was
found (`train.py`), the study's file (`tuning_study.py`) and its runs (`tuning_runs.py`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError
from mlops_platform.training_pipeline import cross_validation as validating
from mlops_platform.training_pipeline import search_spaces, tuning_study
from mlops_platform.training_pipeline.models import (
    DEFAULT_MODEL_TYPE,
    RANDOM_STATE,
    code_digest,
    hyperparameters_of,
    make_model,
)
from mlops_platform.training_pipeline.train import MODEL_TYPE_TAG, FitRows, line_rows
from mlops_platform.training_pipeline.tuning_runs import SCORE, study_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.cross_validation import CrossValidation
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.search_spaces import SearchSpace
    from mlops_platform.training_pipeline.tuning_runs import StudyRun
    from mlops_platform.training_pipeline.tuning_study import TrialCounts

    Say = Callable[[str, float], None]

DEFAULT_TRIALS = 20
BEST_TAG = "mlops.best-hyperparameters"


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a study has found.

    Args:
        model_type: Name in `MODEL_TYPES`.
        hyperparameters: The best found, with those that were held fixed: what `train` takes.
        score: Their mean ROC-AUC over the parts of the train rows.
        default_score: That of the type's defaults.
        study_name: The study, in the home's `optuna.db`.
        trials: All of the study's.
        run_id: MLflow run whose children are the trials.
    """

    model_type: str
    hyperparameters: dict[str, Any]
    score: float
    default_score: float
    study_name: str
    trials: TrialCounts
    run_id: str


@dataclass(frozen=True, slots=True)
class _Search:
    """What is searched: the space, the values of the first trial, and what is the same in all trials."""

    model_type: str
    space: SearchSpace
    first: dict[str, Any]
    fixed: dict[str, Any]


def tune(
    settings: Settings,
    manager: MLflowManager,
    rows: FitRows | TableSnapshot,
    *,
    model_type: str = DEFAULT_MODEL_TYPE,
    trials: int | None = DEFAULT_TRIALS,
    seconds: float | None = None,
    seed: int = RANDOM_STATE,
    hyperparameters: Mapping[str, Any] | None = None,
    say: Say | None = None,
) -> Tuned:
    """Searches hyperparameters until the budget is spent; interrupted, the same call goes on where it stopped.

    Args:
        settings: The home, experiment and model name.
        manager: MLflow.
        rows: Snapshot of ml.training_set, or rows of any origin; only their train rows are used.
        model_type: Name in `MODEL_TYPES`, with a search space.
        trials: Trials of the study, those of earlier calls included; None: no limit.
        seconds: No trial begins later than this after the call; None: no limit.
        seed: Equal seeds give equal trials.
        hyperparameters: Held fixed, and not searched.
        say: Called after each trial with a line and the share of the budget that is spent.

    Raises:
        InputError: No budget, unknown model type or hyperparameter, no search space, or one with values refused.
        NotEnoughDataError: The train rows can't be parted.
        StorageError: The study's file can't be used, or MLflow can't be reached.
    """
    budget = _Budget.of(trials, seconds)
    search = _search(model_type, hyperparameters or {})
    found = rows if isinstance(rows, FitRows) else line_rows(settings, rows)
    data = validating.cross_validation(found)
    name = f"{settings.model_name}-{model_type}-{_digest(search, data, found.features, seed)}"
    tags = {MODEL_TYPE_TAG: model_type, **found.tags}
    run_name = f"{settings.model_name}-{model_type}-tuning"
    with (
        tuning_study.open_study(settings, name) as study,
        study_run(manager, settings.experiment_name, run_name, name, tags) as run,
    ):

        def objective(trial: Trial) -> float:
            return _objective(trial, search, data, run)

        while not (done := len(tuning_study.ended(study))) or budget.share(done) < 1:
            trial = tuning_study.run_trial(study, objective, first=search.first, seed=seed)
            if say is not None:
                say(_line(trial, _best(study)), budget.share(done + 1))
        tuned = _tuned(study, search, run.run_id)
        _log_result(manager, tuned)
    return tuned


def require_tunable(model_type: str, *, trials: int | None, seconds: float | None) -> None:
    """Refuses what `tune` would refuse, before its rows are made.

    Raises:
        InputError: No budget, unknown model type, no search space, or one that does not fit the type.
    """
    _Budget.of(trials, seconds)
    _search(model_type, {})


@dataclass(frozen=True, slots=True)
class _Budget:
    """How much may be tried: trials of the study, seconds from `started` on."""

    trials: int | None
    seconds: float | None
    started: float

    @classmethod
    def of(cls, trials: int | None, seconds: float | None) -> _Budget:
        if trials is None and seconds is None:
            raise InputError("there is no budget", expected="a number of trials, a time, or both")
        if trials is not None and trials < 1:
            raise InputError(f"{trials} trials are no budget", expected="1 or more")
        if seconds is not None and not seconds > 0:
            raise InputError(f"{seconds:g} seconds are no budget", expected="more than 0")
        return cls(trials, seconds, monotonic())

    def share(self, done: int) -> float:
        """How much of it is spent after so many trials, from 0 to 1."""
        of_trials = done / self.trials if self.trials is not None else 0.0
        of_time = (monotonic() - self.started) / self.seconds if self.seconds is not None else 0.0
        return min(1.0, max(of_trials, of_time))


def _search(model_type: str, fixed: Mapping[str, Any]) -> _Search:
    values = hyperparameters_of(make_model(model_type, fixed)["classifier"])
    space = {k: v for k, v in search_spaces.find_search_space(model_type).items() if k not in fixed}
    if not space:
        raise InputError(
            f"nothing of {model_type} is left to tune",
            expected="hyperparameters of its search space that are not given",
        )
    unknown = sorted(set(space) - set(values))
    if unknown:
        raise InputError(
            f"the search space of {model_type} names {', '.join(unknown)}, which it does not have",
            expected=f"some of {', '.join(sorted(values))}",
        )
    first = {name: values[name] for name in space}
    return _Search(model_type, {k: v.including(first[k]) for k, v in space.items()}, first, dict(fixed))


def _digest(search: _Search, data: CrossValidation, features: tuple[str, ...], seed: int) -> str:
    """Digest of all that a trial's values and score depend on."""
    classifier = make_model(search.model_type, search.fixed)["classifier"]
    sources = (inspect.getsource(module) for module in (validating, search_spaces, tuning_study))
    what = [
        data.digest,
        features,
        {name: repr(values) for name, values in sorted(search.space.items())},
        {name: repr(value) for name, value in sorted(hyperparameters_of(classifier).items())},
        seed,
        code_digest(search.model_type),
        *sources,
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _objective(trial: Trial, search: _Search, data: CrossValidation, run: StudyRun) -> float:
    """The score of a trial's values, in a nested run of its own."""
    from optuna import TrialPruned

    def report(step: int, score: float) -> None:
        trial.report(score, step)
        if trial.should_prune():
            raise TrialPruned(f"worse than the median at step {step}")

    values = search.fixed | {name: allowed.suggest(trial, name) for name, allowed in search.space.items()}
    with run.trial(f"trial-{trial.number}", {MODEL_TYPE_TAG: search.model_type}, values) as run_id:
        score = validating.cross_validated(search.model_type, values, data, report)
        run.client.log_metric(run_id, SCORE, score)
    return score


def _best(study: Study) -> FrozenTrial:
    """The complete trial of the highest score; of equal ones the first."""
    return max(tuning_study.complete(study), key=_score)


def _score(trial: FrozenTrial) -> float:
    return float(trial.value or 0.0)


def _tuned(study: Study, search: _Search, run_id: str) -> Tuned:
    best, default = _best(study), tuning_study.complete(study)[0]
    return Tuned(
        model_type=search.model_type,
        hyperparameters=search.fixed | best.params,
        score=_score(best),
        default_score=_score(default),
        study_name=study.study_name,
        trials=tuning_study.count(study),
        run_id=run_id,
    )


def _log_result(manager: MLflowManager, tuned: Tuned) -> None:
    # A tag and no parameters: those can't change when the study goes on.
    manager.client.set_tag(tuned.run_id, BEST_TAG, json.dumps(tuned.hyperparameters, sort_keys=True, default=str))
    figures = {f"best_{SCORE}": tuned.score, f"default_{SCORE}": tuned.default_score}
    counts = {f"{state}_trials": getattr(tuned.trials, state) for state in ("complete", "pruned", "failed")}
    manager.log_metrics(tuned.run_id, figures | counts)


def _line(trial: FrozenTrial, best: FrozenTrial) -> str:
    from optuna.trial import TrialState

    what = "pruned" if trial.state == TrialState.PRUNED else f"ROC-AUC {_score(trial):.4f}"
    return f"trial {trial.number}: {what}, best {_score(best):.4f}"
