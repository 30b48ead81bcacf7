"""Customers who were erased on request: their rows are left out of every ingestion, whatever the CRM delivers.

Belongs here: the filter. Does not belong here: erasing what is there already (`erasure/`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.contracts import ERASURES
from mlops_platform.storage.pseudonym import column_hmacs

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from mlops_platform.storage.lake import Lake


def erased_filter(lake: Lake, column: str = "customer_id") -> Callable[[pa.RecordBatch], pa.RecordBatch] | None:
    """A function that takes erased customers' rows out of a batch; None where nobody was erased.

    Args:
        lake: The home's tables.
        column: The column with the customer_id; a batch without it passes whole, as do rows without a customer.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    erasures = lake.snapshot(ERASURES)
    if erasures.snapshot_id is None:
        return None
    erased = erasures.to_arrow(["customer_hmac"])["customer_hmac"].combine_chunks()
    if not len(erased):
        return None

    def without_erased(batch: pa.RecordBatch) -> pa.RecordBatch:
        if column not in batch.schema.names or not batch.num_rows:
            return batch
        is_erased = pc.is_in(column_hmacs(lake.settings, batch[column].cast(pa.string())), value_set=erased)
        return batch.filter(pc.invert(is_erased)) if pc.any(is_erased).as_py() else batch

    return without_erased
