"""A small picture of the columns that moved most, for the Dagster UI.

Belongs here: drawing it. Does not belong here: which columns drifted (`drift.py`), the whole report (`report.py`), of
whose sample this shows the same rows.
"""

from __future__ import annotations

import warnings
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops_platform.monitoring.inert import printable
from mlops_platform.monitoring.report import LARGEST_DRAWN, compared, sampled
from mlops_platform.monitoring.two_samples import read_categories, read_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlops_platform.monitoring.drift import ColumnDrift, DriftResult

_PANELS = 4
_BINS = 25
_CATEGORIES = 8
_NAME_CHARACTERS, _VALUE_CHARACTERS = 32, 14
# Colours of Okabe & Ito, which colour-blind readers tell apart.
_REFERENCE, _CURRENT = "#777777", "#D55E00"
# The tails of a skewed column would press everything else into one bar.
_SHOWN_QUANTILES = (0.005, 0.995)


def worst_columns_png(reference: pa.Table, current: pa.Table, result: DriftResult) -> bytes | None:
    """Shares of the values of up to four columns, drifted ones and large effects first.

    Args:
        reference: The rows `result` was decided on.
        current: The same.
        result: The decision.

    Returns:
        A PNG file of about 30 KB; None where no column was compared.
    """
    columns = compared(result)[:_PANELS]
    if not columns:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sides = sampled(reference, current, [column.column for column in columns])
    figure = Figure(figsize=(8.0, 5.0), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, column in zip(figure.subplots(2, 2).flat, columns, strict=False):
        draw = _numbers if column.kind == "numeric" else _categories
        draw(axes, *(side[column.column] for side in sides))
        _title(axes, column)
    for axes in figure.axes[len(columns) :]:
        axes.set_axis_off()
    figure.axes[0].legend(frameon=False, fontsize=8)
    buffer = BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _title(axes: Axes, column: ColumnDrift) -> None:
    verdict = "drifted" if column.drifted else "no drift"
    text = f"{printable(column.column, _NAME_CHARACTERS)}\neffect {column.effect:.2f}, {verdict}"
    # A name with dollar signs is no formula.
    axes.set_title(text, fontsize=9, loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _numbers(axes: Axes, reference: pa.ChunkedArray, current: pa.ChunkedArray) -> None:
    import numpy as np

    sides = [
        np.clip(read_numbers(side).drop_null().to_numpy(), -LARGEST_DRAWN, LARGEST_DRAWN)
        for side in (reference, current)
    ]
    pooled = np.concatenate(sides)
    low, high = np.quantile(pooled, _SHOWN_QUANTILES) if pooled.size else (0.0, 1.0)
    # One value, or neighbouring doubles that no bins fit between.
    if high - low <= max(abs(low), abs(high)) * 1e-10:
        low, high = low - max(abs(low) * 1e-3, 0.5), high + max(abs(high) * 1e-3, 0.5)
    edges = np.linspace(low, high, _BINS + 1)
    for values, colour, name in zip(sides, (_REFERENCE, _CURRENT), ("reference", "current"), strict=True):
        counts, _ = np.histogram(np.clip(values, low, high), edges)
        axes.stairs(counts / max(len(values), 1), edges, color=colour, fill=name == "reference", alpha=0.8, label=name)


def _categories(axes: Axes, reference: pa.ChunkedArray, current: pa.ChunkedArray) -> None:
    import numpy as np

    sides = [Counter(read_categories(side).cast(pa.string()).drop_null().to_pylist()) for side in (reference, current)]
    totals: Counter[Any] = sides[0] + sides[1]
    # Ties by code point, so that the same rows always draw the same picture.
    shown = sorted(totals, key=lambda value: (-totals[value], value))[:_CATEGORIES]
    places = np.arange(len(shown))
    for offset, (side, colour, name) in enumerate(
        zip(sides, (_REFERENCE, _CURRENT), ("reference", "current"), strict=True)
    ):
        shares = [side[value] / max(side.total(), 1) for value in shown]
        axes.barh(places + 0.4 * offset, shares, height=0.4, color=colour, alpha=0.8, label=name)
    labels = [printable(value, _VALUE_CHARACTERS) for value in shown]
    axes.set_yticks(places + 0.2, labels, parse_math=False)
    axes.invert_yaxis()
