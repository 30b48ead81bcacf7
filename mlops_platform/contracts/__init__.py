"""Table contracts: the single source of schemas, checks, column docs and partitioning.

Belongs here: what a table is. Does not belong here: reading or writing one.
"""

from mlops_platform.contracts.feature_set import STANDARD, FeatureSet, load_feature_set
from mlops_platform.contracts.lake import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    ERASURES,
    QUARANTINE,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
)
from mlops_platform.contracts.ml import (
    DRIFT,
    NOT_SCORED,
    ONLINE_PREDICTIONS,
    PERFORMANCE,
    PREDICTIONS,
    PROMOTIONS,
)
from mlops_platform.contracts.table import Column, ColumnType, Partition, Replace, TableContract


def all_contracts(features: FeatureSet = STANDARD) -> dict[str, TableContract]:
    """Every table's contract by name, upstream ones first.

    Args:
        features: What the feature store and the training set hold; for names alone the standard ones do.
    """
    contracts = (
        BRONZE_CUSTOMERS,
        BRONZE_TRANSACTIONS,
        ERASURES,
        SILVER_CUSTOMERS,
        SILVER_TRANSACTIONS,
        QUARANTINE,
        features.customer_features,
        features.training_set,
        PROMOTIONS,
        PREDICTIONS,
        NOT_SCORED,
        ONLINE_PREDICTIONS,
        DRIFT,
        PERFORMANCE,
    )
    return {contract.name: contract for contract in contracts}


__all__ = [
    "BRONZE_CUSTOMERS",
    "BRONZE_TRANSACTIONS",
    "DRIFT",
    "ERASURES",
    "NOT_SCORED",
    "ONLINE_PREDICTIONS",
    "PERFORMANCE",
    "PREDICTIONS",
    "PROMOTIONS",
    "QUARANTINE",
    "SILVER_CUSTOMERS",
    "SILVER_TRANSACTIONS",
    "STANDARD",
    "Column",
    "ColumnType",
    "FeatureSet",
    "Partition",
    "Replace",
    "TableContract",
    "all_contracts",
    "load_feature_set",
]
