"""Reading one file of any kind for ids: Parquet, Avro, SQLite, ZIP, gzip, JSON, and anything else as bytes.

A file's first bytes say what it is, not its name. Does not belong here: which files are read (`scan.py`).
"""

from __future__ import annotations

import gzip
import json
import mmap
import sqlite3
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa
    from pyiceberg.io import InputFile

    from mlops_platform.erasure.subjects import Subjects

_PARQUET, _AVRO, _SQLITE, _GZIP, _ZIP = b"PAR1", b"Obj\x01", b"SQLite format 3\x00", b"\x1f\x8b", b"PK\x03\x04"


def places(path: Path, subjects: Subjects) -> list[str]:
    """Where in the file a customer is named; a file that is not what it begins as is searched as bytes."""
    from pyarrow import ArrowException

    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    readers: dict[bytes, Callable[[Path, Subjects], Iterator[str]]] = {
        _PARQUET: _in_parquet,
        _AVRO: _in_avro,
        _SQLITE: _in_sqlite,
        _GZIP: _in_gzip,
        _ZIP: _in_zip,
    }
    reader = next((read for magic, read in readers.items() if head.startswith(magic)), _in_bytes)
    try:
        return sorted(set(reader(path, subjects)))
    except (ArrowException, sqlite3.Error, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, ValueError):
        return sorted({*_in_bytes(path, subjects), *_in_damaged(path, subjects)})


def _in_bytes(path: Path, subjects: Subjects) -> Iterator[str]:
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:1] in {b"{", b"["} and (is_named := _is_named_in_json(data, subjects)) is not None:
            if is_named:
                yield "JSON"
        else:
            yield from (f"byte {position}" for position in subjects.places(data))


def _is_named_in_json(data: mmap.mmap, subjects: Subjects) -> bool | None:
    """Whether JSON, or JSON lines, name a customer; None if it is neither."""
    text = data[:]
    try:
        return subjects.are_named_in(json.loads(text))
    except ValueError:
        pass
    try:
        return any(subjects.are_named_in(json.loads(line)) for line in text.splitlines() if line.strip())
    except ValueError:
        return None


def _in_damaged(path: Path, subjects: Subjects) -> Iterator[str]:
    """Binary formats put lengths and pages between texts: of a file that can't be read, any trace counts."""
    data = path.read_bytes()
    if any(name.encode() in data for name in (*subjects.ids, *subjects.hmacs)):
        yield "a damaged file"


def _in_parquet(path: Path, subjects: Subjects) -> Iterator[str]:
    """Every text of every column with its dictionary, the columns' statistics, and the footer's own texts."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        metadata = file.metadata
    if any(subjects.are_in(key) or subjects.are_in(value) for key, value in (metadata.metadata or {}).items()):
        yield "footer"
    leaves = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    texts = [(index, leaf.path) for index, leaf in enumerate(leaves) if leaf.physical_type == "BYTE_ARRAY"]
    # Read as dictionaries: a dictionary page may hold texts that no row uses any more.
    with pyarrow.parquet.ParquetFile(path, read_dictionary=[name for _, name in texts]) as file:
        for group in range(metadata.num_row_groups):
            for index, name in texts:
                statistics = metadata.row_group(group).column(index).statistics
                has_bounds = statistics is not None and statistics.has_min_max
                if has_bounds and _are_in_record([statistics.min, statistics.max], subjects):
                    yield f"statistics of {name}"
                chunks = file.read_row_group(group, columns=[name]).column(0).chunks
                if any(_are_in_record(_distinct(chunk), subjects) for chunk in chunks):
                    yield f"column {name}"


def _distinct(values: pa.Array) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        return list(values.dictionary.to_pylist())
    return list((values if pa.types.is_nested(values.type) else values.unique()).to_pylist())


def _in_avro(path: Path, subjects: Subjects) -> Iterator[str]:
    """Every text and byte string of every record, such as the bounds in a manifest, and the header."""
    from pyiceberg.io.pyarrow import PyArrowFileIO

    if are_in_avro(PyArrowFileIO().new_input(str(path)), subjects):
        yield "record"


def are_in_avro(source: InputFile, subjects: Subjects) -> bool:
    """Whether an Avro file, such as a manifest, names a customer.

    Raises:
        ValueError: It is none, or is cut short; so do EOFError and zlib.error.
    """
    from pyiceberg.avro.file import AvroFile
    from pyiceberg.typedef import Record

    with AvroFile[Record](source) as reader:
        is_in_header = any(subjects.are_in_text(value) for value in reader.header.meta.values())
        return is_in_header or any(_are_in_record(record, subjects) for record in reader)


def _are_in_record(value: Any, subjects: Subjects) -> bool:
    from pyiceberg.typedef import Record

    if isinstance(value, str | bytes):
        return _are_in_value(value, subjects)
    if isinstance(value, Record):
        return any(_are_in_record(value[index], subjects) for index in range(len(value)))
    if isinstance(value, dict):
        return any(_are_in_record(cell, subjects) for pair in value.items() for cell in pair)
    return isinstance(value, list) and any(_are_in_record(cell, subjects) for cell in value)


def _in_sqlite(path: Path, subjects: Subjects) -> Iterator[str]:
    """Every text and byte string of every table."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
    # Text that is no UTF-8 is read all the same.
    connection.text_factory = bytes
    try:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            name = table.decode()
            rows = connection.execute(f"SELECT * FROM {_quoted(name)}")
            columns = [column[0] for column in rows.description]
            named: set[str] = set()
            for row in rows:
                named |= {c for c, cell in zip(columns, row, strict=True) if _is_in_cell(cell, subjects)}
            for column in sorted(named):
                yield f"table {name}, column {column}"
    finally:
        connection.close()


def _is_in_cell(cell: Any, subjects: Subjects) -> bool:
    return isinstance(cell, bytes) and _are_in_value(cell, subjects)


def _in_gzip(path: Path, subjects: Subjects) -> Iterator[str]:
    with gzip.open(path, "rb") as file:
        if subjects.are_in(file.read()):
            yield "compressed text"


def _in_zip(path: Path, subjects: Subjects) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if subjects.are_in_text(name) or subjects.are_in(archive.read(name)):
                yield f"member {name}"


def _are_in_value(value: str | bytes, subjects: Subjects) -> bool:
    """Whether a cell names a customer; JSON in it is read, since a number there is mostly something else."""
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if not subjects.are_in(data):
        return False
    if data[:1] == b"{":
        try:
            return subjects.are_named_in(json.loads(data))
        except ValueError:
            return True
    return True


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
