"""Operational time of the synthetic CRM: a clock that runs faster in season, on busy weekdays and at busy hours.

In it every customer's purchases are a plain Poisson process, so BG/NBD's closed forms hold as they stand. Does not
belong here: drawing purchases (`synthetic.py`), the posterior (`posterior.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from datetime import date

    from numpy.typing import NDArray

    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel

DAYS_PER_YEAR = 365.2425
_US_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True, eq=False)
class OperationalClock:
    """τ(t) = ∫ season(day) · weekday(day) · hour(h), in operational days since the first local midnight.

    season(d) = 1 + amplitude · cos(2π · (d − peak) ÷ 365.2425) with d in days since 1 January 1970 (off the calendar by
    less than a day); the weekday and hour factors are divided by their means. The pace is constant within an hour and
    averages 1 operational day per day over whole years.

    Args:
        origin: Local midnight at which τ is 0.
        cumulative: τ at every full hour since then; strictly increasing, shape (24 · days + 1,).
    """

    origin: np.datetime64
    cumulative: NDArray[np.float64]

    @classmethod
    def spanning(cls, model: SyntheticModel, first: date, last: date) -> OperationalClock:
        """The clock over the local days `first` … `last`, both inclusive.

        Raises:
            InputError: `last` is before `first`.
        """
        if last < first:
            raise InputError(f"the days {first} to {last} are no range", expected="the first day before the last")
        days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
        number = days.astype(np.int64)
        angle = 2 * np.pi * (number - model.season_peak_day) / DAYS_PER_YEAR
        # 1 January 1970 was a Thursday; the factors start with Monday.
        weekday = _mean_one(model.weekday_factors)[(number + 3) % 7]
        daily = (1 + model.season_amplitude * np.cos(angle)) * weekday
        hourly = np.outer(daily, _mean_one(model.hour_factors) / 24).ravel()
        return cls(days[0].astype("datetime64[us]"), np.concatenate(([0.0], np.cumsum(hourly))))

    @property
    def length(self) -> float:
        """τ at the end of the last day."""
        return float(self.cumulative[-1])

    def operational(self, moments: NDArray[np.datetime64]) -> NDArray[np.float64]:
        """Operational days of naive local times.

        Args:
            moments: Any shape of datetime64; the midnight that ends the last day is still in range.

        Raises:
            InputError: A time lies outside the clock's days or is missing.
        """
        hours = (moments.astype("datetime64[us]") - self.origin).astype(np.int64) / _US_PER_HOUR
        if hours.size and not (hours.min() >= 0 and hours.max() <= len(self.cumulative) - 1):
            raise InputError("a time is missing or outside the clock's days", expected=f"times from {self.origin} on")
        return np.interp(hours, np.arange(len(self.cumulative)), self.cumulative)

    def moments(self, operational: NDArray[np.float64]) -> NDArray[np.datetime64]:
        """The inverse of `operational`: naive local times, datetime64[us], for values in [0, length].

        Raises:
            InputError: A value lies outside that range.
        """
        if operational.size and not (operational.min() >= 0 and operational.max() <= self.length):
            raise InputError("an operational time is outside the clock's", expected=f"0 to {self.length:.6g}")
        hours = np.interp(operational, self.cumulative, np.arange(len(self.cumulative)))
        return self.origin + np.rint(hours * _US_PER_HOUR).astype("timedelta64[us]")


def _mean_one(factors: tuple[float, ...]) -> NDArray[np.float64]:
    values = np.asarray(factors, dtype=np.float64)
    return np.asarray(values / values.mean())
