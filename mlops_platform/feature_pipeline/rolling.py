"""The rolling engine: every customer's measures, carried from one feature_date to the next.

From day to day a window gains the purchases of its new day and loses those of the day that leaves it; only customers
who have such a purchase get their measures computed anew, exactly, from the purchases inside. So a year of
feature_dates costs little more than the rows that move through the windows. The measures are those of
`transform.state_expression`, to the last digit; from them the same expression makes the features. Does not belong here:
running that expression (`compute.py`), reading purchases (`purchases.py`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_platform.feature_pipeline.measures import Measure
from mlops_platform.feature_pipeline.purchases import order_by
from mlops_platform.feature_pipeline.segments import Segments, first_mode, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from mlops_platform.feature_pipeline.purchases import Purchases

EPOCH_ORDINAL = 719_163  # date(1970, 1, 1).toordinal()


class Rolling:
    """The measures of every customer at one local day, which only moves on.

    Args:
        purchases: All purchases, those after the day too.
        measures: What to compute.
        day: The first day, in days since 1970-01-01.
        month: Its month number.
    """

    def __init__(self, purchases: Purchases, measures: Sequence[Measure], day: int, month: int) -> None:
        self.purchases, self.measures, self.day, self.month = purchases, measures, day, month
        count = len(purchases.customers)
        self._end = self._places(day)
        windows = {measure.window_days for measure in measures}
        self._from = {n: purchases.starts[:-1] if n is None else self._places(day - n) for n in windows}
        self._moved = {n: np.ones(count, bool) for n in windows}
        self._sums: dict[str, NDArray[Any]] = {}
        self._values = {m: np.zeros(count, np.float64 if m.function == "spread" else np.int64) for m in measures}

    def _places(self, day: int) -> NDArray[np.int64]:
        """For each customer the place after the last purchase on or before the day."""
        return self.purchases.starts[:-1] + np.bincount(
            self.purchases.customer[self.purchases.day <= day], minlength=len(self.purchases.customers)
        )

    def advance(self, day: int, month: int) -> None:
        """Moves on to a later day (or stays).

        Args:
            day: In days since 1970-01-01.
            month: Its month number.
        """
        while self.day < day:
            self.day += 1
            entering = self._customers_on(self.day)
            np.add.at(self._end, entering, 1)
            for n, moved in self._moved.items():
                moved[entering] = True
                if n is not None:
                    leaving = self._customers_on(self.day - n)
                    np.add.at(self._from[n], leaving, 1)
                    moved[leaving] = True
        if month != self.month:
            self.month = month
            self._sums.pop("is_in_calendar_month", None)
            for measure in self.measures:
                if measure.source == "is_in_calendar_month":
                    self._moved[measure.window_days][:] = True

    def _customers_on(self, day: int) -> NDArray[np.int32]:
        first_day, starts, customers = self._calendar
        place = day - first_day
        return customers[starts[place] : starts[place + 1]] if 0 <= place < len(starts) - 1 else customers[:0]

    @cached_property
    def _calendar(self) -> tuple[int, NDArray[np.int64], NDArray[np.int32]]:
        """The customers of all purchases day by day: the first day, where each day begins, and they themselves."""
        days = self.purchases.day
        first = int(days.min(initial=self.day))
        starts = np.concatenate(([0], np.cumsum(np.bincount(days - first))))
        return first, starts, self.purchases.customer[order_by(days)]

    def state(self) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
        """Who has a purchase so far, and the measures of all customers by name.

        A mode is the value's place among the label's values, −1: none. Extremes of nothing are 0. The arrays change
        with the next `advance`.
        """
        for n, moved in self._moved.items():
            customers = np.flatnonzero(moved)
            moved[:] = False
            self._renew([m for m in self.measures if m.window_days == n], customers)
        is_known = self._end > self.purchases.starts[:-1]
        return is_known, {
            m.name: self._ages(m) if m.function in {"first", "last"} else self._values[m] for m in self.measures
        }

    def _ages(self, measure: Measure) -> NDArray[np.int64]:
        """Age of the first or last purchase, whatever for who has none."""
        at = self.purchases.starts[:-1] if measure.function == "first" else np.maximum(self._end - 1, 0)
        return self.day - self.purchases.day[np.minimum(at, self.purchases.rows - 1)].astype(np.int64)

    def _renew(self, measures: Sequence[Measure], customers: NDArray[np.int64]) -> None:
        """Computes measures of one window for some customers."""
        if not measures or not customers.size:
            return
        start, end = self._from[measures[0].window_days][customers], self._end[customers]
        segments: Segments | None = None
        for measure in measures:
            match measure.function:
                case "first" | "last":
                    continue
                case "count" if measure.source is None:
                    found: Any = end - start
                case "count" | "sum" | "days":
                    sums = self._running_sum(measure.source or measure.function)
                    found = sums[end] - sums[start]
                case _:
                    segments = segments or Segments(start, end)
                    found = self._of_segments(measure, segments)
            self._values[measure][customers] = found

    def _of_segments(self, measure: Measure, segments: Segments) -> NDArray[Any]:
        match measure.function:
            case "max" | "min":
                extreme = np.maximum if measure.function == "max" else np.minimum
                return segments.reduced(extreme, self.purchases.cents)
            case "spread":
                return spread(self.purchases.cents, segments)
        label = self.purchases.labels[str(measure.source)]
        return first_mode(label.codes, len(label.values), segments)

    def _running_sum(self, of: str) -> NDArray[Any]:
        """Sums of cents or counts of a flag over all purchases up to a place; differences of two are those between.

        Sums of cents may wrap around; the differences are right all the same.
        """
        if of not in self._sums:
            values = self._summed(of)
            sums = np.zeros(len(values) + 1, values.dtype if of == "sum" else np.int32)
            np.cumsum(values, out=sums[1:])
            self._sums[of] = sums
        return self._sums[of]

    def _summed(self, of: str) -> NDArray[Any]:
        purchases = self.purchases
        match of:
            case "sum":
                return purchases.cents
            case "is_weekend":
                return purchases.is_weekend
            case "is_in_calendar_month":
                in_month: NDArray[Any] = purchases.month == self.month
                return in_month
        # The first purchase of a customer on a day stands for the day.
        is_first = np.ones(purchases.rows, bool)
        is_first[1:] = (purchases.day[1:] != purchases.day[:-1]) | (purchases.customer[1:] != purchases.customer[:-1])
        return is_first


def fifths(values: NDArray[Any]) -> NDArray[np.int64]:
    """1 + floor(5 × strictly smaller values ÷ values), for each value.

    A value has at least m smaller ones exactly when it is greater than the m-th smallest.
    """
    count = len(values)
    needed = [-(-k * count // 5) - 1 for k in range(1, 5)]
    smallest = np.partition(values, sorted(set(needed)))
    scores = np.ones(count, np.int64)
    for place in needed:
        scores += values > smallest[place]
    return scores


def in_days(days: Iterable[Any]) -> list[int]:
    """Dates as days since 1970-01-01."""
    return [day.toordinal() - EPOCH_ORDINAL for day in days]
