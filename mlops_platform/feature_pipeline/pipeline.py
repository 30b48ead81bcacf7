"""`FeaturePipeline`, the documented call: silver to the feature store for someone without Dagster.

Belongs here: reading the call's arguments, and the three things a person runs: a feature_date or a range of them, one
new feature alone, and what late rows have touched. Does not belong here: what the steps do (`extract.py`, `compute.py`,
`validate.py`, `load.py`).
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from mlops_platform import clock
from mlops_platform.contracts import SILVER_CUSTOMERS, SILVER_TRANSACTIONS
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.feature_pipeline.extract import extract_transactions
from mlops_platform.feature_pipeline.freshness import held_dates, stale_dates
from mlops_platform.feature_pipeline.load import features_draft, unchanged_draft
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import day_range
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.paths import table_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import pandas as pd

    from mlops_platform.settings import Settings
    from mlops_platform.storage.publish import PublishResult


class FeaturePipeline:
    """Computes the features of one feature_date.

    Args:
        input_path: Silver, such as `silver/customers/` or `s3://bucket/silver/customers/`; the transactions beside it
            are what features are made of.
        output_path: The feature store, `ml/features/customer_features/`.
        feature_date: A local day, as date or ISO text; None: the last complete one.
        settings: The home; None: as the environment says.

    Raises:
        InputError: A path names another table, or the day is none or not over yet.
    """

    def __init__(
        self,
        input_path: str = "silver/customers/",
        output_path: str = "ml/features/customer_features/",
        feature_date: date | str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.lake = Lake(settings if settings is not None else load_settings())
        source, target = (table_at(self.lake.settings, path) for path in (input_path, output_path))
        features = self.lake.features
        if source.name not in {SILVER_CUSTOMERS.name, SILVER_TRANSACTIONS.name}:
            raise InputError(f"features are not made from {source.name}", expected="silver/customers/")
        if target.name != features.customer_features.name:
            raise InputError(f"features are not kept in {target.name}", expected="ml/features/customer_features/")
        self.feature_date = last_day(self.lake.settings) if feature_date is None else as_day(feature_date)

    def run(self) -> pd.DataFrame:
        """Computes, validates and publishes the features.

        Returns:
            The rows of the feature_date, one a customer, as the feature store holds them.

        Raises:
            InputError: The feature_date is not over yet.
            NotEnoughDataError: There is no purchase on or before it.
            ContractError: The features break their contract; the feature store is as it was.
        """
        publish_features(self.lake, [self.feature_date], now=clock.now(self.lake.settings))
        contract = self.lake.features.customer_features
        where = day_range("feature_date", self.feature_date, self.feature_date)
        frame: pd.DataFrame = self.lake.snapshot(contract).to_arrow(where=where, order_by=["customer_id"]).to_pandas()
        return frame


def publish_features(
    lake: Lake,
    feature_dates: Sequence[date],
    *,
    now: datetime,
    only: Sequence[str] = (),
    note: Callable[[str], None] | None = None,
) -> PublishResult:
    """Computes and publishes feature_dates in one commit, in bounded memory.

    Args:
        lake: The home's tables.
        feature_dates: The days.
        now: The present instant.
        only: Features to compute; the others stay as the table holds them. Empty: all.
        note: Is told of each feature_date that is computed.

    Raises:
        InputError: A day is not over yet, or an unknown feature.
        NotEnoughDataError: There is no purchase on or before the last day.
    """
    complete_until = clock.last_complete_day(now, lake.settings.zone)
    transactions = extract_transactions(lake, max(feature_dates), complete_until=complete_until)
    return lake.publish(features_draft(lake, transactions, feature_dates, created_at=now, only=only, note=note))


def refresh_features(
    lake: Lake, *, now: datetime, is_dry_run: bool = False, note: Callable[[str], None] | None = None
) -> list[date]:
    """Computes anew exactly the feature_dates in the store whose silver rows have changed since.

    Args:
        lake: The home's tables.
        now: The present instant.
        is_dry_run: Only find out which.
        note: Is told of each feature_date that is computed.

    Returns:
        These feature_dates, in order.

    Raises:
        NotEnoughDataError: The store holds no feature_date.
    """
    contract = lake.features.customer_features
    held = held_dates(lake, contract)
    if not held:
        raise NotEnoughDataError(
            f"{contract.name} holds no feature_date",
            expected="features to refresh",
            hint="make them with: mlops features backfill --from DAY --to DAY",
        )
    silver = extract_transactions(lake, held[-1])
    stale = stale_dates(lake, contract, silver)
    if not is_dry_run:
        if stale:
            lake.publish(features_draft(lake, silver, stale, created_at=now, note=note))
        lake.publish(unchanged_draft(lake, silver, held))
    return stale


def last_day(settings: Settings) -> date:
    """The last local day that is over."""
    return clock.last_complete_day(clock.now(settings), settings.zone)


def as_day(value: date | str) -> date:
    """A feature_date as a person gives it.

    Raises:
        InputError: It is no day.
    """
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise InputError(f"{value!r} is no day", expected="a date such as 2024-01-15") from error
