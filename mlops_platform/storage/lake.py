"""The lake: the tables of one home, as the pipelines use them.

Belongs here: the few calls domain code makes (`snapshot`, `publish`). Does not belong here: how they work.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mlops_platform.contracts import all_contracts, load_feature_set
from mlops_platform.storage.catalog import load_table, open_catalog
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.publish import MARK, Draft, PublishResult, current, publish, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyiceberg.catalog import Catalog

    from mlops_platform.contracts import FeatureSet, TableContract
    from mlops_platform.settings import Settings
    from mlops_platform.storage.conditions import Condition
    from mlops_platform.storage.read import TableSnapshot


@dataclass(frozen=True)
class Lake:
    """The Iceberg tables of a home.

    Args:
        settings: The home.
    """

    settings: Settings

    @cached_property
    def catalog(self) -> Catalog:
        """The Iceberg catalog, opened on first use."""
        return open_catalog(self.settings)

    @property
    def features(self) -> FeatureSet:
        """The home's features."""
        return load_feature_set(self.settings.features_module)

    @property
    def contracts(self) -> dict[str, TableContract]:
        """The home's tables by name, upstream ones first."""
        return all_contracts(self.features)

    def snapshot(
        self, contract: TableContract, *, snapshot_id: int | None = None, where: Sequence[Condition] = ()
    ) -> TableSnapshot:
        """The table's present state, or the given snapshot; empty where the table was never written.

        Raises:
            StorageError: No such snapshot, or the table belongs to another time zone.
        """
        table = load_table(self.catalog, contract, self.settings.timezone)
        found = replace(current(self.settings, contract, table), where=tuple(where))
        return found if snapshot_id is None else found.at(snapshot_id)

    @contextmanager
    def exclusive(self, contract: TableContract) -> Iterator[None]:
        """One run at a time computes rows from what the table itself holds; others wait, as for `publish`.

        Not the writer's lock: a publish inside is free to take that one.

        Raises:
            StorageError: Another run held it for ten minutes.
        """
        with table_lock(self.settings, f"{contract.name}.run"):
            yield

    def publish(self, draft: Draft, *, properties: Mapping[str, str] | None = None) -> PublishResult:
        """Audits and commits a draft; see `storage.publish.publish`."""
        return publish(self.settings, draft, properties=properties)

    def properties(self, contract: TableContract) -> dict[str, str]:
        """The snapshot properties (without the `mlops.` prefix) of the last publish; empty before the first."""
        return recorded(load_table(self.catalog, contract, self.settings.timezone))

    def marks(self, contract: TableContract) -> dict[str, str]:
        """The marks of the table's drafts; see `storage.publish.Draft`."""
        found = self.properties(contract)
        return {key.removeprefix(MARK): value for key, value in found.items() if key.startswith(MARK)}
