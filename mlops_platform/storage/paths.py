"""Documented paths: which table a path such as `s3://bucket/bronze/crm/customers/` names.

Belongs here: the paths of the documented calls, relative to the warehouse, with or without a bucket in front. Does not
belong here: paths of real files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlops_platform.contracts import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    STANDARD,
    all_contracts,
    load_feature_set,
)
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings

PATHS = {
    "bronze/crm/customers/": BRONZE_CUSTOMERS.name,
    "bronze/crm/transactions/": BRONZE_TRANSACTIONS.name,
    "silver/customers/": SILVER_CUSTOMERS.name,
    "silver/transactions/": SILVER_TRANSACTIONS.name,
    "ml/features/customer_features/": STANDARD.customer_features.name,
}


def table_at(settings: Settings, path: str) -> TableContract:
    """The table a documented path names.

    Args:
        settings: The home; with its warehouse in a bucket, a bucket in the path must be that one, else it is ignored.
        path: Such as `silver/customers/` or `s3://bucket/silver/customers/`.

    Raises:
        InputError: No such path, or another bucket.
    """
    relative = _relative(settings, path)
    if relative not in PATHS:
        raise InputError(f"{path!r} names no table", expected=f"one of {', '.join(PATHS)}, a bucket in front or not")
    return _contracts(settings)[PATHS[relative]]


def tables_below(settings: Settings, path: str) -> dict[str, TableContract]:
    """The tables at or below a documented path, by the last part of theirs: `bronze/crm/` holds customers.

    Raises:
        InputError: There are none, or another bucket.
    """
    relative = _relative(settings, path)
    contracts = _contracts(settings)
    found = {each.split("/")[-2]: contracts[name] for each, name in PATHS.items() if each.startswith(relative)}
    if not found or not relative:
        raise InputError(f"there is no table below {path!r}", expected=f"a folder of one of {', '.join(PATHS)}")
    return found


def _contracts(settings: Settings) -> dict[str, TableContract]:
    return all_contracts(load_feature_set(settings.features_module))


def _relative(settings: Settings, path: str) -> str:
    """The path below the warehouse, with one slash at its end."""
    bucket, inside = _split(path)
    if bucket and settings.warehouse_url is not None:
        own, folder = _split(settings.warehouse_url)
        if bucket != own:
            raise InputError(
                f"{path!r} lies in the bucket {bucket}",
                expected=f"a path in {own}, the bucket of the warehouse, or one without a bucket",
                hint="MLOPS_WAREHOUSE_URL says where the tables lie.",
            )
        inside = inside.removeprefix(folder)
    return inside


def _split(path: str) -> tuple[str, str]:
    """Bucket (empty: none) and folder, which ends in a slash unless it is empty."""
    found = re.fullmatch(r"s3[an]?://([^/]+)(.*)", path.strip())
    bucket, inside = found.groups() if found else ("", path.strip())
    parts = [part for part in inside.split("/") if part not in {"", "."}]
    return bucket, "/".join(parts) + "/" if parts else ""
