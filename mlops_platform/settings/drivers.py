"""The driver in a PostgreSQL address: SQLAlchemy 2.1 means psycopg 3 where none is named, and psycopg2 is what we have.

Does not belong here: connecting.
"""

from __future__ import annotations

_PLAIN, _WITH_DRIVER = "postgresql://", "postgresql+psycopg2://"


def with_driver(url: str) -> str:
    """The address as SQLAlchemy needs it; of another database as it is."""
    return url.replace(_PLAIN, _WITH_DRIVER, 1) if url.startswith(_PLAIN) else url


def without_driver(url: str) -> str:
    """The address as everybody else writes it."""
    return url.replace(_WITH_DRIVER, _PLAIN, 1) if url.startswith(_WITH_DRIVER) else url
