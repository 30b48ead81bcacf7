"""What the Dagster UI shows of a drift report: a table of the columns, a picture, where the page is.

Belongs here: Dagster's metadata of a report. Does not belong here: the report (`monitoring.tick`).
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.monitoring.inert import printable
from mlops_platform.monitoring.report import ranked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_platform.monitoring.drift import ColumnDrift
    from mlops_platform.monitoring.tick import DriftReport

# The event log keeps them for good; the table monitoring.drift and the page hold every column.
_ROWS = 100
_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("column", "string", description="Feature, or churn_probability"),
        dg.TableColumn("drifted", "string", description="yes, no, or not compared"),
        dg.TableColumn("effect", "string", description="Effect size, 0 (alike) to 1"),
        dg.TableColumn("p_value", "string", description="The test's p-value, before correction"),
        dg.TableColumn("method", "string", description="Statistical test"),
    ]
)


def drift_metadata(report: DriftReport, reports_url: str) -> Mapping[str, Any]:
    """Metadata of the materialization; names of columns are shown as plain text, never as markup.

    Args:
        report: The report.
        reports_url: Where its page is shown: a browser opens no file from a page of Dagster's.
    """
    shown: dict[str, Any] = {
        "report": dg.MetadataValue.url(f"{reports_url}/{report.path.name}"),
        "report_file": dg.MetadataValue.path(str(report.path)),
    }
    if report.picture is not None:
        # Names stand in the picture alone: the text around it is ours, so there is nothing to escape.
        image = f"data:image/png;base64,{b64encode(report.picture).decode()}"
        shown["moved_most"] = dg.MetadataValue.md(f"![Distributions of the columns that moved most]({image})")
    if report.result.problems:
        shown["problems"] = dg.MetadataValue.json([printable(text, 200) for text in report.result.problems[:_ROWS]])
    return {**shown, "columns": dg.MetadataValue.table([_record(c) for c in ranked(report.result)[:_ROWS]], _SCHEMA)}


def _record(column: ColumnDrift) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "column": printable(column.column),
            "drifted": "not compared" if column.p_value is None else "yes" if column.drifted else "no",
            "effect": "" if column.effect is None else f"{column.effect:.3f}",
            "p_value": "" if column.p_value is None else f"{column.p_value:.2g}",
            "method": column.method,
        }
    )
