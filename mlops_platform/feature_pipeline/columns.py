"""Rows of features as columns, whatever holds them: DataFrame, Arrow table or dictionaries.

Numbers come out as float64 with NaN for what is missing, texts as the values that occur and which of them each row
holds. Does not belong here: what a model makes of them (`transformer.py`).
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

import numpy as np

from mlops_platform.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Rows: TypeAlias = pd.DataFrame | pa.Table | Mapping[str, Any] | Sequence[Mapping[str, Any]] | "Columns"

# What JSON and Arrow give: NumPy reads these itself, None as NaN.
_PLAIN = frozenset({int, float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts.

    Args:
        values: Texts, None for missing; one may stand there more than once.
        which: For each row its place in `values`; None: row n holds value n.
    """

    values: Sequence[str | None]
    which: NDArray[np.int64] | None = None

    def rows(self, place: int) -> int | NDArray[np.int64]:
        """The row or rows that hold the value at a place."""
        return place if self.which is None else np.flatnonzero(self.which == place)

    def counts(self) -> list[int]:
        """The number of rows that hold each value."""
        if self.which is None:
            return [1] * len(self.values)
        found: list[int] = np.bincount(self.which, minlength=len(self.values)).tolist()
        return found


class Columns(Protocol):
    """Rows as columns."""

    @property
    def names(self) -> Collection[str]:
        """Names of the columns."""

    @property
    def size(self) -> int:
        """Number of rows."""

    def numbers(self, names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
        """The named columns in their order, in blocks of one or more that stand side by side; NaN for missing.

        Raises:
            InputError: A column is missing or holds a value that is no number.
        """

    def texts(self, name: str) -> Texts:
        """A column of texts.

        Raises:
            InputError: It is missing or holds a value that is no text.
        """

    def is_text(self, name: str) -> bool:
        """Whether the column holds texts and nothing else, missing values apart."""


def columns_of(rows: Rows) -> Columns:
    """The rows as columns; a single dictionary is one row.

    Raises:
        InputError: They are nothing that holds rows.
    """
    found: Any = rows
    if hasattr(found, "numbers") and hasattr(found, "texts"):
        own: Columns = found
        return own
    if isinstance(found, Mapping):
        return _Records([found])
    if hasattr(found, "iloc") and hasattr(found, "columns"):
        return _Table(len(found), list(found.columns), found.__getitem__)
    if hasattr(found, "__arrow_c_stream__"):
        import pyarrow as pa

        table = pa.table(found)
        return _Table(table.num_rows, table.column_names, table.column)
    if isinstance(found, Sequence) and all(isinstance(row, Mapping) for row in found):
        return _Records(found)
    raise InputError(
        f"the rows are {type(found).__name__}", expected="a DataFrame, an Arrow table or dictionaries, one a row"
    )


class _Records:
    """One dictionary a row."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    @property
    def names(self) -> Collection[str]:
        return {name for row in self._rows for name in row}

    @property
    def size(self) -> int:
        return len(self._rows)

    def numbers(self, names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
        # One block: the single row of a request is read by one call of NumPy.
        yield _block(names, self._cells(names))

    def texts(self, name: str) -> Texts:
        return Texts(_texts(name, [row[0] for row in self._cells((name,))]))

    def is_text(self, name: str) -> bool:
        return _are_texts(row[0] for row in self._cells((name,)))

    def _cells(self, names: Sequence[str]) -> list[list[Any]]:
        try:
            return [[row[name] for name in names] for row in self._rows]
        except KeyError as error:
            _refuse_missing(str(error.args[0]))


class _Table:
    """Columns of an Arrow table or a DataFrame; one that holds Python's own objects is read cell by cell."""

    def __init__(self, size: int, names: Sequence[str], column: Callable[[str], Any]) -> None:
        self._size, self._names, self._column = size, names, column

    @property
    def names(self) -> Collection[str]:
        return self._names

    @property
    def size(self) -> int:
        return self._size

    def numbers(self, names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
        for name in names:
            column = self._read(name)
            if isinstance(column, list):
                yield _block((name,), [[cell] for cell in column])
            else:
                yield _arrow_numbers(name, column).reshape(-1, 1)

    def texts(self, name: str) -> Texts:
        column = self._read(name)
        return Texts(_texts(name, column)) if isinstance(column, list) else _arrow_texts(name, column)

    def is_text(self, name: str) -> bool:
        column = self._read(name)
        if isinstance(column, list):
            return _are_texts(column)
        return _is_text_type(column.type) and column.null_count < len(column)

    def _read(self, name: str) -> Any:
        """The column as an Arrow array in chunks, or as a list of Python's own objects."""
        import pyarrow as pa

        if name not in self._names:
            _refuse_missing(name)
        if list(self._names).count(name) > 1:
            raise InputError(f"the rows have more than one column {name}", expected="each feature once")
        found = self._column(name)
        if not isinstance(found, pa.ChunkedArray):
            if found.dtype == object:
                return found.tolist()
            try:
                found = pa.chunked_array([pa.array(found, from_pandas=True)])
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
                raise InputError(f"feature {name} can't be read from a column of {found.dtype}: {error}") from error
        if pa.types.is_dictionary(found.type) and not _is_text_type(found.type):
            found = found.cast(found.type.value_type)
        # Arrow turns a decimal into a neighbour of the nearest float now and then; Python never does.
        return found.to_pylist() if pa.types.is_decimal(found.type) else found


def _arrow_numbers(name: str, column: pa.ChunkedArray) -> NDArray[np.float64]:
    import pyarrow as pa

    if column.null_count == len(column):
        return np.full(len(column), np.nan)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"feature {name} holds a value that is no number: its column is of type {kind}")
    # Not `safe`: a whole number beyond 2⁵³ becomes the nearest float, as in any other kind of rows.
    numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
    return numbers


def _arrow_texts(name: str, column: pa.ChunkedArray) -> Texts:
    import pyarrow as pa

    if column.null_count == len(column):
        return Texts([None], np.zeros(len(column), dtype=np.int64))
    if not _is_text_type(column.type):
        raise InputError(f"feature {name} holds a value that is no text: its column is of type {column.type}")
    # One dictionary for all chunks; null becomes the place after its last.
    encoded = column.dictionary_encode().combine_chunks()
    values = encoded.dictionary.to_pylist()
    return Texts([*values, None], encoded.indices.cast(pa.int64()).fill_null(len(values)).to_numpy())


def _is_text_type(kind: pa.DataType) -> bool:
    import pyarrow as pa

    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_string_view(held))


