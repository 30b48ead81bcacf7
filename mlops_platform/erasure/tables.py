"""Erasing customers from a table: their rows from its files, then every snapshot and file that still had them.

One commit leaves the rows out; a second, empty one leaves behind the list of removed files, which holds the smallest
and largest values of each; the older snapshots then go, whatever refers to them, and their files at once. A killed
erasure is completed by the same again: what is to be deleted is written down first. Does not belong here: anything that
is no table (`files.py`, `models.py`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.contracts import ERASURES, all_contracts
from mlops_platform.erasure.formats import are_in_avro
from mlops_platform.erasure.subjects import HMAC_KEY, ID_KEY, Subjects
from mlops_platform.storage.commit import Change, commit
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.maintenance.expiry import expire
from mlops_platform.storage.maintenance.orphans import address, delete, manifests, plain, reachable, unreached
from mlops_platform.storage.maintenance.rewriting import carried, require_rewritable, rewrite, rows_of
from mlops_platform.storage.maintenance.tables import own_tables
from mlops_platform.storage.pseudonym import BLANKS

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake

# Columns that hold a row as JSON: a bronze row in quarantine, a request's features.
JSON_COLUMNS = ("row", "features")
# Snapshot ids that the current snapshot stands for: the same rows but for the erased customers'.
STANDS_FOR = "mlops.stands-for"


@dataclass(frozen=True, slots=True)
class TableErasure:
    """What was erased from one table, or would be.

    Args:
        table: The table.
        rows: Rows of the customers in its present state.
        files: Data files of the present state that hold them.
        snapshots: Snapshots that have to go: all there are, but for a present one that names nobody.
    """

    table: str
    rows: int
    files: int
    snapshots: int


def candidates(lake: Lake) -> dict[str, Table]:
    """The tables that can name a customer, upstream ones first; the list of the erased itself is none."""
    tables = own_tables(lake.catalog)
    order = [name for name in all_contracts() if name in tables]
    names = [*order, *(name for name in tables if name not in order)]
    return {name: tables[name] for name in names if name != ERASURES.name and _condition(tables[name])}


def count_in(settings: Settings, table: Table, name: str, subjects: Subjects) -> TableErasure:
    """What an erasure would take from the table."""
    with _session(settings, subjects) as duck:
        hits = _hits(duck, table)
    current = [file for file in _current(table) if file.file_path in hits]
    rows = sum(hits[file.file_path] for file in current)
    is_named = bool(hits) or _is_in_bounds(table, subjects)
    return TableErasure(name, rows, len(current), len(_older(table)) + bool(rows) if is_named else 0)


def erase_from(lake: Lake, name: str, subjects: Subjects) -> TableErasure:
    """Erases the customers from the table and its history, under its lock.

    Raises:
        StorageError: The table can't be rewritten by this platform, or is locked for too long, or a commit failed.
    """
    settings = lake.settings
    with table_lock(settings, name):
        table = lake.catalog.load_table(name)
        found = count_in(settings, table, name, subjects)
        if found.rows:
            _leave_out(lake, table, subjects)
        # Files that a commit removed stay listed in its snapshot, with their bounds.
        is_listed = bool(found.rows) or _is_in_bounds(table, subjects, are_removed=True)
        if is_listed:
            commit(table, Change(()), _properties(lake, table))
        if is_listed or found.snapshots:
            _forget(settings, table, name)
        _delete_pending(settings, table, name)
        _delete_leftovers(lake, table, name, subjects)
    return found


def successors(lake: Lake) -> dict[str, str]:
    """Snapshots that are gone by an erasure to the one that stands for each."""
    found = {}
    for table in own_tables(lake.catalog).values():
        current = table.current_snapshot()
        summary = current.summary.additional_properties if current is not None and current.summary is not None else {}
        for gone in filter(None, summary.get(STANDS_FOR, "").split(",")):
            found[gone] = str(table.metadata.current_snapshot_id)
    return found


def _leave_out(lake: Lake, table: Table, subjects: Subjects) -> None:
    """Replaces the files that hold the customers' rows by files without them, in one commit."""
    require_rewritable(table)
    with _session(lake.settings, subjects) as duck:
        hits = _hits(duck, table)
        removed = [file for file in reversed(_current(table)) if file.file_path in hits]
        removed.sort(key=lambda file: str(file.partition))
        added = rewrite(duck, table, removed, keep=f"NOT coalesce({_condition(table)}, false)")
    commit(table, Change(added, removed), _properties(lake, table))


def _properties(lake: Lake, table: Table) -> dict[str, str]:
    """What readers look up in the current snapshot stays; what it was made from may have a successor."""
    found = carried(table, "erase", renamed=successors(lake))
    gone = [*filter(None, found.get(STANDS_FOR, "").split(",")), str(table.metadata.current_snapshot_id)]
    return found | {STANDS_FOR: ",".join(gone)}


def _forget(settings: Settings, table: Table, name: str) -> None:
    """Expires every snapshot but the current one, having written down the files that nothing reaches then."""
    older = _older(table)
    kept = reachable(table, without=older)
    gone = [path for key, path in reachable(table).items() if key not in kept]
    pending = _pending(settings, name)
    pending.parent.mkdir(parents=True, exist_ok=True)
    draft = pending.with_suffix(".tmp")
    known = json.loads(pending.read_text(encoding="utf-8")) if pending.exists() else []
    draft.write_text(json.dumps(sorted({*known, *gone})), encoding="utf-8")
    draft.replace(pending)
    _drop_references(table, older)
    expire(table, older)


