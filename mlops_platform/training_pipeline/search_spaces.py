"""Search spaces: which hyperparameters of a model type are tuned, and between which values.

A user's own type brings its space along, by hyperparameter as `make_model` takes it:

    @model_type("extra_trees", search_space={"min_samples_leaf": Range(5, 200, is_log=True)})

Where a default lies outside, the space reaches as far as it: the defaults are the first trial. Does not belong here:
searching (`tuning.py`), the types themselves (`models.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both bounds are.

    Args:
        low: Lower bound.
        high: Upper bound.
        is_log: Equal ratios are equally likely, where otherwise equal differences are.
    """

    low: float
    high: float
    is_log: bool = False

    def including(self, value: Any) -> Range:
        """This range, as far as the value where that lies outside.

        Raises:
            InputError: No range of this kind holds it.
        """
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (self._is_whole and not isinstance(value, int)) or (self.is_log and value <= 0):
            raise InputError(
                f"the default {value!r} can't be drawn from {self}",
                expected="a search space that can hold the default, which is the first trial",
                hint="use a Choice, or a type whose default is a number of that kind.",
            )
        return Range(min(self.low, value), max(self.high, value), self.is_log)

    def suggest(self, trial: Trial, name: str) -> int | float:
        """The value a trial tries."""
        if self._is_whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.is_log)
        return trial.suggest_float(name, self.low, self.high, log=self.is_log)

    @property
    def _is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values: texts, numbers, True or False, None."""

    values: tuple[str | float | bool | None, ...]

    def including(self, value: Any) -> Choice:
        """These values, and the given one if it is none of them."""
        return self if value in self.values else Choice((*self.values, value))

    def suggest(self, trial: Trial, name: str) -> Any:
        """The value a trial tries."""
        return trial.suggest_categorical(name, self.values)


SearchSpace = Mapping[str, Range | Choice]

# The documented space, and no more: every further dimension thins out a search of some twenty trials. The learning
# rate is drawn by its logarithm: its useful values lie below .1, a third of the documented range.
_XGBOOST: SearchSpace = {
    "n_estimators": Range(50, 300),
    "max_depth": Range(3, 15),
    "learning_rate": Range(0.01, 0.3, is_log=True),
    "subsample": Range(0.6, 1.0),
}
# More trees never make a forest worse: what bounds overfitting is the leaf, and what a split may choose from.
_RANDOM_FOREST: SearchSpace = {
    "min_samples_leaf": Range(5, 200, is_log=True),
    "max_features": Choice(("sqrt", 0.3, 0.6, 1.0)),
}
_LOGISTIC_REGRESSION: SearchSpace = {"C": Range(1e-4, 100.0, is_log=True)}

SEARCH_SPACES: dict[str, SearchSpace] = {
    "xgboost": _XGBOOST,
    "random_forest": _RANDOM_FOREST,
    "logistic_regression": _LOGISTIC_REGRESSION,
    "average": {
        f"{part}__{name}": values
        for part, space in (("xgboost", _XGBOOST), ("logistic_regression", _LOGISTIC_REGRESSION))
        for name, values in space.items()
    },
}


def find_search_space(model_type: str) -> SearchSpace:
    """The search space of a model type.

    Raises:
        InputError: It has none.
    """
    if model_type not in SEARCH_SPACES:
        raise InputError(
            f"the model type {model_type} has no search space",
            expected=f"one of {', '.join(sorted(SEARCH_SPACES))}, or a type that names what to tune",
            hint='say it where the type is declared: @model_type(NAME, search_space={"C": Range(0.01, 10.0)}).',
        )
    return SEARCH_SPACES[model_type]
