"""Plots of a held-out evaluation, as PNG bytes by name.

Belongs here: drawing. Does not belong here: what is drawn (`intervals.py`, `shap_summary.py`), or where the files go.
Every figure is an object of its own: pyplot's global state, which keeps each figure alive, is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from mlops_platform.training_pipeline.intervals import ece, reliability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from mlops_platform.training_pipeline.shap_summary import FeatureEffects

    Floats = NDArray[Any]

CURVE_POINTS = 1000
# The first is the model's, the others are baselines'. Colours of Okabe & Ito, which colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
_STAYED, _CHURNED, _GREY = "#0072B2", "#D55E00", "#777777"
_SHOWN_FEATURES = 20


def held_out_plots(
    labels: Floats,
    probabilities: Floats,
    threshold: float,
    baselines: Mapping[str, Floats] | None = None,
    *,
    subtitle: str,
) -> dict[str, bytes]:
    """Every plot of a model on labelled rows.

    Args:
        labels: 0 or 1, shape (n,), both present.
        probabilities: Probability of 1, shape (n,).
        threshold: A row is predicted 1 at or above it.
        baselines: Name to scores, shape (n,); larger means churned. They stand beside the model wherever the order of
            the rows is what counts.
        subtitle: What the rows are, such as `held-out customers at 2024-04-01`; their number is added.

    Returns:
        roc, precision_recall, cumulative_gain, calibration, confusion_matrix, score_histogram: PNG files.
    """
    below = f"{subtitle}, n = {len(labels):,}"
    curves = {"model": curve(labels, probabilities)}
    curves |= {name: curve(labels, scores) for name, scores in (baselines or {}).items()}
    return {
        "roc": _roc(curves, below),
        "precision_recall": _precision_recall(curves, below),
        "cumulative_gain": _cumulative_gain(curves, below),
        "calibration": _calibration(labels, probabilities, below),
        "confusion_matrix": _confusion_matrix(labels, probabilities, threshold, below),
        "score_histogram": _score_histogram(labels, probabilities, threshold, below),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What a threshold that sinks from the highest score to the lowest takes in, at up to 1,000 of its stops.

    Args:
        taken: Rows at or above the threshold, shape (p,), from 0 to n.
        hits: Those of them that churned, shape (p,).
        roc_auc: Of all stops.
        pr_auc: Average precision of all stops.
    """

    taken: Floats
    hits: Floats
    roc_auc: float
    pr_auc: float

    @property
    def recall(self) -> Floats:
        """Share of the churned rows taken in, shape (p,)."""
        return _share(self.hits)

    @property
    def false_positive_rate(self) -> Floats:
        """Share of the rows that stayed taken in, shape (p,)."""
        return _share(self.taken - self.hits)


def _share(counts: Floats) -> Floats:
    shares: Floats = counts / counts[-1]
    return shares


def curve(labels: Floats, scores: Floats) -> Curve:
    """The curve that ROC, precision and recall, and gain are read from.

    Args:
        labels: 0 or 1, shape (n,), both present.
        scores: Larger means churned, shape (n,).
    """
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    last_of_score = np.flatnonzero(np.r_[descending[1:] != descending[:-1], True])
    taken = np.r_[0, last_of_score + 1]
    hits = np.r_[0, np.cumsum(labels[order])[last_of_score]]
    misses, churned = taken - hits, hits[-1]
    found = np.diff(hits)
    roc_auc = float((np.diff(misses) * (hits[1:] + hits[:-1])).sum() / 2 / churned / misses[-1])
    pr_auc = float((found * hits[1:] / taken[1:]).sum() / churned)
    kept = np.unique(np.linspace(0, len(taken) - 1, CURVE_POINTS).round().astype(int))
    return Curve(taken[kept], hits[kept], roc_auc, pr_auc)


def _roc(curves: Mapping[str, Curve], below: str) -> bytes:
    figure, axes = _figure("ROC", below)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="random order (AUC 0.500)")
    for (name, found), look in zip(curves.items(), _looks(len(curves)), strict=True):
        axes.plot(found.false_positive_rate, found.recall, label=f"{name} (AUC {found.roc_auc:.3f})", **look)
    _shares(axes, x="false positive rate: share of the stayed flagged", y="recall: share of the churned flagged")
    _legend(axes, "lower right")
    return _png(figure)


def _precision_recall(curves: Mapping[str, Curve], below: str) -> bytes:
    figure, axes = _figure("Precision and recall", below)
    first = next(iter(curves.values()))
    rate = first.hits[-1] / first.taken[-1]
    axes.axhline(rate, color=_GREY, linestyle=":", linewidth=1, label=f"random order ({rate:.3f}, the churn rate)")
    for (name, found), look in zip(curves.items(), _looks(len(curves)), strict=True):
        precision = found.hits[1:] / found.taken[1:]
        label = f"{name} (average precision {found.pr_auc:.3f})"
        # Steps, as the average precision adds them up: between two scores there is no precision.
        axes.plot(found.recall[1:], precision, drawstyle="steps-pre", label=label, **look)
    _shares(axes, x="recall: share of the churned flagged", y="precision: share of the flagged that churned")
    _legend(axes, "lower left")
    return _png(figure)


