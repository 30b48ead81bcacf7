"""The card says every fact it was given, in both forms, and leaves out what is not known."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import date

import pytest

from mlops_platform.contracts import load_feature_set
from mlops_platform.training_pipeline.evaluation import AucDifference
from mlops_platform.training_pipeline.model_card import ModelFacts, SplitRows, model_card_html, model_card_markdown
from mlops_platform.training_pipeline.segments import SegmentMetrics

METRICS = ("roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1", "brier", "log_loss")

FACTS = ModelFacts(
    name="customer_churn_model",
    model_type="xgboost",
    hyperparameters={"max_depth": 3, "gamma": None},
    identity="1d3n717y",
    run_id="7a11run",
    threshold=0.4321,
    horizon_days=60,
    population_days=400,
    splits=[SplitRows("train", 12345, 0.471), SplitRows("test", 678, 0.523)],
    metrics=dict.fromkeys(METRICS, 0.8) | {"churn_rate": 0.523, "roc_auc_lower": 0.7654, "roc_auc_upper": 0.8765},
    baselines={"churn_score alone": AucDifference(0.8, 0.7512, -0.0123, 0.0987)},
    calibration_error=0.0271,
    calibration_slope=0.914,
    segments=[
        SegmentMetrics("tenure", "under 90 days", 600, 0.5, 0.461, 0.7171),
        SegmentMetrics("country", "LU", 16),
    ],
    features=load_feature_set(None).columns,
    feature_version="v1.0",
    as_of=date(2024, 6, 30),
    training_dates=[date(2024, 1, 2), date(2023, 12, 3)],
    evaluation_date=date(2024, 5, 1),
    snapshots={"ml.training_set": 8012345678901234567},
    version="7",
    plots={"roc": b"\x89PNG", "feature_effects": b"\x89PNG2"},
)

SAID = [
    "Model card: customer_churn_model",
    "no purchase in the next 60 days",
    "0.4321",
    "1d3n717y",
    "7a11run",
    "v1.0",
    "2, from 2023-12-03 to 2024-01-02",
    "2024-05-01",
    "2024-06-30",
    "8012345678901234567",
    "customers with a purchase in the last 400 days",
    "12,345",
    "47.1%",
    "0.7654 … 0.8765",
    "0.7512",
    "+0.0488",
    "-0.0123 … +0.0987",
    "0.0271",
    "0.914",
    "under 90 days",
    "-3.9%",
    "0.7171",
    "Days since the last purchase",
    "without a purchase in the last 400 days",
    "No causes",
    "churn rate of the test rows was 52.3%",
    "mlops models rollback",
    "mlops rebuild 7",
]


def words(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize("fact", SAID)
def test_both_forms_say_it(fact: str) -> None:
    assert fact in model_card_markdown(FACTS)
    assert fact in words(model_card_html(FACTS))


def test_every_feature_has_its_meaning() -> None:
    text = words(model_card_html(FACTS))
    for column in FACTS.features:
        assert column.name in text
        assert column.description in text


def test_a_small_segment_is_shown_without_figures() -> None:
    assert "| country | LU | 16 | – | – | – | – |" in model_card_markdown(FACTS)


def test_plots_are_linked_in_markdown_and_held_in_html() -> None:
    assert "![roc](roc.png)" in model_card_markdown(FACTS)
    assert "![feature effects](feature_effects.png)" in model_card_markdown(FACTS)
    assert model_card_html(FACTS).count('src="data:image/png;base64,') == 2


def test_what_is_not_known_is_left_out() -> None:
    bare = replace(
        FACTS, version=None, feature_version=None, as_of=None, training_dates=(), evaluation_date=None, snapshots={},
        segments=(), baselines={}, plots={}, population_days=None, calibration_slope=None,
        metrics=dict.fromkeys(METRICS, 0.8) | {"churn_rate": 0.5},
    )  # fmt: skip
    for text in (model_card_markdown(bare), model_card_html(bare)):
        assert "None" not in text
        assert "Quality by segment" not in text
        assert "png" not in text
        assert "mlops rebuild VERSION" in text
        assert "Not calibrated." in text
        assert "every customer with a purchase" in text
        assert "0.8000" in text


def test_a_hyperparameter_that_was_not_given_is_left_out() -> None:
    assert "| max_depth | 3 |" in model_card_markdown(FACTS)
    assert "gamma" not in model_card_markdown(FACTS)


def test_a_hostile_name_stays_text() -> None:
    hostile = replace(FACTS, name="<img src=x onerror=alert(1)>", hyperparameters={"<b>": "a|b\n# c"})
    assert "<img src=x" not in model_card_html(hostile) + model_card_markdown(hostile)
    assert r"| &lt;b&gt; | a\|b \# c |" in model_card_markdown(hostile)
