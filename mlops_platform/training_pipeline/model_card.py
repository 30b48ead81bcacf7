"""The model card: what a model is, was trained on, is good at and is not for, as Markdown and as one HTML file.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Belongs here: the card's words. Does not belong
here: finding the facts, drawing the plots (`plots.py`), Markdown and HTML (`document.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_platform.training_pipeline.document import (
    Block,
    Code,
    Heading,
    Items,
    Paragraph,
    Pictures,
    Table,
    as_html,
    as_markdown,
)
from mlops_platform.training_pipeline.segments import MIN_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from mlops_platform.contracts.table import Column
    from mlops_platform.training_pipeline.evaluation import AucDifference
    from mlops_platform.training_pipeline.segments import SegmentMetrics

_METRICS = ("roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1", "brier", "log_loss")
_NONE = "–"


class SplitRows(NamedTuple):
    """Rows of one split, and the share of them that churned."""

    split: str
    rows: int
    churn_rate: float


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a card is written from; where a fact is None or empty, the card leaves it out.

    Args:
        name: Name in the registry.
        model_type: Name in `MODEL_TYPES`.
        hyperparameters: Name to value.
        identity: Hash of data, parameters and code.
        run_id: MLflow run that holds the model.
        threshold: A customer is predicted to churn at or above this probability.
        horizon_days: Length of the label window.
        population_days: Customers with a purchase in so many days are scored; None: every customer.
        splits: Rows of train, validation and test.
        metrics: Held-out metrics by the names of `evaluate`, with `{metric}_lower` and `{metric}_upper`.
        baselines: Who else ranks the same rows, such as `churn_score alone`, to the difference in ROC-AUC.
        calibration_error: `ece` of the held-out rows.
        calibration_slope: Slope of the log-odds correction; None: not calibrated.
        segments: Held-out quality by segment.
        features: The features' columns, in the model's order.
        feature_version: Version of their declarations.
        as_of: Last day of data it saw, labels included.
        training_dates: feature_dates of the train and validation rows.
        evaluation_date: feature_date of the test rows.
        snapshots: Table to Iceberg snapshot id.
        version: Version in the registry.
        plots: PNG files by the names of `held_out_plots`, and feature_effects.
    """

    name: str
    model_type: str
    hyperparameters: Mapping[str, Any]
    identity: str
    run_id: str
    threshold: float
    horizon_days: int
    population_days: int | None
    splits: Sequence[SplitRows]
    metrics: Mapping[str, float]
    baselines: Mapping[str, AucDifference]
    calibration_error: float
    calibration_slope: float | None
    segments: Sequence[SegmentMetrics]
    features: Sequence[Column]
    feature_version: str | None = None
    as_of: date | None = None
    training_dates: Sequence[date] = ()
    evaluation_date: date | None = None
    snapshots: Mapping[str, int] = field(default_factory=dict)
    version: str | None = None
    plots: Mapping[str, bytes] = field(default_factory=dict)


def model_card_markdown(facts: ModelFacts) -> str:
    """The card as Markdown; plots are linked as `roc.png` and so on, files beside it."""
    return as_markdown(f"Model card: {facts.name}", _card(facts))


def model_card_html(facts: ModelFacts) -> str:
    """The card as one HTML file with the plots in it."""
    return as_html(f"Model card: {facts.name}", _card(facts))


def _card(facts: ModelFacts) -> Iterator[Block]:
    yield Paragraph(
        f"The chance that a customer makes no purchase in the next {facts.horizon_days} days (churns). A customer is "
        f"predicted to churn at a probability of {facts.threshold:.4f} or more; the threshold was chosen on customers "
        "held back from fitting, never on the test rows."
    )
    yield from _model(facts)
    yield from _data(facts)
    yield from _quality(facts)
    yield from _segments(facts.segments)
    yield from _features(facts)
    yield Heading("Limits")
    yield Items(_limits(facts))
    yield Heading("Roll back and rebuild")
    version = facts.version or "VERSION"
    yield Table(
        ("to", "command"),
        (
            ("put the version before back into Production", Code("mlops models rollback")),
            ("see every decision about the model", Code("mlops models history")),
            ("train it again from the pinned snapshots and compare", Code(f"mlops rebuild {version}")),
            ("see what it was made from", Code(f"mlops lineage {version}")),
        ),
    )


def _model(facts: ModelFacts) -> Iterator[Block]:
    yield Heading("Model")
    known = {
        "version": facts.version,
        "model type": facts.model_type,
        "MLflow run": Code(facts.run_id),
        "identity (data, parameters, code)": Code(facts.identity),
        "feature version": facts.feature_version,
    }
    yield Table(("what", "value"), [(what, value) for what, value in known.items() if value is not None])
    given = [(name, str(value)) for name, value in facts.hyperparameters.items() if value is not None]
    if given:
        yield Table(("hyperparameter", "value"), given)


