"""Trying a model before it is used: made-up rows of every kind its features allow, and what it must say to them.

Also here: whether its serving form says the same to the last bit. Does not belong here: rows of customers, checking
rows of requests (`validation.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_platform.contracts.table import ColumnType
from mlops_platform.errors import InputError, ModelError
from mlops_platform.training_pipeline.serving_form import ServingForm, is_equal, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlops_platform.contracts.table import Column
    from mlops_platform.inference_pipeline.validation import RowSchema

    Row = dict[str, Any]

TRIAL_ROWS = 200
_SEED = 42
# Values of a column without a limit: counts, money and days lie here, and beyond.
_DECADES = (-2.0, 6.0)


def trial_rows(schema: RowSchema, categories: Mapping[str, Sequence[str]]) -> list[Row]:
    """The schema's example, and 200 random rows within its limits; the same every time.

    Args:
        schema: The model's features.
        categories: Values the model knows of a category; others are among the rows.
    """
    chance = np.random.default_rng(_SEED)
    cells = {column.name: _cells(chance, column, categories.get(column.name, ())) for column in schema.columns}
    return [schema.example(), *({name: values[n] for name, values in cells.items()} for n in range(TRIAL_ROWS))]


def require_probabilities(pipeline: Any, rows: Sequence[Row]) -> None:
    """Refuses a model that takes no valid rows, or does not answer them with two probabilities each.

    Raises:
        ModelError: It is one.
    """
    try:
        found = np.asarray(pipeline.predict_proba(rows))
    except InputError as error:
        raise ModelError(
            f"the model does not take a valid row: {error.problem}", expected="a model of the declared features"
        ) from error
    if found.shape != (len(rows), 2) or not ((found >= 0) & (found <= 1)).all():
        raise ModelError(
            f"the model answers {len(rows)} rows with an array of shape {found.shape}, from {found.min()} to "
            f"{found.max()}",
            expected="two probabilities a row",
        )


def equal_form(folder: Path, pipeline: Any, rows: Sequence[Row]) -> tuple[ServingForm | None, str | None]:
    """The serving form in a folder if it gives the Pipeline's bits on the rows; else None, and why it is not used."""
    try:
        form = load(folder)
    except ModelError as error:
        return None, str(error)
    if list(form.features.feature_names_in_) != list(pipeline["features"].feature_names_in_):
        return None, "the serving form has other features than the Pipeline"
    if not is_equal(form, pipeline, rows):
        return None, f"the serving form gives other probabilities than the Pipeline on {len(rows)} made-up rows"
    return form, None


def _cells(chance: np.random.Generator, column: Column, known: Sequence[str]) -> list[Any]:
    if column.isin is not None:
        return [column.isin[n] for n in chance.integers(0, len(column.isin), TRIAL_ROWS)]
    if column.type is ColumnType.STRING:
        texts = [*known, "", "never seen"]
        return [texts[n] for n in chance.integers(0, len(texts), TRIAL_ROWS)]
    is_integer = column.type in {ColumnType.INT, ColumnType.LONG}
    low = column.ge if column.ge is not None else 0.0
    if column.le is not None:
        numbers = chance.uniform(low, column.le, TRIAL_ROWS)
    else:
        numbers = low + 10.0 ** chance.uniform(*_DECADES, TRIAL_ROWS)
        if column.ge is None:
            numbers *= chance.choice([-1, 1], TRIAL_ROWS)
    numbers[: TRIAL_ROWS // 20] = low
    found: list[Any] = [int(number) for number in numbers] if is_integer else numbers.tolist()
    return found
