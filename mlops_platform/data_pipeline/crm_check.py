"""Checking a CRM: what ingestion would find in it, and which of its own names may be meant where ours are missing.

Does not belong here: printing (`console.py`), ingesting.
"""

from __future__ import annotations

import difflib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.data_pipeline.connections import open_database
from mlops_platform.data_pipeline.crm import CRM, CrmSource, find_source
from mlops_platform.data_pipeline.extraction import read
from mlops_platform.data_pipeline.text import define_macros
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.duck import session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlops_platform.data_pipeline.connections import Database
    from mlops_platform.data_pipeline.crm import SourceTable
    from mlops_platform.settings import Settings

# Below this likeness a column is no guess worth showing; a table is, since its columns can be looked at.
_LIKENESS = 0.35
# Candidates for the tables that are missing: every choice of them is weighed.
_LIKELY_TABLES = 20


@dataclass(frozen=True, slots=True)
class ColumnFinding:
    """One column: our name, the CRM's, whether ingestion needs it, whether it is there."""

    name: str
    own_name: str
    is_required: bool
    is_found: bool


@dataclass(frozen=True, slots=True)
class TableFinding:
    """One table of a CRM.

    Args:
        name: Our name.
        own_name: The CRM's.
        is_found: Whether it is there and readable.
        columns: Its columns; none where the table is missing.
        deletions: How ingestion will notice deleted rows.
        rows: Number of rows; None where ingestion could not read the table.
        newest: Latest readable time of change, in the business time zone.
    """

    name: str
    own_name: str
    is_found: bool
    columns: tuple[ColumnFinding, ...] = ()
    deletions: str = ""
    rows: int | None = None
    newest: str | None = None

    @property
    def is_ok(self) -> bool:
        """Whether everything ingestion needs is there."""
        return self.is_found and all(column.is_found for column in self.columns if column.is_required)


@dataclass(frozen=True, slots=True)
class CrmFindings:
    """What is in a CRM.

    Args:
        url: Its URL, masked.
        tables: One finding for each of our tables.
        mapping: Lines for mlops.toml that name the CRM's own tables and columns; empty where all is found.
    """

    url: str
    tables: tuple[TableFinding, ...]
    mapping: str

    @property
    def is_ok(self) -> bool:
        """Whether the CRM can be ingested."""
        return all(table.is_ok for table in self.tables)


def check_crm(settings: Settings, url_or_source: str) -> CrmFindings:
    """Looks at every table of a CRM.

    Args:
        settings: The home, for its sources and time zone.
        url_or_source: A database URL, or the name of a source.

    Raises:
        InputError: The URL names no supported database.
        SettingsError: There is no such source.
        SourceError: The CRM can't be reached.
    """
    source = CrmSource(CRM, url_or_source) if ":" in url_or_source else find_source(settings, url_or_source)
    with open_database(source.url) as database:
        tables = tuple(_look(settings, database, table) for table in source.tables)
        is_complete = all(table.is_found and all(c.is_found for c in table.columns) for table in tables)
        mapping = "" if is_complete else _mapping(database, source, tables)
    return CrmFindings(mask_secrets(source.url), tables, mapping)


def _look(settings: Settings, database: Database, table: SourceTable) -> TableFinding:
    try:
        found = database.columns(table.own_name)
    except database.errors:
        return TableFinding(table.name, table.own_name, is_found=False)
    present = {name.lower() for name in found}
    columns = tuple(
        ColumnFinding(name, table.own_column(name), name in table.required, table.own_column(name).lower() in present)
        for name in table.columns
    )
    has_deleted_at = any(column.is_found for column in columns if column.name == "deleted_at")
    if has_deleted_at:
        deletions = f"from {table.own_column('deleted_at')}"
    else:
        deletions = {"compare": "by comparing keys", "ignore": "ignored (MLOPS_DELETIONS)"}[settings.deletions]
    finding = TableFinding(table.name, table.own_name, is_found=True, columns=columns, deletions=deletions)
    if not finding.is_ok:
        return finding
    rows, newest = _measure(settings, database, table)
    return TableFinding(table.name, table.own_name, True, columns, deletions, rows, newest)