def _cumulative_gain(curves: Mapping[str, Curve], below: str) -> bytes:
    figure, axes = _figure("Cumulative gain", below)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="random order")
    first = next(iter(curves.values()))
    rate = first.hits[-1] / first.taken[-1]
    axes.plot([0, rate, 1], [0, 1, 1], color=_GREY, linestyle="--", linewidth=1, label="best possible")
    for (name, found), look in zip(curves.items(), _looks(len(curves)), strict=True):
        axes.plot(_share(found.taken), found.recall, label=name, **look)
    _shares(axes, x="share of the customers contacted, highest score first", y="share of the churned among them")
    _legend(axes, "lower right")
    return _png(figure)


def _calibration(labels: Floats, probabilities: Floats, below: str) -> bytes:
    found = reliability(labels, probabilities)
    figure, (axes, counts) = _figure("Calibration", below, heights=(3, 1))
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="perfect")
    label = f"model (calibration error {ece(labels, probabilities):.3f})"
    axes.plot(found.mean_probability, found.churn_rate, marker="o", markersize=5, color=_COLOURS[0], label=label)
    _shares(axes, x="", y="churn rate seen")
    axes.tick_params(labelbottom=False)
    _legend(axes, "upper left")
    counts.bar(found.mean_probability, found.rows, width=0.05, color=_COLOURS[0])
    for place, rows in zip(found.mean_probability, found.rows, strict=True):
        counts.annotate(f"{rows:,}", (place, rows), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    counts.set(xlim=(-0.02, 1.02), ylim=(0, found.rows.max() * 1.25), ylabel="rows")
    counts.set_xlabel("mean predicted probability of ten bins")
    return _png(figure)


def _confusion_matrix(labels: Floats, probabilities: Floats, threshold: float, below: str) -> bytes:
    import numpy as np

    flagged = (probabilities >= threshold).astype(int)
    counts = np.bincount(2 * labels.astype(int) + flagged, minlength=4).reshape(2, 2)
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure, axes = _figure(f"Confusion matrix at threshold {threshold:.3f}", below)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]:,}\n{share:.1%} of the {'churned' if row else 'stayed'}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.6 else "black")
    axes.set(xticks=[0, 1], yticks=[0, 1], xlabel="predicted", ylabel="what happened")
    axes.set_xticklabels(["stays", "churns"])
    axes.set_yticklabels(["stayed", "churned"])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return _png(figure)


def _score_histogram(labels: Floats, probabilities: Floats, threshold: float, below: str) -> bytes:
    import numpy as np

    figure, axes = _figure("Predicted probabilities by what happened", below)
    edges = np.linspace(0, 1, 41)
    for label, name, colour in ((0, "stayed", _STAYED), (1, "churned", _CHURNED)):
        rows, _ = np.histogram(probabilities[labels == label], edges)
        axes.stairs(rows, edges, fill=True, color=colour, alpha=0.45, label=f"{name} ({rows.sum():,})")
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3f}")
    axes.set(xlim=(0, 1), xlabel="predicted probability of churning", ylabel="rows")
    _legend(axes, "best")
    return _png(figure)


def effects_plot(effects: FeatureEffects, *, subtitle: str) -> bytes:
    """The features that matter most to a model, most important first, as a PNG file.

    Args:
        effects: Of the model.
        subtitle: What the rows are, such as `held-out customers at 2024-04-01`; their number is added.
    """
    shown = effects.ranked()[:_SHOWN_FEATURES]
    has_directions = any(each.direction for each in shown)
    figure, axes = _figure(
        "What the model goes by", f"{subtitle}, n = {effects.rows:,}", height=1.6 + 0.24 * len(shown)
    )
    colours = {"up": _CHURNED, "down": _STAYED, None: _GREY}
    names = {
        "up": "a higher value: more churn",
        "down": "a higher value: less churn",
        None: "a category, or no one way",
    }
    for direction, colour in colours.items():
        bars = [(place, each.importance) for place, each in enumerate(shown) if each.direction == direction]
        if bars:
            label = names[direction] if has_directions else None
            axes.barh([place for place, _ in bars], [size for _, size in bars], color=colour, label=label)
    axes.set_yticks(range(len(shown)), [each.feature for each in shown], fontsize=8, parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(effects.measure)
    axes.grid(visible=False, axis="y")
    if has_directions:
        _legend(axes, "lower right")
    return _png(figure)


def _figure(title: str, below: str, *, heights: tuple[int, ...] = (1,), height: float = 4.8) -> tuple[Figure, Any]:
    """A figure with its titles, and its axes: one, or one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for each in axes:
        each.grid(color="#dddddd", linewidth=0.6)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=8)
        each.xaxis.label.set_size(9)
        each.yaxis.label.set_size(9)
    # A dollar sign in a name is no formula.
    axes[0].set_title(f"{title}\n", loc="left", fontsize=12, fontweight="bold", parse_math=False)
    axes[0].text(0, 1.025, below, transform=axes[0].transAxes, fontsize=9, color=_GREY, parse_math=False)
    return figure, axes[0] if len(heights) == 1 else axes


def _looks(curves: int) -> list[dict[str, Any]]:
    """The model's line lies on top, and is thicker than the baselines'."""
    return [
        {
            "color": _COLOURS[place % len(_COLOURS)],
            "linewidth": 1.2 if place else 2.0,
            "zorder": 3 if place else 4,
        }
        for place in range(curves)
    ]


def _shares(axes: Axes, *, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)


def _legend(axes: Axes, place: Literal["best", "lower left", "lower right", "upper left"]) -> None:
    axes.legend(loc=place, fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    # Without the version of matplotlib in it: equal figures are equal files.
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return file.getvalue()
