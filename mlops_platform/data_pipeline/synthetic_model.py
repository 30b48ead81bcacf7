"""Parameters of the synthetic CRM: who buys how often, who leaves, when in the year, week and day, and how dirty it is.

The model is stored as JSON beside the data it made, so that the exact posterior (`posterior.py`) can be computed later.
Belongs here: the parameters, their defaults, their checks, the JSON. Does not belong here: drawing anything
(`synthetic.py`), the clock they define (`operational_time.py`).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from mlops_platform.errors import InputError


@dataclass(frozen=True, slots=True)
class Segment:
    """One kind of customer; which one a customer is, is never stored.

    Args:
        name: Name, for people.
        weight: Share of the customers, relative to the other segments' weights.
        r: Shape of the Gamma law of purchase rates (purchases per operational day).
        alpha: Rate of that Gamma law, in operational days; the mean purchase rate is r ÷ alpha.
        a: First parameter of the Beta law of the chance to leave after a repeat purchase.
        b: Second parameter; the mean chance is a ÷ (a + b).
        category_weights: Relative chance of each of the model's categories, for every purchase.
        payment_weights: Relative chance of each of the model's payment methods, for every purchase.
    """

    name: str
    weight: float
    r: float
    alpha: float
    a: float
    b: float
    category_weights: tuple[float, ...]
    payment_weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Dirt:
    """Shares of the true purchases that get a blemish. None of them hides or adds a purchase once cleaned.

    Args:
        resent: Delivered again, unchanged but for a later `updated_at`.
        corrected: Preceded by a wrong version: same transaction_id, other amount or category, earlier `updated_at`.
        cancelled: Followed by a row of its own id with the amount negated.
        orphaned: Extra rows without a customer_id, as a share of the purchases.
        uncategorized: Category lost, whatever it was.
    """

    resent: float = 0.01
    corrected: float = 0.01
    cancelled: float = 0.01
    orphaned: float = 0.001
    uncategorized: float = 0.01


DEFAULT_SEGMENTS = (
    Segment("regulars", 0.45, 1.2, 20.0, 0.7, 26.0, (30, 20, 20, 10, 10, 10), (45, 25, 20, 10)),
    Segment("occasional", 0.35, 1.0, 70.0, 0.8, 16.0, (15, 25, 15, 20, 10, 15), (30, 25, 25, 20)),
    Segment("bargain hunters", 0.20, 1.2, 21.0, 1.2, 8.0, (10, 15, 15, 15, 30, 15), (25, 15, 25, 35)),
)
DEFAULT_HOURS = (
    *(0.25, 0.15, 0.10, 0.08, 0.08, 0.12, 0.30, 0.60),
    *(0.95, 1.20, 1.35, 1.45, 1.60, 1.45, 1.30, 1.25),
    *(1.35, 1.60, 1.85, 2.00, 1.90, 1.55, 1.00, 0.55),
)


@dataclass(frozen=True, slots=True)
class SyntheticModel:
    """Everything the generator draws from but the seed.

    Args:
        segments: The mixture.
        categories: Product categories.
        payment_methods: Means of payment.
        season_amplitude: Purchases come up to this share faster or slower over the year; in [0, 1).
        season_peak_day: Day of the year with the fastest pace, 0 for 1 January.
        weekday_factors: Relative pace, Monday first.
        hour_factors: Relative pace by local hour, 0 first.
        acquisition_share: First purchases fall into this first part of the days, evenly in operational time.
        amount_median: Median of an amount of money.
        amount_level_sigma: Spread (standard deviation of the logarithm) of the customers' own levels.
        amount_sigma: Spread of one customer's amounts around its level.
        quantity_stop: Chance that a purchase has no further unit (geometric).
        dirt: Shares of blemishes.

    Raises:
        InputError: A number lies outside its range or a tuple has the wrong length.
    """

    segments: tuple[Segment, ...] = DEFAULT_SEGMENTS
    categories: tuple[str, ...] = ("groceries", "household", "fashion", "electronics", "toys", "sports")
    payment_methods: tuple[str, ...] = ("credit_card", "debit_card", "wallet", "voucher")
    season_amplitude: float = 0.15
    season_peak_day: float = 345.0
    weekday_factors: tuple[float, ...] = (0.90, 0.85, 0.90, 0.95, 1.15, 1.30, 0.95)
    hour_factors: tuple[float, ...] = DEFAULT_HOURS
    acquisition_share: float = 0.75
    amount_median: float = 35.0
    amount_level_sigma: float = 0.6
    amount_sigma: float = 0.5
    quantity_stop: float = 0.6
    dirt: Dirt = Dirt()

    def __post_init__(self) -> None:
        _require(bool(self.segments and self.categories and self.payment_methods), "segments, categories or payments")
        for segment in self.segments:
            numbers = (segment.weight, segment.r, segment.alpha, segment.a, segment.b)
            where = f"segment {segment.name!r}"
            _require(_positive(numbers), where)
            _require(_positive(segment.category_weights, len(self.categories)), f"category_weights of {where}")
            _require(_positive(segment.payment_weights, len(self.payment_methods)), f"payment_weights of {where}")
        _require(len(set(self.categories)) == len(self.categories), "categories")
        _require(len(set(self.payment_methods)) == len(self.payment_methods), "payment_methods")
        _require(0 <= self.season_amplitude < 1 and math.isfinite(self.season_peak_day), "the season")
        _require(_positive(self.weekday_factors, 7), "weekday_factors")
        _require(_positive(self.hour_factors, 24), "hour_factors")
        _require(0 < self.acquisition_share <= 1 and 0 < self.quantity_stop <= 1, "acquisition_share or quantity_stop")
        _require(_positive((self.amount_median,)), "amount_median")
        _require(0 <= self.amount_level_sigma < math.inf and 0 <= self.amount_sigma < math.inf, "the amounts' spread")
        _require(all(0 <= share <= 1 for share in asdict(self.dirt).values()), "dirt")

    def to_json(self) -> str:
        """The model as JSON; floats keep every bit."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SyntheticModel:
        """The model `to_json` wrote.

        Raises:
            InputError: The text is no such model.
        """
        try:
            found = json.loads(text)
            segments = tuple(_known(Segment, cells) for cells in found["segments"])
            model: SyntheticModel = _known(cls, {**found, "segments": segments, "dirt": _known(Dirt, found["dirt"])})
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the text is no synthetic model ({error!r})",
                expected="the JSON that was stored when the CRM was seeded",
                hint="mlops crm seed --help",
            ) from error
        return model


def _known(kind: type[Any], cells: dict[str, Any]) -> Any:
    """An instance from exactly its own fields: a default that filled a gap would not be the data's parameter."""
    names = {field.name for field in fields(kind)}
    if names != set(cells):
        raise KeyError(*sorted(names ^ set(cells)))
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in cells.items()})


def _positive(numbers: tuple[float, ...], length: int | None = None) -> bool:
    return all(0 < n < math.inf for n in numbers) and (length is None or len(numbers) == length)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InputError(
            f"{what} of the synthetic model can't be used",
            expected="positive finite numbers, shares from 0 to 1, one weight for each distinct category, "
            "payment method, weekday (7) and hour (24)",
        )
