"""Metrics by segment against the rows picked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_platform.training_pipeline.evaluation import evaluate
from mlops_platform.training_pipeline.segments import MAX_SEGMENTS, MIN_ROWS, metrics_by_segment


def scored(rows: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(2)
    probabilities = draw.random(rows)
    return (draw.random(rows) < probabilities).astype(int), probabilities


def test_a_segments_metrics_are_those_of_its_rows() -> None:
    labels, probabilities = scored(400)
    segment = np.where(np.arange(400) % 4 == 0, "premium", "bronze")
    largest, smallest = metrics_by_segment(pa.table({"customer_segment": segment}), labels, probabilities)
    assert (largest.column, largest.segment, largest.rows) == ("customer_segment", "bronze", 300)
    assert (smallest.segment, smallest.rows) == ("premium", 100)
    premium = segment == "premium"
    assert smallest.roc_auc == evaluate(labels[premium], probabilities[premium], 0.5).roc_auc
    assert smallest.churn_rate == labels[premium].mean()
    assert smallest.calibration_gap == pytest.approx(probabilities[premium].mean() - labels[premium].mean())


def test_tenure_bands_hold_their_lower_edge() -> None:
    days = pa.array([0, 89, 90, 364, 365, 729, 730, 5000, None])
    found = metrics_by_segment(pa.table({"tenure_days": days}), *scored(9))
    assert [(it.column, it.segment, it.rows) for it in found] == [
        ("tenure", "under 90 days", 2),
        ("tenure", "90 to 364 days", 2),
        ("tenure", "365 to 729 days", 2),
        ("tenure", "730 days and more", 2),
        ("tenure", "unknown", 1),
    ]


def test_a_small_segment_is_not_judged() -> None:
    rows = pa.table({"country": ["DE"] * MIN_ROWS + ["FR"] * (MIN_ROWS - 1)})
    enough, few = metrics_by_segment(rows, *scored(2 * MIN_ROWS - 1))
    assert enough.roc_auc is not None
    assert (few.rows, few.churn_rate, few.mean_probability, few.roc_auc, few.calibration_gap) == (49, *[None] * 4)


def test_one_class_has_no_roc_auc() -> None:
    (found,) = metrics_by_segment(pa.table({"country": ["DE"] * 60}), np.ones(60, dtype=int), scored(60)[1])
    assert (found.churn_rate, found.roc_auc) == (1.0, None)


def test_a_missing_country_is_unknown_and_missing_columns_are_left_out() -> None:
    found = metrics_by_segment(pa.table({"country": pa.array([None, "DE", None])}), *scored(3))
    assert [(it.column, it.segment, it.rows) for it in found] == [("country", "unknown", 2), ("country", "DE", 1)]
    nothing_known = pa.table({"country": pa.array([None] * 3, pa.string())})
    assert [it.segment for it in metrics_by_segment(nothing_known, *scored(3))] == ["unknown"]
    assert metrics_by_segment(pa.table({"churn_score": [0.1, 0.2, 0.3]}), *scored(3)) == ()


def test_the_smallest_of_many_values_count_together() -> None:
    countries = [f"c{number:02}" for number in range(MAX_SEGMENTS + 3) for _ in range(60 - number)]
    found = metrics_by_segment(pa.table({"country": countries}), *scored(len(countries)))
    assert [it.segment for it in found] == [*(f"c{number:02}" for number in range(MAX_SEGMENTS)), "3 others"]
    assert sum(it.rows for it in found) == len(countries)
