"""`_feature_hash`: 64 bits that change with any cell of a row, the same on every machine, thread count and engine.

A cell's bits (of a double's own, -0.0 as 0.0; of a text, BLAKE2b's first 8 bytes) are multiplied by an odd number made
from the column's name and added up over the columns; splitmix64's finalizer (Steele, Lea, Flood 2014) mixes before and
after. Not against forgers: it tells whether a row is another. Does not belong here: which columns are hashed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

_HEX = np.array([f"{byte:02x}".encode() for byte in range(256)], "S2").view(np.uint16)


def row_hashes(rows: pa.Table, known: Mapping[str, NDArray[np.uint64]] | None = None) -> pa.Array:
    """The hash of every row: 16 hexadecimal digits.

    Args:
        rows: Columns of whole numbers, doubles, dates and texts without nulls; their order does not matter.
        known: For some columns what `cell_bits` says of them.
    """
    import pyarrow as pa

    total = np.zeros(rows.num_rows, np.uint64)
    for name in rows.schema.names:
        bits = known[name] if known is not None and name in known else cell_bits(rows[name])
        total += _mixed(bits) * np.uint64(_digest(name) | 1)
    digits = _HEX[_mixed(total).astype(">u8").view(np.uint8)]
    offsets = np.arange(rows.num_rows + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(rows.num_rows, pa.py_buffer(offsets), pa.py_buffer(digits))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def cell_bits(column: Any) -> NDArray[np.uint64]:
    """The 64 bits of each cell of an Arrow column; those of texts cost the most."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    if pa.types.is_dictionary(column.type):
        values = np.fromiter((_digest(str(value)) for value in column.dictionary), np.uint64, len(column.dictionary))
        found: NDArray[np.uint64] = values[column.indices.to_numpy()]
        return found
    if pa.types.is_date(column.type):
        column = column.cast(pa.int32())
    numbers = column.to_numpy()
    if numbers.dtype.kind == "f":
        found = (numbers.astype(np.float64) + 0.0).view(np.uint64)
    else:
        found = numbers.astype(np.int64).view(np.uint64)
    return found


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
