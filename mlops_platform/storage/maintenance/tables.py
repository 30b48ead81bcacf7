"""The tables of a home as they are in the catalog, those included that no contract describes any more.

Does not belong here: reading or changing one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.storage.catalog import TIMEZONE_PROPERTY

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


def table_names(catalog: Catalog) -> list[str]:
    """Names of all tables in the catalog."""
    namespaces = catalog.list_namespaces()
    return sorted(".".join(name) for namespace in namespaces for name in catalog.list_tables(namespace))


def own_tables(catalog: Catalog) -> dict[str, Table]:
    """The tables this platform made, by name; other tables of the same catalog are none of our business."""
    tables = {name: catalog.load_table(name) for name in table_names(catalog)}
    return {name: table for name, table in tables.items() if TIMEZONE_PROPERTY in table.properties}