def _data(facts: ModelFacts) -> Iterator[Block]:
    yield Heading("Data")
    dates = sorted(facts.training_dates)
    window = {
        "label": f"1: no purchase in the {facts.horizon_days} local days after feature_date; 0: at least one",
        "population": _population(facts.population_days),
        "trained on feature_dates": f"{len(dates)}, from {dates[0]} to {dates[-1]}" if dates else None,
        "tested on feature_date": facts.evaluation_date and str(facts.evaluation_date),
        "data up to": facts.as_of and str(facts.as_of),
    }
    window |= {f"snapshot of {table}": str(snapshot) for table, snapshot in facts.snapshots.items()}
    yield Table(("what", "value"), [(what, value) for what, value in window.items() if value])
    rows = [(split, f"{count:,}", f"{rate:.1%}") for split, count, rate in facts.splits]
    yield Table(("split", "rows", "churn rate"), rows, numbers_from=1)


def _population(days: int | None) -> str:
    return "every customer with a purchase" if days is None else f"customers with a purchase in the last {days} days"


def _quality(facts: ModelFacts) -> Iterator[Block]:
    yield Heading("Quality on the test rows")
    rows = [(name, _figure(facts.metrics[name]), _interval(facts.metrics, name)) for name in _METRICS]
    yield Table(("metric", "value", "95 % interval"), rows, numbers_from=1)
    if facts.baselines:
        yield Paragraph("Who else ranks the same customers, and how far the model is ahead in ROC-AUC:")
        rivals = [
            (name, _figure(it.theirs), f"{it.difference:+.4f}", f"{it.lower:+.4f} … {it.upper:+.4f}")
            for name, it in facts.baselines.items()
        ]
        yield Table(("beside", "ROC-AUC", "model ahead by", "95 % interval"), rivals, numbers_from=1)
    yield from _chosen(facts, "roc", "precision_recall", "cumulative_gain", "confusion_matrix")
    yield Heading("Calibration")
    slope = facts.calibration_slope
    yield Paragraph(
        f"Expected calibration error (10 bins) {facts.calibration_error:.4f}: probabilities are off by so much on "
        "average. " + ("Not calibrated." if slope is None else f"Slope of the correction on the log-odds {slope:.3f}.")
    )
    yield from _chosen(facts, "calibration", "score_histogram")


def _segments(segments: Sequence[SegmentMetrics]) -> Iterator[Block]:
    if not segments:
        return
    yield Heading("Quality by segment")
    yield Paragraph(
        f"Segments of fewer than {MIN_ROWS} test rows are not judged. A gap above 0: the model expects more churn than "
        "there was."
    )
    head = ("by", "segment", "rows", "churn rate", "mean probability", "gap", "ROC-AUC")
    yield Table(
        head,
        [
            (
                it.column, it.segment, f"{it.rows:,}",
                _figure(it.churn_rate, ".1%"), _figure(it.mean_probability, ".1%"), _figure(it.calibration_gap, "+.1%"),
                _figure(it.roc_auc),
            )
            for it in segments
        ],
        numbers_from=2,
    )  # fmt: skip


def _features(facts: ModelFacts) -> Iterator[Block]:
    yield Heading("Features")
    yield from _chosen(facts, "feature_effects")
    yield Table(("feature", "meaning"), [(Code(column.name), column.description) for column in facts.features])


def _chosen(facts: ModelFacts, *names: str) -> Iterator[Block]:
    files = {name: facts.plots[name] for name in names if name in facts.plots}
    if files:
        yield Pictures(files)


def _limits(facts: ModelFacts) -> list[str]:
    rate = facts.metrics["churn_rate"]
    outside = (
        "Customers who never bought: the model has seen none."
        if facts.population_days is None
        else f"Customers without a purchase in the last {facts.population_days} days: the model was neither trained "
        "nor tested on them."
    )
    return [
        outside,
        f"Churn means no purchase in {facts.horizon_days} days and nothing else: not a closed account, not a reason.",
        "No causes: what the model goes by, and a customer's score, do not say what an offer or a call would change.",
        f"The churn rate of the test rows was {rate:.1%}. Where it differs, probabilities are off, and the threshold "
        "may no longer be the best.",
        "Quality was measured once, on the test rows. Customers change: drift and matured labels are watched in "
        "monitoring.drift and monitoring.performance; train again when they tell of it.",
        "It orders customers for attention. It is not made for decisions on credit, prices or access, and fairness "
        "between groups was looked at no further than the segments above.",
    ]


def _figure(value: float | None, spec: str = ".4f") -> str:
    return _NONE if value is None else format(value, spec)


def _interval(metrics: Mapping[str, float], name: str) -> str:
    if f"{name}_lower" not in metrics:
        return _NONE
    return f"{metrics[f'{name}_lower']:.4f} … {metrics[f'{name}_upper']:.4f}"
