"""The picture of the columns that moved most: that it is drawn for any column, small, and the same every time."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pyarrow as pa

from mlops_platform.monitoring.drift import Kind, detect_drift
from mlops_platform.monitoring.picture import worst_columns_png

ROWS = 300


def drawn(before: pa.Table, after: pa.Table, kinds: dict[str, Kind]) -> bytes | None:
    return worst_columns_png(before, after, detect_drift(before, after, columns=kinds))


def pixels(png: bytes | None) -> np.ndarray:
    from matplotlib.image import imread

    assert png is not None
    assert len(png) < 100_000
    return np.asarray(imread(BytesIO(png)))


def test_awkward_numbers_and_texts_are_drawn() -> None:
    columns: dict[str, list[object]] = {
        "constant": [5] * ROWS,
        "huge": [1e308, -1e308] * (ROWS // 2),
        "neighbours": [1e16, 1e16 + 2] * (ROWS // 2),
        "sparse": [1.0] * 120 + [None] * (ROWS - 120),
        "infinite": [float("inf"), 1.0, 2.0] * (ROWS // 3),
        "$\\frac{1": ["$\\frac{1", "\u202e\x00", "漢字", "😀", "", None] * (ROWS // 6),
        "many": [f"v{i % 25}" for i in range(ROWS)],
    }
    for name, values in columns.items():
        table = pa.table({name: values})
        kind: Kind = "categorical" if isinstance(values[0], str) else "numeric"
        assert pixels(drawn(table, table, {name: kind})).shape == (400, 640, 4)


def test_it_shows_the_difference_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(1)
    before = pa.table({"x": rng.normal(size=ROWS), "c": ["a", "b", "c"] * (ROWS // 3)})
    after = before.set_column(0, "x", pa.array(rng.normal(2, 1, ROWS)))
    kinds: dict[str, Kind] = {"x": "numeric", "c": "categorical"}
    first = drawn(before, after, kinds)
    assert first == drawn(before, after, kinds)
    assert not np.array_equal(pixels(first), pixels(drawn(before, before, kinds)))


def test_nothing_compared_is_no_picture() -> None:
    few = pa.table({"x": [1.0]})
    assert drawn(few, few, {"x": "numeric"}) is None
