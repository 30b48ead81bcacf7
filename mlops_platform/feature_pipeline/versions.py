"""Rows that were computed under earlier declarations: they lack the features declared since.

Belongs here: noticing them before a model does. Does not belong here: which version is recorded (`record.py`), the tag
that the state before a new version gets (`storage/publish.py`, by the contract's `version_property`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.errors import NotEnoughDataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa


def require_computed(rows: pa.Table, names: Iterable[str]) -> None:
    """Refuses rows that lack a feature; no feature is null once it is computed.

    Args:
        rows: Rows of the feature store, with feature_date.
        names: The features that are needed.

    Raises:
        NotEnoughDataError: One is null; the message names the feature_dates to compute again.
    """
    import pyarrow.compute as pc

    lacking = [name for name in names if rows.column(name).null_count]
    if not lacking:
        return
    without = pc.is_null(rows.column(lacking[0]))
    for name in lacking[1:]:
        without = pc.or_(without, pc.is_null(rows.column(name)))
    days = sorted(rows.column("feature_date").filter(without).unique().to_pylist())
    raise NotEnoughDataError(
        f"{', '.join(lacking)} is not computed for feature_date {', '.join(map(str, days))}: the rows there are older "
        "than its declaration",
        expected="every feature on every feature_date that is read",
        hint=f"mlops features backfill --from {days[0]} --to {days[-1]}",
    )
