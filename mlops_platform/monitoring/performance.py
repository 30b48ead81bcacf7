"""Performance of predictions: measured once their labels have matured, and until then estimated.

A label of feature_date D has matured when D + horizon ≤ as_of, the last complete local day that silver has reached:
before, customers would count as churned whose purchases were not ingested yet. Does not belong here: drift, how rows
are read (`performance_outcomes.py`) and figures computed (`performance_figures.py`).
"""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import PERFORMANCE
from mlops_platform.contracts.ml import ALL_SEGMENTS, BATCH, ONLINE
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.monitoring.performance_figures import figures, sums
from mlops_platform.monitoring.performance_outcomes import Tables, label, name_customers, open_customers, scored
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import session
from mlops_platform.storage.publish import Draft

if TYPE_CHECKING:
    from datetime import date, datetime

    from duckdb import DuckDBPyConnection

    from mlops_platform.settings import Settings

__all__ = ["Tables", "performance_report"]


def performance_report(
    settings: Settings, tables: Tables, *, first: date, last: date, as_of: date, created_at: datetime
) -> Draft:
    """Metrics of the predictions that the report dates from `first` to `last` are about.

    Report date R is about feature_date R − horizon, whose labels end that day; about R − 1 and R, the predictions of
    the last day, which are estimated; and about whatever was estimated earlier and has matured by now. A customer
    predicted several times for a feature_date counts once for each source and model version, with the last prediction.

    Args:
        settings: Horizon, time zone, memory, key of the customers' hashes.
        tables: What is read.
        first: First report date.
        last: Last report date.
        as_of: Last complete local day; labels reach no further than silver's last day with a transaction, either.
        created_at: Instant written to `_created_at`.

    Returns:
        A draft with, for every feature_date that has predictions, a row for each model version, source and segment.
    """
    import pyarrow as pa

    # In UTC: once pandera.ibis is imported, PyArrow 25 takes no account of a datetime's offset.
    written = created_at.astimezone(UTC)
    with session(settings) as duck:
        reached = open_customers(duck, tables)
        known_until = min(reached, as_of) if reached is not None else None
        days = _feature_dates(settings, tables, first, last, known_until)
        name_customers(duck, settings, tables, sorted(days))
        rows = [
            {**row, "_created_at": written}
            for day, is_estimate in sorted(days.items())
            for source in (BATCH, ONLINE)
            for row in _rows(duck, settings, tables, source, day, is_estimate=is_estimate)
        ]
    everyone = [row for row in rows if row["segment"] == ALL_SEGMENTS]
    return Draft(
        PERFORMANCE,
        pa.Table.from_pylist([row for row in rows if row["rows"]], schema=arrow_schema(PERFORMANCE)),
        scope=(Condition("feature_date", "in", tuple(sorted(days))),),
        figures={
            "report_dates": (last - first).days + 1,
            "predictions": sum(row["rows"] for row in everyone if not row["is_estimate"]),
            "estimated_predictions": sum(row["rows"] for row in everyone if row["is_estimate"]),
            "predictions_without_customer": sum(row["rows_without_customer"] for row in everyone),
            "labels_known_until": known_until.isoformat() if known_until is not None else "",
        },
    )


def _rows(
    duck: DuckDBPyConnection, settings: Settings, tables: Tables, source: str, day: date, *, is_estimate: bool
) -> list[dict[str, Any]]:
    """A row for each model version and segment; with none left to report on, one that only counts who was left out."""
    without = scored(duck, settings, tables, source, day)
    if not without:
        return []
    judged = "(FROM latest WHERE is_known)" if is_estimate else label(duck, settings, tables, source, day)
    found = {
        (name, version, segment): figures(each, is_estimate=is_estimate)
        for name, version, segment, each in sums(duck, judged, is_estimate=is_estimate)
    }
    nobody = {(*model, ALL_SEGMENTS): {"rows": 0} for model in without}
    return [
        {
            "report_date": day + timedelta(days=settings.horizon_days),
            "feature_date": day,
            "model_name": name,
            "model_version": version,
            "source": source,
            "segment": segment,
            "is_estimate": is_estimate,
            "rows_without_customer": without[name, version] if segment == ALL_SEGMENTS else None,
            **cells,
        }
        for (name, version, segment), cells in (nobody | found).items()
    ]


def _feature_dates(
    settings: Settings, tables: Tables, first: date, last: date, known_until: date | None
) -> dict[date, bool]:
    """The feature_dates to report on, and whether each has to be estimated."""
    horizon = timedelta(days=settings.horizon_days)

    def span(start: date, end: date) -> list[date]:
        return [start + timedelta(days=number) for number in range((end - start).days + 1)]

    def is_matured(day: date) -> bool:
        return known_until is not None and day + horizon <= known_until

    with tables.reported.relation(("feature_date", "is_estimate")) as (duck, view):
        estimated = duck.execute(f"SELECT DISTINCT feature_date FROM {view} WHERE is_estimate").fetchall()
    due = [day for (day,) in estimated if is_matured(day)]
    # A day that has matured since belongs to another report date: its measured rows stay.
    fresh = [day for day in span(first - timedelta(days=1), last) if not is_matured(day)]
    return {day: not is_matured(day) for day in (*span(first - horizon, last - horizon), *fresh, *due)}
