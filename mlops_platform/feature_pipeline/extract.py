"""Extract: the purchases that features of a feature_date are made of.

Does not belong here: features (`transform.py`), reading a table (`storage`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted
from mlops_platform.storage.read import scalar

if TYPE_CHECKING:
    from datetime import date

    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot


def extract_transactions(lake: Lake, last: date, *, complete_until: date | None = None) -> TableSnapshot:
    """The present silver.transactions, of local days up to `last`.

    Args:
        lake: The home's tables.
        last: The last feature_date.
        complete_until: The last local day that is over; None: do not check.

    Raises:
        InputError: `last` is not over yet.
        NotEnoughDataError: There is no purchase on or before `last`.
    """
    if complete_until is not None and last > complete_until:
        raise InputError(
            f"feature_date {last} is not over yet",
            expected=f"a local day up to {complete_until}",
            hint="the features of a day count what was bought until its end; run this again tomorrow.",
        )
    transactions = lake.snapshot(SILVER_TRANSACTIONS)
    found = replace(transactions, where=(*transactions.where, Condition("transaction_date", "<=", last)))
    require_purchases(found, last)
    return found


def require_purchases(transactions: TableSnapshot, last: date) -> None:
    """Refuses feature_dates before the first purchase.

    Raises:
        NotEnoughDataError: There is no purchase on or before `last`.
    """
    where = [Condition("transaction_date", "<=", last)]
    with transactions.relation(["amount"], where) as (duck, view):
        if scalar(duck, f"SELECT 1 FROM {view} WHERE {quoted('amount')} > 0 LIMIT 1") is None:
            raise NotEnoughDataError(
                f"there is no purchase on or before feature_date {last}",
                expected="a feature_date inside the CRM's history",
                hint='see its span with: mlops query "SELECT min(transaction_date) FROM silver.transactions"',
            )
