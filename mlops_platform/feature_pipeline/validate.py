"""Validate: features against their contract, before anybody reads them.

Belongs here: the documented `feature_schema` and the check of one frame or table. Does not belong here: what is allowed
(`contracts/features.py`), the audit of a publish (`storage`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.feature_set import load_feature_set
from mlops_platform.contracts.schemas import pandas_schema
from mlops_platform.settings import load_settings
from mlops_platform.storage.audit import require
from mlops_platform.storage.publish import Draft

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.contracts.feature_set import FeatureSet
    from mlops_platform.storage.conditions import Condition


def validate_features(rows: pa.Table, features: FeatureSet, scope: tuple[Condition, ...] = ()) -> pa.Table:
    """The rows, if they keep the contract.

    Args:
        rows: Rows of the feature store.
        features: The declarations.
        scope: The feature_dates they may lie in.

    Raises:
        ContractError: A value, a key or a feature_date is none that the contract allows.
    """
    require(features.customer_features, Draft(features.customer_features, rows, scope).audit())
    return rows


def __getattr__(name: str) -> Any:
    """Makes `feature_schema` when it is first asked for: Pandera costs a second to import."""
    if name == "feature_schema":
        return pandas_schema(load_feature_set(load_settings().features_module).customer_features)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
