"""What goes with every row of features beside the features: its day, version, time and hash.

Whoever computes features, here or in an engine's own processes, puts it on with this. Does not belong here: the
features (`transform.py`), how a hash is made (`row_hash.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.feature_pipeline.row_hash import row_hashes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Stamp:
    """What goes with every row.

    Args:
        version: Version of the features.
        created_at: Instant the rows are made at.
        schema: The contract's columns.
    """

    version: str
    created_at: datetime
    schema: pa.Schema

    def put_on(self, table: pa.Table, day: date, known: Mapping[str, NDArray[np.uint64]] | None = None) -> pa.Table:
        """The rows with their day, version, time and hash, in the contract's columns.

        Args:
            table: customer_id and the features.
            day: The feature_date.
            known: For some columns what `row_hash.cell_bits` says of them.
        """
        import pyarrow as pa

        rows, schema = table.num_rows, self.schema
        columns = {name: table[name] for name in table.column_names}
        columns["feature_date"] = pa.repeat(pa.scalar(day, pa.date32()), rows)
        columns["_feature_hash"] = row_hashes(pa.table(columns), known)
        columns["_feature_version"] = pa.repeat(pa.scalar(self.version), rows)
        columns["_created_at"] = pa.repeat(pa.scalar(self.created_at, schema.field("_created_at").type), rows)
        return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)
