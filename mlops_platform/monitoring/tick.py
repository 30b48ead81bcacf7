"""The drift report of one tick: decision, check, table rows, HTML page, picture.

Does not belong here: the decision's statistics (`drift.py`), drawing (`report.py`, `picture.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import DRIFT, load_feature_set
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.monitoring.inert import printable
from mlops_platform.storage.audit import CheckOutcome
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import register

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    import pyarrow as pa

    from mlops_platform.monitoring.drift import DriftResult
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot

SCORE = "churn_probability"
# A warning: what drifted was scored and published all the same.
NO_DRIFT_CHECK = "no_drift"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What a tick's drift report consists of.

    Args:
        draft: Rows for monitoring.drift, with the check.
        result: The decision.
        path: The HTML page, written.
        picture: The columns that moved most, a PNG file; None where no column was compared.
    """

    draft: Draft
    result: DriftResult
    path: Path
    picture: bytes | None


def scored_rows(
    settings: Settings, features: TableSnapshot, predictions: TableSnapshot, tick: datetime, names: Sequence[str]
) -> pa.Table:
    """The named features and churn_probability of the customers scored at a tick."""
    cells = ", ".join(f"f.{quoted(name)}" for name in names)
    with session(settings) as duck:
        register(duck, predictions, view="p", where=[Condition("tick", "=", tick)])
        days = [row[0] for row in duck.execute("SELECT DISTINCT feature_date FROM p").fetchall()]
        register(duck, features, view="f", where=[Condition("feature_date", "in", tuple(days))] if days else [])
        return duck.sql(
            f"SELECT {cells}, p.{SCORE} FROM p JOIN f USING (customer_id, feature_date) ORDER BY customer_id"
        ).to_arrow_table()


def drift_report(
    settings: Settings,
    reference: pa.Table,
    current: pa.Table,
    *,
    tick: datetime,
    model_name: str,
    model_version: str,
    created_at: datetime,
) -> DriftReport:
    """Compares a tick's rows with the reference, writes the HTML report, and drafts the table rows.

    Args:
        settings: Threshold, reports folder.
        reference: Rows the model was trained on, with its features and churn_probability.
        current: Rows scored at the tick, with the same columns.
        tick: Start of the 6-hour window.
        model_name: The model whose reference it is.
        model_version: Its version.
        created_at: Instant written to `_created_at`.
    """
    from mlops_platform.monitoring.drift import detect_drift
    from mlops_platform.monitoring.picture import worst_columns_png
    from mlops_platform.monitoring.report import write_drift_report

    known: dict[str, Any] = {**load_feature_set(settings.features_module).kinds, SCORE: "numeric"}
    kinds = {name: known[name] for name in reference.column_names if name in known}
    result = detect_drift(reference, current, columns=kinds, drift_threshold=settings.drift_threshold)
    path = settings.reports / f"drift-{tick.astimezone(settings.zone):%Y%m%dT%H%M}.html"
    write_drift_report(reference, current, result, columns=kinds, path=path)
    draft = drift_draft(result, tick=tick, model_name=model_name, model_version=model_version, created_at=created_at)
    return DriftReport(draft, result, path, worst_columns_png(reference, current, result))


def drift_draft(
    result: DriftResult, *, tick: datetime, model_name: str, model_version: str, created_at: datetime
) -> Draft:
    """A decision as rows of monitoring.drift, with its check; the arguments are those of `drift_report`."""
    import pyarrow as pa

    rows = [
        {
            "tick": tick,
            "column_name": column.column,
            "kind": column.kind,
            "method": column.method,
            "statistic": column.statistic,
            "p_value": column.p_value,
            "effect": column.effect,
            "is_drifted": column.drifted,
            "status": result.status,
            "reference_rows": result.reference_rows,
            "current_rows": result.current_rows,
            "model_name": model_name,
            "model_version": model_version,
            "_created_at": created_at,
        }
        for column in result.columns
    ]
    return Draft(
        DRIFT,
        pa.Table.from_pylist(rows, schema=arrow_schema(DRIFT)),
        scope=(Condition("tick", "=", tick),),
        checks=(no_drift(result),),
        properties={"model-version": model_version},
        figures={"status": result.status, "drifted_columns": len(result.drifted), "drifted": _named(result.drifted)},
    )


def no_drift(result: DriftResult) -> CheckOutcome:
    """The decision as a check: it passes only where every column was compared and none drifted."""
    messages = {
        "ok": "",
        "drift": f"{len(result.drifted)} of {len(result.columns)} columns drifted: {_named(result.drifted)}",
        "insufficient_data": f"can't be told: {_named(result.problems)}",
    }
    return CheckOutcome(
        NO_DRIFT_CHECK,
        passed=result.status == "ok",
        message=messages[result.status],
        is_blocking=False,
        figures={
            "drifted_columns": len(result.drifted),
            "problems": len(result.problems),
            "reference_rows": result.reference_rows,
            "current_rows": result.current_rows,
        },
    )


def _named(texts: Sequence[str]) -> str:
    """The first few, as text to show; `none` where there are none."""
    more = len(texts) - _NAMED
    shown = [printable(text, 200) for text in texts[:_NAMED]]
    return ", ".join([*shown, *([f"and {more} more"] if more > 0 else [])]) or "none"
