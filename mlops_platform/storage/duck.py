"""DuckDB sessions: one place that sets time zone, memory and where it spills.

Does not belong here: queries.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from mlops_platform.settings import Settings


@contextmanager
def session(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection in the business time zone, with bounded memory, spilling into the home.

    Extensions are never fetched: the platform makes no connection it was not asked for.
    """
    import duckdb

    connection = duckdb.connect(
        config={
            "memory_limit": f"{settings.memory_limit_mb}MB",
            "temp_directory": str(settings.home / "tmp"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    try:
        connection.execute("SET TimeZone = $zone", {"zone": settings.timezone})
        yield connection
    finally:
        connection.close()


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'
