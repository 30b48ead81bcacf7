"""Rows of features as a type: JSON that fits is read and checked in one pass, and is columns without a dictionary.

What the type refuses need not be wrong (it takes no `3.0` for an integer): `validation.py` decides, and names what is.
Does not belong here: HTTP, messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import msgspec
import numpy as np

from mlops_platform.feature_pipeline.columns import Texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mlops_platform.inference_pipeline.validation import Rule


def row_type(rules: Sequence[Rule]) -> type[msgspec.Struct]:
    """The type of a row that fits the rules: a field each, in their order."""
    fields = [(rule.name, _field(rule)) for rule in rules]
    return msgspec.defstruct("Row", fields, frozen=True, forbid_unknown_fields=True, gc=False)


def body_decoder(row: type[msgspec.Struct], max_rows: int) -> Callable[[bytes], Any]:
    """Reads `{"features": {…}}` and `{"features": [{…}, …]}` as an object with `features`: a row, or a list of them.

    What it raises for any other body is a `msgspec.MsgspecError`, a `RecursionError` or a `UnicodeDecodeError`.
    """
    rows: Any = Annotated[list[row], msgspec.Meta(min_length=1, max_length=max_rows)]  # type: ignore[valid-type]
    either: Any = Union[row, rows]  # noqa: UP007 - made of values, not of names
    body = msgspec.defstruct("Body", [("features", either)], frozen=True, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(body).decode


class TypedRows:
    """Rows of one type as columns, for `FeatureTransformer`.

    Args:
        rows: n rows.
    """

    def __init__(self, rows: Sequence[msgspec.Struct]) -> None:
        self._cells = [msgspec.structs.astuple(row) for row in rows]
        self._places = _places(type(rows[0])) if rows else {}

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def names(self) -> Collection[str]:
        """Names of the columns."""
        return self._places.keys()

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self._cells)

    def numbers(self, names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
        """The named columns as one block."""
        cells = itemgetter(*(self._places[name] for name in names)) if names else lambda _: ()
        found: NDArray[np.float64] = np.array([cells(row) for row in self._cells], dtype=np.float64)
        yield found.reshape(len(self._cells), len(names))

    def texts(self, name: str) -> Texts:
        """A column of texts."""
        place = self._places[name]
        return Texts([row[place] for row in self._cells])

    def is_text(self, name: str) -> bool:
        """Whether the column holds texts."""
        place = self._places[name]
        return all(isinstance(row[place], str) for row in self._cells)


@lru_cache(maxsize=4)
def _places(row: type[msgspec.Struct]) -> dict[str, int]:
    return {name: place for place, name in enumerate(row.__struct_fields__)}


def _field(rule: Rule) -> Any:
    if rule.allowed is not None:
        # A fraction can be no such type: a row with one is left to `validation.py`.
        plain = [value for value in rule.allowed if isinstance(value, str | int)]
        return Literal[tuple(plain)] if plain else None
    if rule.is_text:
        return str
    if rule.is_integer:
        return Annotated[int, msgspec.Meta(ge=int(rule.low), le=int(rule.high))]
    return Annotated[float, msgspec.Meta(ge=float(rule.low), le=float(rule.high))]
