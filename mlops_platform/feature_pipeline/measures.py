"""Measures: the whole numbers a customer's features are made of, as the declarations ask for them.

Features are computed in two steps, so that every engine agrees to the last bit: first a customer's measures, exact
counts and sums of cents that no order of rows can change; then one expression from measures to features. Does not
belong here: computing measures (`transform.py` in SQL, `rolling.py` day by day).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlops_platform.contracts.features import FLAGS, MEASURES, Aggregate, Feature, MostFrequent

if TYPE_CHECKING:
    from collections.abc import Iterable

Function = Literal["count", "sum", "max", "min", "spread", "days", "mode", "first", "last"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of a customer's purchases in a window.

    Args:
        function: count (of purchases); sum, max, min of cents; spread (n·Σx² − (Σx)² of cents); days (distinct purchase
            dates); mode (most frequent value); first, last (age in days of the first, last purchase).
        window_days: N: the local days D−N+1 … D; None: all history.
        source: The flag that is counted, or the column whose mode it is.
    """

    function: Function
    window_days: int | None = None
    source: str | None = None

    @property
    def name(self) -> str:
        """Name of its column, such as `count_is_weekend_90d`."""
        window = "all" if self.window_days is None else f"{self.window_days}d"
        return "_".join(part for part in (self.function, self.source, window) if part)


def measures_of(how: Aggregate | MostFrequent) -> tuple[Measure, ...]:
    """The measures that one declaration is made of, the one that carries its own source first."""
    if isinstance(how, MostFrequent):
        return (Measure("mode", how.window_days, how.source),)
    count = Measure("count", how.window_days)
    flagged = Measure("count", how.window_days, how.source if how.source in FLAGS else None)
    match how.function:
        case "count":
            return (flagged,)
        case "share":
            return (flagged, count)
        case "avg":
            return (Measure("sum", how.window_days), count)
        case "std":
            return (Measure("spread", how.window_days), count)
        case "sum" | "max" | "min" | "days" | "first" | "last":
            return (Measure(how.function, how.window_days),)


def needed_measures(features: Iterable[Feature]) -> tuple[Measure, ...]:
    """Every measure that these features need, each once."""
    declared = [f.how for f in features if isinstance(f.how, Aggregate | MostFrequent)]
    return tuple(dict.fromkeys(measure for how in (*MEASURES.values(), *declared) for measure in measures_of(how)))