def _drop_references(table: Table, snapshot_ids: Collection[int]) -> None:
    """Tags and branches of snapshots that must go: Iceberg protects what they name."""
    refs = [(name, ref) for name, ref in table.metadata.refs.items() if ref.snapshot_id in snapshot_ids]
    for name, ref in refs:
        manage = table.manage_snapshots()
        is_tag = ref.snapshot_ref_type.value == "tag"
        (manage.remove_tag(name) if is_tag else manage.remove_branch(name)).commit()
        table.refresh()


def _delete_pending(settings: Settings, table: Table, name: str) -> None:
    """Deletes the files written down by `_forget`, now or before the process was killed."""
    pending = _pending(settings, name)
    if not pending.exists():
        return
    table.refresh()
    kept = reachable(table)
    for path in json.loads(pending.read_text(encoding="utf-8")):
        if plain(path) not in kept:
            with suppress(FileNotFoundError):
                table.io.delete(path)
    pending.unlink()


def _delete_leftovers(lake: Lake, table: Table, name: str, subjects: Subjects) -> None:
    """Deletes manifests that a killed commit left and that name the customers, or can't be read.

    Manifests are written under the table's lock, which we hold: these have no writer any more, however young they are.
    A data file may have one, and waits until it is old.
    """
    tables = own_tables(lake.catalog)
    others = {other: found.location() for other, found in tables.items() if other != name}
    left, _ = unreached(table, others)
    found = [file for file in left if file.path.endswith(".avro") and _is_leftover(table, file.path, subjects)]
    delete(table.io, table.location(), found)


def _is_leftover(table: Table, path: str, subjects: Subjects) -> bool:
    try:
        return are_in_avro(table.io.new_input(address(table, path)), subjects)
    except (ValueError, EOFError, zlib.error):
        return True


def _pending(settings: Settings, name: str) -> Path:
    return settings.home / "erasure" / f"{name}.json"


def _older(table: Table) -> list[int]:
    return [s.snapshot_id for s in table.snapshots() if s.snapshot_id != table.metadata.current_snapshot_id]


def _current(table: Table) -> list[DataFile]:
    return [task.file for task in table.scan().plan_files()]


@contextmanager
def _session(settings: Settings, subjects: Subjects) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB session that knows the customers."""
    import pyarrow as pa

    with session(settings) as duck:
        for table, values in (("erased_ids", subjects.ids), ("erased_hmacs", subjects.hmacs)):
            duck.register(f"_{table}", pa.table({"value": pa.array(values, pa.string())}))
            duck.execute(f"CREATE TEMP TABLE {table} AS FROM _{table}")
        yield duck


def _hits(duck: duckdb.DuckDBPyConnection, table: Table) -> dict[str, int]:
    """Data files of any snapshot that hold rows of the customers, with the number of these."""
    paths = {
        entry.data_file.file_path.removeprefix("file://"): entry.data_file.file_path
        for manifest in manifests(table)
        if not manifest.content
        for entry in manifest.fetch_manifest_entry(table.io)
    }
    if not paths:
        return {}
    rows = duck.execute(
        f"SELECT filename, count(*) FROM {rows_of(table, list(paths))} WHERE {_condition(table)} GROUP BY filename"
    ).fetchall()
    return {paths[name]: count for name, count in rows}


def _condition(table: Table) -> str:
    """SQL that holds for the customers' rows; empty for a table that can't name one."""
    names = {field.name for field in table.schema().fields if str(field.field_type) == "string"}
    found = []
    if ID_KEY in names:
        found.append(_is_id(quoted(ID_KEY)))
    if HMAC_KEY in names:
        found.append(_is_hmac(quoted(HMAC_KEY)))
    for name in JSON_COLUMNS:
        if name in names:
            cell = f"CASE WHEN json_valid({quoted(name)}) THEN {quoted(name)} END"
            found.append(_is_id(f"json_extract_string({cell}, '$.{ID_KEY}')"))
            found.append(_is_hmac(f"json_extract_string({cell}, '$.{HMAC_KEY}')"))
    return f"({' OR '.join(found)})" if found else ""


def _is_id(cell: str) -> str:
    blanks = " || ".join(f"chr({ord(blank)})" for blank in BLANKS)
    return f"trim({cell}, {blanks}) IN (SELECT value FROM erased_ids)"


def _is_hmac(cell: str) -> str:
    return f"{cell} IN (SELECT value FROM erased_hmacs)"


def _is_in_bounds(table: Table, subjects: Subjects, *, are_removed: bool = False) -> bool:
    """Whether a manifest names a customer as the smallest or largest value of a file.

    Args:
        table: The table.
        subjects: The customers.
        are_removed: Look only at the files that the current snapshot says were removed.
    """
    from pyiceberg.manifest import ManifestEntryStatus

    fields = [f.field_id for f in table.schema().fields if f.name in {ID_KEY, HMAC_KEY, *JSON_COLUMNS}]
    entries = (
        entry.data_file
        for manifest in manifests(table, without=_older(table) if are_removed else ())
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        if not are_removed or entry.status is ManifestEntryStatus.DELETED
    )
    bounds = ((file.lower_bounds or {}, file.upper_bounds or {}) for file in entries)
    return any(subjects.are_in(values.get(field, b"")) for both in bounds for values in both for field in fields)
