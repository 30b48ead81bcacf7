"""`DataProcessingPipeline`: bronze to silver for someone without Dagster.

Does not belong here: what the steps do (`transformations.py`) and which rows they are done to (`processing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import SILVER_TABLES, STANDARD, SilverTable
from mlops_platform.errors import InputError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.paths import table_at

if TYPE_CHECKING:
    from mlops_platform.settings import Settings


class DataProcessingPipeline:
    """Turns a bronze table into its silver table.

    Args:
        input_path: The bronze table, such as `bronze/crm/customers/` or `s3://bucket/bronze/crm/customers/`.
        output_path: The silver table that is made of it, such as `silver/customers/`.
        settings: The home; None: the environment's.

    Raises:
        InputError: A path names no table, or the silver table is not made from that bronze table.
    """

    def __init__(self, input_path: str, output_path: str, settings: Settings | None = None) -> None:
        self._lake = Lake(settings or load_settings())
        bronze, silver = (table_at(self._lake.settings, path) for path in (input_path, output_path))
        found = [table for table in SILVER_TABLES if table.contract is silver and table.bronze is bronze]
        if not found:
            pairs = ", ".join(f"{table.bronze.name} → {table.contract.name}" for table in SILVER_TABLES)
            raise InputError(f"{silver.name} is not made from {bronze.name}", expected=f"one of {pairs}")
        self._table: SilverTable = found[0]

    def run(self, transformations: Sequence[str] = STANDARD) -> dict[str, int | str | bool | None]:
        """Processes what is new in bronze and publishes it.

        Args:
            transformations: Names of the steps, in order; your own are registered with `@transformation(NAME)`.

        Returns:
            The silver table's name, its snapshot id, whether that is new, and the rows read, published, quarantined
            and superseded.

        Raises:
            InputError: An unknown transformation, or one is missing.
            ContractError: A blocking check failed, such as too many rejected rows; silver is as it was.
        """
        with self._lake.exclusive(self._table.contract):
            draft = silver_draft(self._lake, self._table, transformations=transformations)
            result = self._lake.publish(draft)
        counts = {name: int(draft.figures[name]) for name in ("read", "published", "quarantined", "superseded")}
        return {"table": result.table, "snapshot_id": result.snapshot_id, "is_new": result.is_new, **counts}
