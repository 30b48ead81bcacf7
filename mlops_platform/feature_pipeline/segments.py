"""Exact aggregates of many short stretches of an array at once.

Belongs here: arithmetic on arrays. Does not belong here: what the arrays mean (`rolling.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAFE = 2.0**62
# Counting into a cell for every possible key beats sorting until there are so many more cells than keys.
_ROOM = 16


class Segments:
    """Stretches start … end−1 of an array, some of them empty.

    Args:
        start: First places.
        end: Places after the last.
    """

    def __init__(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> None:
        self.count = len(start)
        lengths = end - start
        self.filled = np.flatnonzero(lengths)
        self.start, self.lengths = start[self.filled], lengths[self.filled]
        # Of the gathered values: where each filled stretch begins.
        self.bounds = np.cumsum(self.lengths) - self.lengths
        self.places = np.repeat(self.start - self.bounds, self.lengths) + np.arange(self.lengths.sum())

    def reduced(self, function: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """The reduction of each stretch, 0 of an empty one."""
        return self.spread_out(self.reduce(function, values[self.places]))

    def reduce(self, function: np.ufunc, gathered: NDArray[Any]) -> NDArray[Any]:
        """The reduction of each filled stretch of gathered values."""
        return function.reduceat(gathered, self.bounds) if self.filled.size else gathered[:0]

    def spread_out(self, found: NDArray[Any], otherwise: int = 0) -> NDArray[Any]:
        """Results of the filled stretches among those of all."""
        everywhere = np.full(self.count, otherwise, found.dtype)
        everywhere[self.filled] = found
        return everywhere


def spread(values: NDArray[np.int64], segments: Segments) -> NDArray[np.float64]:
    """n·Σx² − (Σx)² of each stretch, exact, then rounded once.

    It does not change when the same number is taken from every x: so it mostly fits into 64 bits, and where it may not,
    Python's integers take over.
    """
    moved = values[segments.places] - np.repeat(values[segments.start], segments.lengths)
    total = segments.reduce(np.add, moved)
    squares = segments.reduce(np.add, moved * moved)
    found = (segments.lengths * squares - total * total).astype(np.float64)
    widest = segments.reduce(np.maximum, np.abs(moved.astype(np.float64)))
    for place in np.flatnonzero(segments.lengths.astype(np.float64) ** 2 * widest**2 >= _SAFE):
        first = segments.start[place]
        xs = [int(x) for x in values[first : first + segments.lengths[place]]]
        found[place] = _as_double(len(xs) * sum(x * x for x in xs) - sum(xs) ** 2)
    return segments.spread_out(found)


def _as_double(value: int) -> float:
    """A non-negative 128-bit integer as DuckDB casts it to DOUBLE: its halves one by one."""
    return float(value & (2**64 - 1)) + float(value >> 64) * 2.0**64


def first_mode(codes: NDArray[np.int32], kinds: int, segments: Segments) -> NDArray[np.int64]:
    """The most frequent code of each stretch, of equals the smallest; −1 where there is none.

    Args:
        codes: Codes from 0 to `kinds` − 1; −1 counts for none.
        kinds: How many there are.
        segments: The stretches.
    """
    found = np.full(segments.count, -1, np.int64)
    gathered = codes[segments.places]
    keys = (np.repeat(np.arange(len(segments.filled)) * kinds, segments.lengths) + gathered)[gathered >= 0]
    if not keys.size:
        return found
    cells, times = _counted(keys, len(segments.filled) * kinds)
    stretch, code = np.divmod(cells, kinds)
    begins = np.flatnonzero(np.concatenate(([True], stretch[1:] != stretch[:-1])))
    most = np.repeat(np.maximum.reduceat(times, begins), np.diff(begins, append=len(stretch)))
    best = np.flatnonzero(times == most)[::-1]
    # Written from the last to the first: the smallest code stays.
    found[segments.filled[stretch[best]]] = code[best]
    return found


def _counted(keys: NDArray[np.int64], cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct keys in order, and how often each occurs."""
    if cells > _ROOM * len(keys):
        found, times = np.unique(keys, return_counts=True)
        return found, times
    counts = np.bincount(keys, minlength=cells)
    found = np.flatnonzero(counts)
    return found, counts[found]
