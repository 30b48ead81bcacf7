"""Reading the CRM's text: SQL macros that turn a cell into a time, a day or money, or null where it is none.

Does not belong here: what follows from a null (`processing.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

# Iceberg's writer holds the years 1 to 9999; DuckDB also reads infinity, epoch and years before Christ.
_TIME = """CREATE OR REPLACE TEMP MACRO readable_time(cell) AS (
    CASE WHEN try_cast(trim(cell) AS TIMESTAMPTZ)
        BETWEEN TIMESTAMPTZ '0001-01-02 00:00:00+00' AND TIMESTAMPTZ '9999-12-30 00:00:00+00'
    THEN try_cast(trim(cell) AS TIMESTAMPTZ) END)"""

# Half-even to cents, in decimals throughout: DuckDB's cast rounds halves away from zero, and `/` gives a DOUBLE.
_DECIMAL = "try_cast(trim(cell) AS DECIMAL(38, 12))"
_CENTS = f"(({_DECIMAL})::DECIMAL(34, 12) * 100::DECIMAL(3, 0))::DECIMAL(37, 12)"
_ROUNDED = f"""CASE WHEN abs({_CENTS} - trunc({_CENTS})) = 0.5 AND trunc({_CENTS}) % 2 = 0
    THEN trunc({_CENTS}) ELSE round({_CENTS}) END"""
# Below the amount whose rounding would leave DECIMAL(18, 2).
_MONEY = f"""CREATE OR REPLACE TEMP MACRO readable_money(cell) AS (
    CASE WHEN abs({_DECIMAL}) < 9999999999999999.995
    THEN ((({_ROUNDED})::DECIMAL(20, 0)) * 0.01::DECIMAL(3, 2))::DECIMAL(18, 2) END)"""


def define_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes `readable_time(text)` and `readable_money(text)` in a session, which has the business time zone."""
    connection.execute(_TIME)
    connection.execute(_MONEY)
