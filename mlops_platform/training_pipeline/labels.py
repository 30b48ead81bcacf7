"""Labels: who churned, which days can be labelled, who is in the population.

churned(D) = 1 when the customer has no purchase in local days D+1 … D+horizon. A label exists only when D + horizon ≤
as_of, the last complete local day. Does not belong here: features, splits (`dataset.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from mlops_platform.errors import NotEnoughDataError

STACKED_DATES = 12
STEP_DAYS = 30


@dataclass(frozen=True, slots=True)
class LabelledDates:
    """The feature_dates of one training.

    Args:
        evaluation: E, the latest matured one: its rows are held out.
        training: The stacked ones, newest first, whose label windows end on or before E.
    """

    evaluation: date
    training: tuple[date, ...]

    @property
    def all(self) -> tuple[date, ...]:
        """Training dates oldest first, then E."""
        return (*reversed(self.training), self.evaluation)


def labelled_dates(as_of: date, history_start: date, horizon_days: int) -> LabelledDates:
    """The latest matured feature_date E and up to 12 training dates stepping back by 30 days from E − horizon.

    Args:
        as_of: Last complete local day of the data.
        history_start: First local day of the history; no feature_date lies before it.
        horizon_days: Length of the label window.

    Raises:
        NotEnoughDataError: The history is shorter than two label windows.
    """
    evaluation = as_of - timedelta(days=horizon_days)
    newest = evaluation - timedelta(days=horizon_days)
    training = [newest - timedelta(days=STEP_DAYS * step) for step in range(STACKED_DATES)]
    usable = tuple(day for day in training if day >= history_start)
    if not usable:
        raise NotEnoughDataError(
            f"the history from {history_start} to {as_of} has no day whose label is known early enough to train on",
            expected=f"at least {2 * horizon_days} days of history before as_of",
            hint="choose a later --as-of, or a shorter MLOPS_HORIZON_DAYS.",
        )
    return LabelledDates(evaluation, usable)


def label_sql(purchases: str, rows: str, horizon_days: int) -> str:
    """SQL of labels for (customer_id, feature_date) rows.

    Args:
        purchases: Relation with customer_id and transaction_date of purchases (amount > 0).
        rows: Relation with customer_id and feature_date.
        horizon_days: Length of the label window.

    Returns:
        A query of customer_id, feature_date, churned (0 or 1).
    """
    return f"""SELECT r.customer_id, r.feature_date, (count(p.customer_id) = 0)::INTEGER AS churned
        FROM {rows} r LEFT JOIN {purchases} p ON p.customer_id = r.customer_id
            AND p.transaction_date > r.feature_date
            AND p.transaction_date <= r.feature_date + {int(horizon_days)}
        GROUP BY r.customer_id, r.feature_date"""


def population_sql(population_days: int | None) -> str:
    """Condition on a feature row: at least one purchase in the last `population_days`; None: everybody."""
    return "true" if population_days is None else f"days_since_last_transaction < {int(population_days)}"
