"""`ModelMonitor`, the documented call: has the data drifted, and where is the report.

Belongs here: reading the call's arguments and putting the domain functions together. Does not belong here: the decision
(`drift.py`), the page (`report.py`), where the reference is (`reference.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError
from mlops_platform.monitoring.drift import METHODS, Kind, detect_drift, kind_of
from mlops_platform.monitoring.reference import NOT_COMPARED, Reference, read_reference
from mlops_platform.monitoring.report import SEED, sample_size, write_drift_report
from mlops_platform.monitoring.tick import SCORE
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mlops_platform.settings import Settings


class ModelMonitor:
    """Compares data with what a model was trained on.

    Args:
        reference_data_path: A Parquet file below the warehouse or of this machine, or a table's path, such as
            `ml/features/customer_features/`. `ml/training_sets/train_v1.parquet`, where there is no such file: the
            first training set that was published.
        drift_threshold: Family-wise significance level, between 0 and 1: the chance that any column is called
            significant when nothing changed.
        effect_limit: Smallest effect that counts as drift, 0 to 1; 0.1 is about a fifth of a standard deviation.
        settings: The home; None: as the environment says.
    """

    def __init__(
        self,
        reference_data_path: str = "ml/training_sets/train_v1.parquet",
        drift_threshold: float = 0.05,
        effect_limit: float = 0.1,
        settings: Settings | None = None,
    ) -> None:
        self.lake = Lake(settings if settings is not None else load_settings())
        self.reference_data_path = reference_data_path
        self.drift_threshold = drift_threshold
        self.effect_limit = effect_limit

    @cached_property
    def reference(self) -> Reference:
        """The rows compared with, read on first use.

        Raises:
            InputError: The path names nothing that could be read.
        """
        return read_reference(self.lake, self.reference_data_path)

    def detect_data_drift(self, current_data: pd.DataFrame | pa.Table) -> dict[str, Any]:
        """Compares data with the reference and writes the report.

        Every feature of the reference is compared, and every other column but keys, labels, dates and the lake's own;
        `churn_probability` where both sides have it. A column that the data lacks is a problem, not an error.

        Args:
            current_data: The rows; columns that the reference does not have are ignored.

        Returns:
            Plain values, fit for JSON and for an alert's metadata:
            drift_detected, status (`ok`, `drift` or `insufficient_data`), report_path (an HTML page), drifted (names of
            the columns that drifted), columns (one mapping a column: column, kind, method, statistic, p_value, effect,
            drifted), method (test by kind of column, and the correction), rows (reference, current, and how many of
            each the report draws: sampled), sample_seed, problems, reference (where its rows come from),
            drift_threshold, effect_limit. The same data gives the same answer and the same page.

        Raises:
            InputError: The reference or the data can't be read or have no column to compare, or an argument is out of
                range.
        """
        current = as_arrow(current_data)
        reference = self.reference.rows
        columns = self._columns(current)
        result = detect_drift(
            reference,
            current,
            columns=columns,
            drift_threshold=self.drift_threshold,
            effect_limit=self.effect_limit,
        )
        found: dict[str, Any] = {
            "drift_detected": result.drift_detected,
            "status": result.status,
            "drifted": list(result.drifted),
            "columns": [asdict(column) for column in result.columns],
            "method": {**dict(METHODS), "correction": "holm"},
            "rows": {
                "reference": reference.num_rows,
                "current": current.num_rows,
                "sampled": sample_size(reference, current),
            },
            "sample_seed": SEED,
            "problems": list(result.problems),
            "reference": self.reference.source,
            "drift_threshold": self.drift_threshold,
            "effect_limit": self.effect_limit,
        }
        # Named after its content: another comparison does not replace the page that an answer names.
        name = sha256(json.dumps(found).encode()).hexdigest()[:16]
        path = self.lake.settings.reports / f"drift-{name}.html"
        write_drift_report(reference, current, result, columns=columns, path=path)
        return {**found, "report_path": str(path)}

    def _columns(self, current: pa.Table) -> dict[str, Kind]:
        known = self.lake.features.kinds
        found: dict[str, Kind] = {}
        for field in self.reference.rows.schema:
            kind = known.get(field.name) or kind_of(field.type)
            is_left_out = field.name in NOT_COMPARED or field.name.startswith("_")
            if kind is not None and not is_left_out and (field.name != SCORE or SCORE in current.column_names):
                found[field.name] = kind
        if not found:
            raise InputError(
                f"{self.reference.source} has no column to compare", expected="features beside keys and labels"
            )
        return found


def as_arrow(data: pd.DataFrame | pa.Table) -> pa.Table:
    """The data as an Arrow table; a frame's index is left out.

    Raises:
        InputError: It is neither, or a column mixes types.
    """
    import pandas as pd
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    if not isinstance(data, pd.DataFrame):
        raise InputError(f"current_data is a {type(data).__name__}", expected="a pandas DataFrame or an Arrow table")
    try:
        return pa.Table.from_pandas(data, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"current_data can't be read: {str(error).splitlines()[0]}", expected="one type in each column"
        ) from error
