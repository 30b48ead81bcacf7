"""Load: features as a draft of feature_store.customer_features, replacing exactly the feature_dates they cover.

Does not belong here: computing them (`compute.py`), which feature_dates are due (`freshness.py`).
"""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.compute import feature_batches
from mlops_platform.feature_pipeline.extract import require_purchases
from mlops_platform.feature_pipeline.freshness import made_from
from mlops_platform.feature_pipeline.record import require_recorded
from mlops_platform.feature_pipeline.spark_session import is_on_iceberg
from mlops_platform.feature_pipeline.spark_write import staged_by_spark
from mlops_platform.storage.conditions import Condition, day_range
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.rows import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date, datetime

    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.storage.rows import Rows

_VERSION = "feature-version"


def days_between(first: date, last: date) -> list[date]:
    """Every feature_date from `first` to `last`.

    Raises:
        InputError: `last` is before `first`.
    """
    if last < first:
        raise InputError(f"the feature_dates {first} to {last} are no range", expected="the first day before the last")
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def features_draft(
    lake: Lake,
    transactions: TableSnapshot,
    feature_dates: Sequence[date],
    *,
    created_at: datetime,
    only: Sequence[str] = (),
    note: Callable[[str], None] | None = None,
) -> Draft:
    """The features of some feature_dates, ready to be audited and published.

    Args:
        lake: The home's tables.
        transactions: Snapshot of silver.transactions.
        feature_dates: The days.
        created_at: Instant written to `_created_at`.
        only: Features to compute; the others stay as the table holds them. Empty: all.
        note: Is told of each feature_date that is computed.

    Raises:
        InputError: The declarations are not the recorded ones, or `only` names an unknown feature.
        NotEnoughDataError: No purchase on or before the last feature_date.
    """
    features = lake.features
    require_recorded(features)
    require_known(only, features.names)
    contract, days = features.customer_features, sorted(set(feature_dates))
    require_purchases(transactions, days[-1])
    held = lake.snapshot(contract)
    if lake.settings.engine == "spark" and is_on_iceberg(lake.settings) and not only:
        rows: Rows = staged_by_spark(lake.settings, transactions, days, features, created_at=created_at, note=note)
    else:
        batches = feature_batches(
            lake.settings,
            transactions,
            days,
            created_at=created_at,
            only=only,
            held=held if only else None,
            note=note,
        )
        rows = gather(lake.settings, contract, batches)
    return Draft(
        contract,
        rows,
        scope=_scope(days),
        properties={
            _VERSION: features.version,
            "feature-dates": f"{days[0]}/{days[-1]}",
            "silver-snapshot-id": str(transactions.snapshot_id),
        },
        # The other features are from where they were.
        marks={} if only else made_from(lake, contract, transactions, days),
        figures={"feature_dates": len(days), "customers": rows.num_rows},
        based_on=held.snapshot_id if only else "any",
    )


def unchanged_draft(lake: Lake, transactions: TableSnapshot, feature_dates: Sequence[date]) -> Draft:
    """No row, but the mark that these feature_dates are as this snapshot of silver.transactions makes them."""
    contract = lake.features.customer_features
    properties = lake.properties(contract)
    return Draft(
        contract,
        arrow_schema(contract).empty_table(),
        scope=(Condition("feature_date", "in", ()),),
        properties={_VERSION: properties[_VERSION]} if _VERSION in properties else {},
        marks=made_from(lake, contract, transactions, feature_dates),
    )


def require_known(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuses features that nobody declared.

    Raises:
        InputError: A name is unknown.
    """
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known)) or "one of those of `mlops features list`"
            raise InputError(f"there is no feature {name}", expected=near)


def _scope(days: Sequence[date]) -> tuple[Condition, ...]:
    if len(days) == (days[-1] - days[0]).days + 1:
        return day_range("feature_date", days[0], days[-1])
    return (Condition("feature_date", "in", (*days,)),)
