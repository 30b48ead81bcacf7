"""What the Dagster UI is given of a drift report, and plain text where it takes Markdown.

Does not belong here: how the UI draws it (`integration/test_hostile_drift.py`).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from mlops_platform.monitoring.drift import Kind, detect_drift
from mlops_platform.monitoring.picture import worst_columns_png
from mlops_platform.monitoring.tick import DriftReport, drift_draft
from mlops_platform.orchestration.drift_shown import drift_metadata
from mlops_platform.orchestration.markdown import plain, text_of

AT = datetime(2024, 7, 1, tzinfo=UTC)
URL = "http://127.0.0.1:9101/reports"


def report(columns: Mapping[str, Kind]) -> DriftReport:
    rng = np.random.default_rng(1)
    before, after = (
        pa.table({name: rng.normal(at if name == "moved" else 0, 1, 200) for name in columns}) for at in (0, 1)
    )
    result = detect_drift(before, after.drop_columns(["gone"]) if "gone" in columns else after, columns=columns)
    draft = drift_draft(result, tick=AT, model_name="churn", model_version="1", created_at=AT)
    picture = worst_columns_png(before, after, result)
    return DriftReport(draft, result, Path("/reports/drift.html"), picture)


def test_a_table_a_picture_and_where_the_page_is() -> None:
    shown = drift_metadata(report({"steady": "numeric", "moved": "numeric", "gone": "numeric"}), URL)
    assert list(shown) == ["report", "report_file", "moved_most", "problems", "columns"]
    assert shown["report"] == dg.MetadataValue.url("http://127.0.0.1:9101/reports/drift.html")
    assert shown["report_file"] == dg.MetadataValue.path("/reports/drift.html")
    records = [record.data for record in shown["columns"].records]
    assert [(record["column"], record["drifted"]) for record in records] == [
        ("moved", "yes"), ("steady", "no"), ("gone", "not compared"),
    ]  # fmt: skip
    assert shown["problems"].value == ["column 'gone': missing in current"]
    text = shown["moved_most"].value
    head, _, encoded = text.rstrip(")").partition("(data:image/png;base64,")
    assert head == "![Distributions of the columns that moved most]"
    assert b64decode(encoded).startswith(b"\x89PNG")
    assert len(text) < 100_000


def test_hundreds_of_columns_are_cut_to_what_an_event_may_hold() -> None:
    shown = drift_metadata(report({f"x{n}": "numeric" for n in range(150)} | {"moved": "numeric"}), URL)
    records = [record.data["column"] for record in shown["columns"].records]
    assert (len(records), records[0]) == (100, "moved")


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("3 of 40 columns drifted: tenure_days, 20.0%", "3 of 40 columns drifted: tenure_days, 20.0%"),
        ("<b>x</b> & y", r"\<b\>x\</b\> \& y"),
        ("[x](javascript:y) ![x](y)", r"\[x\](javascript:y) !\[x\](y)"),
        ("*a* _b_ `c` ~d~ |e| $f$", r"\*a\* \_b\_ \`c\` \~d\~ \|e\| \$f\$"),
        ("\\[x]", r"\\\[x\]"),
        ("https://x.y www.x.y a@b.c", r"https\://x.y www\.x.y a\@b.c"),
    ],
)
def test_text_in_markdown_starts_nothing(text: str, markdown: str) -> None:
    assert plain(text) == markdown
    assert text_of(markdown) == text
