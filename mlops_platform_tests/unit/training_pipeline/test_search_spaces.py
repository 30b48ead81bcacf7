"""Search spaces: the documented one, and that every type's defaults can be tried."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from mlops_platform.errors import InputError
from mlops_platform.training_pipeline.models import hyperparameters_of, make_model
from mlops_platform.training_pipeline.search_spaces import Choice, Range, find_search_space


def test_the_documented_space() -> None:
    bounds = {name: (allowed.low, allowed.high) for name, allowed in find_search_space("xgboost").items()}  # type: ignore[union-attr]
    assert bounds == {
        "n_estimators": (50, 300), "max_depth": (3, 15), "learning_rate": (0.01, 0.3), "subsample": (0.6, 1.0)
    }  # fmt: skip


@pytest.mark.parametrize("model_type", ["xgboost", "random_forest", "logistic_regression", "average"])
def test_every_type_has_a_space_that_reaches_its_defaults(model_type: str) -> None:
    defaults = hyperparameters_of(make_model(model_type)["classifier"])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    space = {name: allowed.including(defaults[name]) for name, allowed in find_search_space(model_type).items()}
    study.enqueue_trial({name: defaults[name] for name in space})
    trial = study.ask()
    assert {name: allowed.suggest(trial, name) for name, allowed in space.items()} == {
        name: defaults[name] for name in space
    }


@pytest.mark.parametrize("allowed", [Range(3, 15), Range(0.5, 0.9), Range(0.01, 10.0, is_log=True), Choice(("a", 1.5))])
def test_what_is_drawn_lies_inside(allowed: Range | Choice) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [allowed.suggest(study.ask(), "x") for _ in range(20)]
    assert all(allowed.including(value) == allowed for value in drawn)
    assert {type(value) for value in drawn} <= ({int} if allowed == Range(3, 15) else {float, str})


@pytest.mark.parametrize(
    ("allowed", "value", "expected"),
    [
        (Range(3, 15), 15, Range(3, 15)),
        (Range(3, 15), 16, Range(3, 16)),
        (Range(0.6, 1.0), 0.5, Range(0.5, 1.0)),
        (Range(0.01, 0.3, is_log=True), 1, Range(0.01, 1, is_log=True)),
        (Choice(("sqrt", None)), None, Choice(("sqrt", None))),
        (Choice(("sqrt", None)), "log2", Choice(("sqrt", None, "log2"))),
    ],
)
def test_it_reaches_as_far_as_a_default(allowed: Range | Choice, value: Any, expected: Range | Choice) -> None:
    assert allowed.including(value) == expected


@pytest.mark.parametrize(
    ("allowed", "value"),
    [(Range(3, 15), 3.5), (Range(3, 15), None), (Range(0, 1), True), (Range(0.1, 1.0, is_log=True), 0.0)],
)
def test_a_default_that_no_range_holds(allowed: Range, value: Any) -> None:
    with pytest.raises(InputError, match="can't be drawn from Range"):
        allowed.including(value)


def test_a_type_without_a_space() -> None:
    with pytest.raises(InputError, match=r"mine has no search space.*search_space="):
        find_search_space("mine")