def _measure(settings: Settings, database: Database, table: SourceTable) -> tuple[int, str | None]:
    """Number of rows and the latest readable time of change."""
    rows, newest = 0, None
    with session(settings) as duck:
        define_macros(duck)
        for batch in read(database, table, ("updated_at",)):
            duck.register("_batch", batch)
            found = duck.execute("SELECT max(readable_time(updated_at))::VARCHAR FROM _batch").fetchall()[0][0]
            rows += batch.num_rows
            newest = max((each for each in (newest, found) if each), default=None)
    return rows, newest


def _mapping(database: Database, source: CrmSource, findings: Sequence[TableFinding]) -> str:
    """Lines for mlops.toml, our names on the left, the most alike of the CRM's on the right."""
    masked = mask_secrets(source.url)
    address = (
        f'url = "{masked}"' if masked == source.url else "# url: keep the password out of this file, set MLOPS_CRM_URL"
    )
    lines = [f"[sources.{source.name}]", address]
    theirs = {name: _columns(database, name) for name in database.table_names()}
    missing = [table for table, finding in zip(source.tables, findings, strict=True) if not finding.is_found]
    free = [name for name in theirs if name not in {finding.own_name for finding in findings}]
    guesses = _tables_meant(missing, {name: theirs[name] for name in free})
    for table, finding in zip(source.tables, findings, strict=True):
        own = finding.own_name if finding.is_found else guesses.get(table.name, "?")
        lines += ["", f"[sources.{source.name}.tables.{table.name}]", f'name = "{own}"']
        lines += ["", f"[sources.{source.name}.tables.{table.name}.columns]"]
        lines += _column_lines(table, theirs.get(own) or _columns(database, own))
    return "\n".join(lines)


def _column_lines(table: SourceTable, available: Sequence[str]) -> list[str]:
    """A line for each column of ours that is not there by its name; a mere guess at an optional one is a comment."""
    known = {each.lower() for each in available}
    missing = [name for name in table.columns if table.own_column(name).lower() not in known]
    spare = [each for each in available if each.lower() not in set(map(table.own_column, table.columns))]
    guesses = _pairs(missing, spare, lambda ours, theirs: _alike(table.own_column(ours), theirs), _LIKENESS)
    lines = []
    for name in table.columns:
        if name in table.required and name in missing:
            lines.append(f'{name} = "{guesses.get(name, "?")}"')
        elif name in guesses:
            lines.append(f'# {name} = "{guesses[name]}"')
        elif name in table.renamed and name not in missing:
            lines.append(f'{name} = "{table.renamed[name]}"')
    return lines


def _columns(database: Database, table: str) -> tuple[str, ...]:
    try:
        return database.columns(table)
    except database.errors:
        return ()


def _tables_meant(tables: Sequence[SourceTable], theirs: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Each table with another one of theirs, so that all together are as much alike as can be."""
    scores = {(table.name, name): _table_likeness(table, name, theirs[name]) for table in tables for name in theirs}
    likely = sorted(theirs, key=lambda name: -max((scores[table.name, name] for table in tables), default=0.0))
    choices = itertools.permutations(likely[:_LIKELY_TABLES], min(len(tables), len(theirs)))
    names = [table.name for table in tables]
    best = max(choices, key=lambda choice: sum(map(scores.__getitem__, zip(names, choice, strict=False))))
    return dict(zip(names, best, strict=False))


def _table_likeness(table: SourceTable, name: str, columns: Sequence[str]) -> float:
    """Likeness of the names, and of the columns we need to theirs: two tables' names may share nothing."""
    pairs = _pairs(table.required, columns, _alike)
    alike = sum(_alike(ours, theirs) for ours, theirs in pairs.items()) / len(table.required)
    return (_alike(table.name, name.rsplit(".", maxsplit=1)[-1]) + alike) / 2


def _pairs(
    ours: Sequence[str], theirs: Sequence[str], likeness: Callable[[str, str], float], floor: float = 0.0
) -> dict[str, str]:
    """Each of ours with one of theirs, the most alike first, none twice."""
    scores = sorted(((likeness(a, b), a, b) for a in ours for b in theirs), key=lambda score: (-score[0], *score[1:]))
    found: dict[str, str] = {}
    for score, one, other in scores:
        if score >= floor and one not in found and other not in found.values():
            found[one] = other
    return found


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()