def _block(names: Sequence[str], cells: list[list[Any]]) -> NDArray[np.float64]:
    """Cells as numbers, shape (rows, names)."""
    if set(map(type, chain.from_iterable(cells))) <= _PLAIN:
        try:
            return np.array(cells, dtype=np.float64).reshape(len(cells), len(names))
        except OverflowError:
            pass  # One is a whole number beyond the floats: the conversion cell by cell names it.
    plain = [[_number(name, cell) for name, cell in zip(names, row, strict=True)] for row in cells]
    return np.array(plain, dtype=np.float64).reshape(len(cells), len(names))


def _number(name: str, cell: Any) -> float:
    if _is_missing(cell):
        return math.nan
    if isinstance(cell, Real | Decimal | np.bool_):
        try:
            return float(cell)
        except (OverflowError, ValueError) as error:
            raise InputError(f"feature {name} holds a value that is no number: {error}") from error
    raise InputError(f"feature {name} holds a value that is no number: {reprlib.repr(cell)}")


def _texts(name: str, cells: Sequence[Any]) -> list[str | None]:
    found: list[str | None] = []
    for cell in cells:
        if not isinstance(cell, str) and not _is_missing(cell):
            raise InputError(f"feature {name} holds a value that is no text: {reprlib.repr(cell)}")
        found.append(cell if isinstance(cell, str) else None)
    return found


def _are_texts(cells: Iterable[Any]) -> bool:
    known = [isinstance(cell, str) for cell in cells if not _is_missing(cell)]
    return bool(known) and all(known)


def _is_missing(cell: Any) -> bool:
    """None, NaN, and pandas' NA and NaT."""
    if cell is None or isinstance(cell, str | int):
        return cell is None
    if isinstance(cell, float):
        return math.isnan(cell)
    import pandas as pd

    return bool(pd.api.types.is_scalar(cell)) and bool(pd.isna(cell))


def _refuse_missing(name: str) -> NoReturn:
    raise InputError(f"feature {name} is missing", expected="every feature the model was trained on")
