"""Load: features as a draft of feature_store.customer_features, replacing exactly the feature_dates they cover.

Does not belong here: computing them (`extract.py`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mlops_platform.contracts import CUSTOMER_FEATURES
from mlops_platform.contracts.features import FEATURE_VERSION
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.feature_pipeline.extract import compute_features
from mlops_platform.storage.conditions import day_range
from mlops_platform.storage.publish import Draft

if TYPE_CHECKING:
    from datetime import date, datetime

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot


def features_draft(
    settings: Settings, transactions: TableSnapshot, first: date, last: date, *, created_at: datetime
) -> Draft:
    """The features of every feature_date from `first` to `last`, ready to be audited and published.

    Raises:
        InputError: `last` is before `first`.
        NotEnoughDataError: No purchase on or before `last`.
    """
    if last < first:
        raise InputError(f"the feature_dates {first} to {last} are no range", expected="the first day before the last")
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    rows = compute_features(settings, transactions, days, created_at=created_at)
    if not rows.num_rows:
        raise NotEnoughDataError(
            f"there is no purchase on or before feature_date {last}",
            expected="a feature_date inside the CRM's history",
            hint='see its span with: mlops query "SELECT min(transaction_date) FROM silver.transactions"',
        )
    return Draft(
        CUSTOMER_FEATURES,
        rows,
        scope=day_range("feature_date", first, last),
        properties={
            "feature-version": FEATURE_VERSION,
            "feature-dates": f"{first}/{last}",
            "silver-snapshot-id": str(transactions.snapshot_id),
        },
        figures={"feature_dates": len(days), "customers": rows.num_rows},
    )
