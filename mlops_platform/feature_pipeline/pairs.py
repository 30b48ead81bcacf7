"""Pairs: the customers and days somebody brings to a point-in-time read, checked.

Belongs here: what counts as a customer's id and as a day. Does not belong here: the read itself (`point_in_time.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from datetime import date

    import pandas as pd

    Pairs: TypeAlias = pa.Table | pd.DataFrame | Iterable[tuple[str, date]]

_COLUMNS = ("customer_id", "date")
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


def read_pairs(pairs: Pairs) -> pa.Table:
    """The pairs as a table of customer_id (text) and date (day), in their order.

    A date may be a date, an ISO text or a timestamp at midnight without a time zone.

    Raises:
        InputError: A column is missing, holds a null, or something else than customers' ids or days.
    """
    cells = _cells(pairs)
    read = {name: _column(name, cells[name]) for name in _COLUMNS}
    return pa.table({"customer_id": _ids(read["customer_id"]), "date": _days(read["date"])})


def _cells(pairs: Any) -> dict[str, Any]:
    """The two columns as they were given."""
    names = getattr(pairs, "column_names", getattr(pairs, "columns", None))
    if names is not None:
        for name in _COLUMNS:
            if list(names).count(name) != 1:
                raise InputError(
                    f"the pairs have {'no' if name not in names else 'more than one'} column {name}; "
                    f"their columns are {', '.join(map(str, names))}",
                    expected="one column customer_id and one column date",
                    hint="rename the columns that hold the customers and the days.",
                )
        return {name: pairs[name] for name in _COLUMNS}
    try:
        rows = [(customer_id, day) for customer_id, day in pairs]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the pairs are no (customer_id, date) tuples: {error}", expected='tuples such as ("C1", date(2024, 1, 31))'
        ) from error
    return {"customer_id": [row[0] for row in rows], "date": [row[1] for row in rows]}


def _column(name: str, cells: Any) -> pa.ChunkedArray:
    try:
        found = cells if isinstance(cells, pa.ChunkedArray) else pa.chunked_array([pa.array(cells, from_pandas=True)])
        if pa.types.is_dictionary(found.type):
            found = found.cast(found.type.value_type)
    except _UNREADABLE as error:
        raise InputError(f"the pairs' column {name} holds no one type of values: {error}") from error
    if found.type == pa.date32() and not isinstance(cells, pa.ChunkedArray):
        _refuse_cut_off_times(name, cells)
    if found.null_count:
        raise InputError(
            f"the pairs' column {name} holds {found.null_count} null(s), "
            f"the first in row {pc.index(pc.is_null(found), True).as_py()} (counted from 0)",
            expected="a customer and a day in every row",
            hint="leave out the rows without one.",
        )
    return found


def _refuse_cut_off_times(name: str, cells: Any) -> None:
    """Arrow takes cells that begin with a date for dates, and cuts the time of day off the timestamps among them."""
    import pandas as pd

    if any(isinstance(cell, datetime) and not pd.isna(cell) for cell in cells):
        raise InputError(f"the pairs' column {name} holds no one type of values: dates beside timestamps")


def _ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # An empty column has no type of its own. Numbers are not turned into text: "007" is another customer than "7".
    if column.type != pa.null() and not _is_text(column.type):
        raise InputError(
            f"the pairs' column customer_id holds {column.type}",
            expected="text, as in the feature store",
            hint="turn the ids into the text they have there, with leading zeros if any.",
        )
    return column.cast(pa.string())


def _days(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if kind in {pa.null(), pa.date32()} or pa.types.is_date64(kind):
        return column.cast(pa.date32())
    if _is_text(kind):
        try:
            return column.cast(pa.date32())
        except pa.ArrowInvalid as error:
            raise InputError(
                f"the pairs' column date holds a text that is no day: {error}", expected="days such as 2024-01-31"
            ) from error
    if not pa.types.is_timestamp(kind) or kind.tz is not None:
        raise InputError(
            f"the pairs' column date holds {kind}",
            expected="local days: dates, ISO texts such as 2024-01-31, or timestamps at midnight without a time zone",
            hint="turn instants into the local days of MLOPS_TIMEZONE first.",
        )
    days = column.cast(pa.date32())
    off = pc.not_equal(days.cast(kind), column)
    if pc.any(off).as_py():
        row = pc.index(off, True).as_py()
        raise InputError(
            f"the pairs' column date holds a time of day: {column[row].as_py()} in row {row} (counted from 0)",
            expected="days: a feature_date's row holds what was known at the end of that day",
            hint="for an instant, name the day before it.",
        )
    return days


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
