"""Rows of 25 columns as customer features are shaped, with shifts planted in some, and how often they are found.

Belongs here: drawing rows whose truth is known, and counting right and wrong decisions. Does not belong here: tests, or
what rates they ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy.special import ndtr, ndtri

from mlops_platform.monitoring.drift import Kind, detect_drift

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    Cells = NDArray[np.float64]

REFERENCE_ROWS = 5_000
SHIFT_SD = 0.3
_ZEROS = 0.6
# Shares of the categories; the first one is the one that doubles.
_SHARES = ((0.25, 0.4, 0.35), (0.2, 0.3, 0.25, 0.15, 0.1), (0.1, 0.5, 0.2, 0.1, 0.06, 0.03, 0.01), (0.15, 0.85))
_FAMILIES = {"normal": 3, "uniform": 2, "spend": 4, "count": 4, "hour": 1, "sparse": 3}
COLUMNS: dict[str, Kind] = {
    **{f"{family}_{i}": "numeric" for family, columns in _FAMILIES.items() for i in range(columns)},
    **{f"category_{i}": "categorical" for i in range(8)},
}


def draw(rng: np.random.Generator, rows: int, planted: Collection[str] = ()) -> pa.Table:
    """Rows of COLUMNS, correlated (0.5) within groups of five.

    `spend` is lognormal, `count` geometric and `hour` uniform integers, `sparse` zero in 60 % of the rows. A planted
    number's mean moves by 0.3 standard deviations: integers stay integers, zeros stay zero. A planted category's first
    share doubles, at the cost of the others.
    """
    groups = rng.standard_normal((-(-len(COLUMNS) // 5), rows)).repeat(5, axis=0)[: len(COLUMNS)]
    ranks = ndtr(np.sqrt(0.5) * (groups + rng.standard_normal((len(COLUMNS), rows))))
    return pa.table(
        {
            name: _cells(rng, name, np.clip(rank, 1e-12, 1 - 1e-12), is_planted=name in planted)
            for name, rank in zip(COLUMNS, ranks, strict=True)
        }
    )


def plant(rng: np.random.Generator) -> set[str]:
    """Three columns to shift."""
    return set(rng.choice(list(COLUMNS), 3, replace=False).tolist())


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Decisions on draws whose truth is known.

    Args:
        draws: How many.
        alarms: Draws in which drift was found.
        exact: Draws in which exactly the planted columns were named.
        others_named: Draws in which another column was named.
        missed: Planted columns that were not named.
    """

    draws: int
    alarms: int
    exact: int
    others_named: int
    missed: tuple[str, ...]


def outcomes(draws: int, rows: int, *, is_planted: bool, seed: int = 0) -> Outcomes:
    """Decides on independent draws of a reference and of current rows, with a shift in three columns or in none."""
    alarms = exact = others = 0
    missed: list[str] = []
    for number in range(draws):
        rng = np.random.default_rng((seed, rows, is_planted, number))
        planted = plant(rng) if is_planted else set()
        result = detect_drift(draw(rng, REFERENCE_ROWS), draw(rng, rows, planted), columns=COLUMNS)
        named = set(result.drifted)
        alarms += bool(named)
        exact += named == planted
        others += not named <= planted
        missed += sorted(planted - named)
    return Outcomes(draws, alarms, exact, others, tuple(missed))


def _cells(rng: np.random.Generator, name: str, rank: Cells, *, is_planted: bool) -> pa.Array:
    family, _, number = name.partition("_")
    if family == "category":
        shares = np.array(_SHARES[int(number) % len(_SHARES)])
        if is_planted:
            shares[1:] *= (1 - 2 * shares[0]) / (1 - shares[0])
            shares[0] *= 2
        places = np.minimum(np.searchsorted(shares.cumsum(), rank), len(shares) - 1)
        return pa.array([f"value {place}" for place in range(len(shares))]).take(pa.array(places))
    values, sd = _numbers(family, rank)
    moved = SHIFT_SD * sd if is_planted else 0.0
    if family in {"count", "hour"}:
        return pa.array((values + np.floor(moved + rng.random(len(rank)) * (moved > 0))).astype(np.int64))
    if family == "sparse":
        moved = np.where(values > 0, moved / (1 - _ZEROS), 0.0)
    return pa.array(values + moved)


def _numbers(family: str, rank: Cells) -> tuple[Cells, float]:
    """Values at ranks from 0 to 1, and the family's standard deviation."""
    if family == "normal":
        return ndtri(rank), 1.0
    if family == "uniform":
        return rank, 12**-0.5
    if family == "spend":
        return np.exp(ndtri(rank)), float(np.sqrt((np.e - 1) * np.e))
    if family == "hour":
        return np.floor(24 * rank), float(np.sqrt((24**2 - 1) / 12))
    if family == "count":
        # Geometric with mean 3.
        share = 0.25
        return np.floor(np.log1p(-rank) / np.log1p(-share)), float(np.sqrt(1 - share) / share)
    # Zero, or an exponential of mean 1.
    present = 1 - _ZEROS
    return np.where(rank > _ZEROS, -np.log((1 - rank) / present), 0.0), float(np.sqrt(2 * present - present**2))
