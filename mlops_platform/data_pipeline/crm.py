"""The CRM as a source: its tables and what it calls them, which source a name means, the span of its history.

Every column is read as text: types are silver's business, and a single odd cell must not fail the extraction. Does not
belong here: opening and reading a database (`connections.py`, `extraction.py`), writing to one (`crm_load.py`), what is
new (`ingestion.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.contracts import BRONZE_CUSTOMERS, BRONZE_TRANSACTIONS, TableContract
from mlops_platform.data_pipeline.connections import open_database, sqlite_path
from mlops_platform.data_pipeline.extraction import check, read
from mlops_platform.data_pipeline.text import define_macros
from mlops_platform.errors import SettingsError, SourceError
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.duck import session

if TYPE_CHECKING:
    from datetime import date

    from mlops_platform.settings import Settings
    from mlops_platform.source_settings import TableSetting

# The CRM that feeds the assets; the documented calls name it crm_database.
CRM = "crm"
CRM_NAMES = (CRM, "crm_database")


@dataclass(frozen=True, slots=True)
class SourceTable:
    """One CRM table and the bronze table it feeds.

    Args:
        name: Our name of the table.
        bronze: Contract of the bronze table; its columns but the `_` ones are the CRM's.
        required: Columns without which the table is of no use; the others may be absent and are read as null.
        crm_name: The table's name in the CRM, where that is not ours.
        renamed: Our column to the CRM's, where that is not ours.
    """

    name: str
    bronze: TableContract
    required: tuple[str, ...]
    crm_name: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The CRM's columns, by our names."""
        return tuple(name for name in self.bronze.column_names if not name.startswith("_"))

    @property
    def key(self) -> str:
        """The column that identifies a row."""
        return self.required[0]

    @property
    def own_name(self) -> str:
        """The table's name in the CRM."""
        return self.crm_name or self.name

    def own_column(self, name: str) -> str:
        """A column's name in the CRM."""
        return self.renamed.get(name, name)


CUSTOMERS = SourceTable("customers", BRONZE_CUSTOMERS, ("customer_id", "updated_at"))
TRANSACTIONS = SourceTable(
    "transactions", BRONZE_TRANSACTIONS, ("transaction_id", "customer_id", "transaction_ts", "amount", "updated_at")
)
SOURCE_TABLES = (CUSTOMERS, TRANSACTIONS)


@dataclass(frozen=True, slots=True)
class CrmSource:
    """A named source.

    Args:
        name: Its name in bronze's `_source`.
        url: The database's URL.
        tables: Its tables, with the names it gives them.
    """

    name: str
    url: str
    tables: tuple[SourceTable, ...] = SOURCE_TABLES


@dataclass(frozen=True, slots=True)
class HistorySpan:
    """First and last local day with a transaction, and the number of transaction rows."""

    first_day: date
    last_day: date
    rows: int


def find_source(settings: Settings, name: str = CRM) -> CrmSource:
    """The source of a name: from the setting `sources`; `crm` and `crm_database` fall back to `crm_url`.

    Raises:
        SettingsError: No such source, one without a URL, or a mapping of a column that does not exist.
    """
    is_crm = name in CRM_NAMES
    wanted = (name, *CRM_NAMES) if is_crm else (name,)
    found = next((settings.sources[each] for each in wanted if each in settings.sources), None)
    url = found.url if found is not None else None
    if is_crm:
        url = url or settings.crm_url
    if url is None:
        raise _no_source(settings, name, is_known=found is not None)
    mappings = {str(table): setting for table, setting in found.tables.items()} if found is not None else {}
    tables = tuple(_mapped(table, mappings.get(table.name), name) for table in SOURCE_TABLES)
    # Both names mean one source, unless a home has both.
    is_one = is_crm and not all(each in settings.sources for each in CRM_NAMES)
    return CrmSource(CRM if is_one else name, url, tables)


def absolute(url: str) -> str:
    """The URL as it reads from any folder: a relative SQLite path is made absolute."""
    return f"sqlite:///{Path(sqlite_path(url)).absolute()}" if url.startswith("sqlite:///") else url


def span(settings: Settings, url: str, tables: Sequence[SourceTable] = SOURCE_TABLES) -> HistorySpan:
    """Checks that the tables are there with their columns and rows, and finds the span of the history.

    Args:
        settings: The home, for its business time zone.
        url: The CRM's URL.
        tables: Its tables, transactions among them.

    Raises:
        SourceError: The CRM can't be reached, or lacks a table, a column, any row, or any readable time.
    """
    rows = 0
    days: set[date] = set()
    table = next(table for table in tables if table.name == TRANSACTIONS.name)
    with open_database(url) as database, session(settings) as duck:
        for each in tables:
            check(database, each)
        define_macros(duck)
        for batch in read(database, table, ("transaction_ts",)):
            duck.register("delivered", batch)
            found = duck.execute(
                "SELECT min(t)::DATE, max(t)::DATE FROM (SELECT readable_time(transaction_ts) t FROM delivered)"
            ).fetchall()
            rows += batch.num_rows
            days = {*days, *(day for day in found[0] if day is not None)}
            days = {min(days), max(days)} if days else days
    if not rows:
        raise SourceError(
            f"table {table.own_name} in the CRM {mask_secrets(url)} is empty",
            expected="at least one transaction",
            hint="load data with: mlops crm import DIR --into URL, or mlops crm seed --into URL",
        )
    if not days:
        column = f"{table.own_name}.{table.own_column('transaction_ts')}"
        raise SourceError(
            f"column {column} in the CRM {mask_secrets(url)} holds no readable time in {rows} rows",
            expected="timestamps such as 2024-01-31 13:45:00",
            hint="mend the column's type or format in the CRM, then run this again.",
        )
    return HistorySpan(min(days), max(days), rows)


def _mapped(table: SourceTable, setting: TableSetting | None, source: str) -> SourceTable:
    if setting is None:
        return table
    unknown = [name for name in setting.columns if name not in table.columns]
    if unknown:
        near = difflib.get_close_matches(unknown[0], table.columns, 1)
        raise SettingsError(
            f"source {source} maps {table.name}.{unknown[0]}, which is no column of ours",
            expected=f"one of {', '.join(table.columns)}",
            hint=f"did you mean {near[0]}?" if near else f"the columns of [sources.{source}] read ours = theirs.",
        )
    return replace(table, crm_name=setting.name or "", renamed=dict(setting.columns))


def _no_source(settings: Settings, name: str, *, is_known: bool) -> SettingsError:
    if name in CRM_NAMES:
        return SettingsError(
            "no CRM is set for this home",
            expected="a database URL",
            hint="set MLOPS_CRM_URL, or run `mlops demo`, which makes a synthetic one.",
        )
    known = ", ".join(sorted({*settings.sources, *CRM_NAMES}))
    return SettingsError(
        f"source {name!r} has no url" if is_known else f"there is no source {name!r}",
        expected="a url" if is_known else f"one of {known}",
        hint=f'put [sources.{name}] with url = "postgresql://user@host/database" into {settings.home}/mlops.toml, '
        f'or set MLOPS_SOURCES=\'{{"{name}": "postgresql://user@host/database"}}\'.',
    )
