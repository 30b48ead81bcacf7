"""Versions and deletions: which version of a row counts, what tombstones mean, which keys a CRM no longer has.

A tombstone cancels every row of its key that was not ingested after it; a row ingested after it lives again. Belongs
here: these rules as SQL over bronze rows, and the comparison of keys of a CRM without `deleted_at`. Does not belong
here: reading the CRM (`extraction.py`), the rows that follow (`ingestion.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.errors import SourceError
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.duck import quoted
from mlops_platform.storage.read import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb
    import pyarrow as pa

    from mlops_platform.data_pipeline.crm import SourceTable
    from mlops_platform.settings import Settings

# A small table may lose a few keys at once without anything being wrong.
FEW_KEYS = 10


def latest_first(updated_at: str, cells: Iterable[str]) -> str:
    """The order of a row's versions, the one that counts first.

    Equal times of change and of ingestion leave the choice open; the row's own text settles it the same way always.

    Args:
        updated_at: SQL of the time of change.
        cells: SQL of the CRM's columns as text.
    """
    text = ", ".join(f"{cell} DESC NULLS LAST" for cell in cells)
    return f"{updated_at} DESC NULLS LAST, _ingested_at DESC, {text}"


def define_alive(duck: duckdb.DuckDBPyConnection, held: str, key: str) -> None:
    """Makes the view `alive`, the held rows that no tombstone cancels, and the table `tombstones` of keys.

    Args:
        duck: The connection.
        held: A source's bronze rows in it.
        key: The column that identifies a row.
    """
    duck.execute(
        f"CREATE TEMP TABLE tombstones AS SELECT {quoted(key)} AS key, max(_ingested_at) AS died_at "
        f"FROM {held} WHERE _is_tombstone GROUP BY ALL"
    )
    duck.execute(
        f"CREATE TEMP VIEW alive AS SELECT held.* FROM {held} AS held LEFT JOIN tombstones "
        f"ON held.{quoted(key)} = tombstones.key WHERE held._is_tombstone IS NOT TRUE "
        "AND (died_at IS NULL OR held._ingested_at > died_at)"
    )


def compare_keys(duck: duckdb.DuckDBPyConnection, table: SourceTable, batches: Iterable[pa.RecordBatch]) -> None:
    """Makes the tables `gone` (live keys the CRM lacks) and `restored` (dead keys it has) of a column `key`.

    Args:
        duck: A connection with `define_alive`'s relations.
        table: The table.
        batches: All keys of the CRM's table, in a column of the key's name.
    """
    key = quoted(table.key)
    duck.execute("CREATE TEMP TABLE there (key VARCHAR)")
    for batch in batches:
        duck.register("_batch", batch)
        duck.execute(f"INSERT INTO there SELECT DISTINCT {key} FROM _batch WHERE {key} IS NOT NULL")
    duck.execute(f"CREATE TEMP TABLE live AS SELECT DISTINCT {key} AS key FROM alive WHERE trim({key}) <> ''")
    duck.execute("CREATE TEMP TABLE gone AS SELECT key FROM live ANTI JOIN there USING (key)")
    duck.execute(
        "CREATE TEMP TABLE restored AS SELECT key FROM tombstones "
        "WHERE key NOT IN (SELECT key FROM live) AND key IN (SELECT key FROM there)"
    )


def require_few_gone(duck: duckdb.DuckDBPyConnection, settings: Settings, table: SourceTable, url: str) -> int:
    """The number of keys gone.

    Raises:
        SourceError: So many that the CRM more likely archives old rows, or was half loaded.
    """
    gone = int(scalar(duck, "SELECT count(*) FROM gone"))
    live = int(scalar(duck, "SELECT count(*) FROM live"))
    if gone >= FEW_KEYS and gone > settings.max_deleted_share * live:
        raise SourceError(
            f"{gone:,} of {live:,} keys of {table.own_name} are gone from the CRM {mask_secrets(url)}",
            expected=f"at most {settings.max_deleted_share:.0%} to vanish at once; nothing was written",
            hint="if the CRM archives old rows, set MLOPS_DELETIONS=ignore; if they were really deleted, raise "
            "MLOPS_MAX_DELETED_SHARE for one run.",
        )
    return gone
