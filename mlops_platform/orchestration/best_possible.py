"""The best ROC-AUC any model could reach on a synthetic CRM: that of the exact posterior given the observed history.

Does not belong here: the posterior (`data_pipeline/posterior.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.contracts import SILVER_TRANSACTIONS, STANDARD
from mlops_platform.contracts.ml import TARGET
from mlops_platform.data_pipeline.posterior import no_purchase_probability
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import session

if TYPE_CHECKING:
    from datetime import date

    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel
    from mlops_platform.storage.lake import Lake


def best_possible_auc(lake: Lake, model: SyntheticModel, evaluation_date: date) -> float:
    """ROC-AUC of the exact posterior on the held-out rows.

    Args:
        lake: The home's tables; silver gives the observed history, ml.training_set the held-out rows.
        model: The parameters the synthetic CRM was made from.
        evaluation_date: feature_date of the held-out rows.
    """
    from sklearn.metrics import roc_auc_score

    until = [Condition("transaction_date", "<=", evaluation_date)]
    columns = ("customer_id", "transaction_ts", "transaction_date", "amount", "category", "payment_method")
    with lake.snapshot(SILVER_TRANSACTIONS).relation(columns, until) as (duck, view):
        # Naive local times, as the CRM gave them: the session's time zone is the business one.
        history = duck.sql(
            "SELECT customer_id, transaction_ts::TIMESTAMP AS transaction_ts, category, payment_method "
            f"FROM {view} WHERE amount > 0"
        ).to_arrow_table()
    best = no_purchase_probability(model, history, evaluation_date, lake.settings.horizon_days)
    training = lake.snapshot(STANDARD.training_set)
    held_out = training.to_arrow(["customer_id", TARGET, "split"], [Condition("split", "=", "test")])
    with session(lake.settings) as duck:
        duck.register("best", best)
        duck.register("held_out", held_out)
        rows = duck.sql(f"SELECT {TARGET}, probability FROM held_out JOIN best USING (customer_id)").to_arrow_table()
    return float(roc_auc_score(rows.column(TARGET).to_numpy(), rows.column("probability").to_numpy()))
