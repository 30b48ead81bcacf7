"""Who churned and who is asked about, slowly and obviously.

Belongs here: the label and the population at one feature_date, straight from the design. Does not belong here: which
feature_dates are trained on, and whether a label has matured (D + horizon ≤ as_of): both need an `as_of`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from mlops_platform_tests.oracles.features import Purchase, in_window, purchases_until


def churned(transactions: Iterable[Purchase], feature_date: date, horizon_days: int = 90) -> dict[str, int]:
    """The label of every customer with a row at D.

    Args:
        transactions: Any transactions in any order; those after D + `horizon_days` do not count.
        feature_date: D of the design.
        horizon_days: Length of the label's window D+1 … D+`horizon_days`.

    Returns:
        customer_id → 1 without a purchase (amount > 0) on those local days, 0 with one.
    """
    everything = list(transactions)
    first_day = feature_date + timedelta(days=1)
    last_day = feature_date + timedelta(days=horizon_days)
    came_back = {t.customer_id for t in everything if t.amount > 0 and first_day <= t.day <= last_day}
    return {customer_id: int(customer_id not in came_back) for customer_id in purchases_until(everything, feature_date)}


def population(transactions: Iterable[Purchase], feature_date: date, population_days: int | None) -> set[str]:
    """The customers that training and evaluation look at.

    Args:
        transactions: Any transactions in any order; those after D do not count.
        feature_date: D of the design.
        population_days: Asks for a purchase on the local days D−`population_days`+1 … D; None takes every customer
            with a row at D.
    """
    histories = purchases_until(transactions, feature_date)
    if population_days is None:
        return set(histories)
    return {c for c, history in histories.items() if in_window(history, feature_date, population_days)}
