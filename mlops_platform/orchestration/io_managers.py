"""IO managers: Iceberg tables in and out as drafts and snapshots, and small references as JSON.

No rows are pickled, and none are loaded before a step asks for them. Does not belong here: how a table is written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.errors import ConflictError, StorageError
from mlops_platform.orchestration.tables import TABLES
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft, publish_audited

if TYPE_CHECKING:
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot


CONFLICT_RETRIES = 3


class IcebergIOManager(dg.IOManager):
    """Commits the `Draft` an asset proposes; hands `TableSnapshot`s to the assets after it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def handle_output(self, context: dg.OutputContext, obj: Draft) -> None:
        """Commits an audited draft in one commit."""
        try:
            result = publish_audited(self._settings, obj, properties={"run-id": context.run_id})
        except ConflictError as error:
            # The rows were computed from a state that is gone: the step has to compute them again.
            raise dg.RetryRequested(max_retries=CONFLICT_RETRIES) from error
        context.add_output_metadata(
            {
                **(
                    {"dagster/partition_row_count": result.rows}
                    if context.has_asset_partitions
                    else {"dagster/row_count": result.total}
                ),
                # As text: a browser's numbers end at 2^53.
                "snapshot_id": str(result.snapshot_id),
                "is_new_snapshot": result.is_new,
            }
        )

    def load_input(self, context: dg.InputContext) -> TableSnapshot:
        """The table's present state, read when used."""
        lake = Lake(self._settings)
        return lake.snapshot(lake.contracts[TABLES[context.asset_key]])


class ReferenceIOManager(dg.IOManager):
    """Keeps the small dataclass that stands for something elsewhere (a run, a model version) as JSON in the home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Writes the reference, replacing an older one of the same partition in one step."""
        from pydantic import TypeAdapter

        path = self._path(context)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_bytes(TypeAdapter(type(obj)).dump_json(obj, indent=1))
        draft.replace(path)

    def load_input(self, context: dg.InputContext) -> Any:
        """Reads the reference in the type the asset's parameter is annotated with."""
        from pydantic import TypeAdapter

        path = self._path(context)
        try:
            text = path.read_bytes()
        except FileNotFoundError as error:
            raise StorageError(
                f"asset {context.asset_key.to_user_string()} was not materialized yet", hint="materialize it first."
            ) from error
        return TypeAdapter(context.dagster_type.typing_type).validate_json(text)

    def _path(self, context: dg.InputContext | dg.OutputContext) -> Path:
        name = context.asset_partition_key.replace(":", "") if context.has_asset_partitions else "latest"
        return self._folder.joinpath(*context.asset_key.path) / f"{name}.json"
