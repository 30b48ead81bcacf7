"""Table contracts: the single source of schemas, checks, column docs and partitioning.

Belongs here: what a table is. Does not belong here: reading or writing one.
"""

from mlops_platform.contracts.features import CUSTOMER_FEATURES, FEATURE_KINDS, FEATURE_NAMES, FEATURES
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
    ONLINE_PREDICTIONS,
    PERFORMANCE,
    PREDICTIONS,
    PROMOTIONS,
    TRAINING_SET,
)
from mlops_platform.contracts.table import Column, ColumnType, Partition, Replace, TableContract

ALL_CONTRACTS: tuple[TableContract, ...] = (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    ERASURES,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    QUARANTINE,
    CUSTOMER_FEATURES,
    TRAINING_SET,
    PROMOTIONS,
    PREDICTIONS,
    ONLINE_PREDICTIONS,
    DRIFT,
    PERFORMANCE,
)

__all__ = [
    "ALL_CONTRACTS",
    "BRONZE_CUSTOMERS",
    "BRONZE_TRANSACTIONS",
    "CUSTOMER_FEATURES",
    "DRIFT",
    "ERASURES",
    "FEATURES",
    "FEATURE_KINDS",
    "FEATURE_NAMES",
    "ONLINE_PREDICTIONS",
    "PERFORMANCE",
    "PREDICTIONS",
    "PROMOTIONS",
    "QUARANTINE",
    "SILVER_CUSTOMERS",
    "SILVER_TRANSACTIONS",
    "TRAINING_SET",
    "Column",
    "ColumnType",
    "Partition",
    "Replace",
    "TableContract",
]
