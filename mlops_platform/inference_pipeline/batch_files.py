"""The files of a batch: where a path leads, and Parquet files that appear when they are complete.

What is written lies under the warehouse, in its folder or its bucket; what is read may also lie elsewhere on this
machine. Belongs here: refusing paths that lead anywhere else, a file written with bounded memory, leaving one alone
that holds the same rows already. Does not belong here: which rows.
"""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.contracts import all_contracts
from mlops_platform.errors import InputError, StorageError
from mlops_platform.storage.content import digest
from mlops_platform.storage.duck import parquet_source, session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import TracebackType

    import pyarrow as pa

    from mlops_platform.settings import Settings

ENDING, NOT_SCORED_ENDING = ".parquet", ".not_scored.parquet"
# Rows of a row group, whatever the size of the batches that are scored.
GROUP_ROWS = 131_072
# DuckDB takes these for patterns of file names.
_PATTERN_SIGNS = set("*?[]{}\\")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A Parquet file under the warehouse.

    Args:
        settings: The home.
        relative: Its path there.
    """

    settings: Settings
    relative: str

    @property
    def address(self) -> str:
        """Where it is: a path, or s3://bucket/key."""
        return f"{self.settings.warehouse_url or self.settings.warehouse}/{self.relative}"

    @property
    def not_scored(self) -> OutputFile:
        """The file beside it that says what was not scored."""
        return OutputFile(self.settings, self.relative.removesuffix(ENDING) + NOT_SCORED_ENDING)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A file of this machine to write before `replace`; what is left of it goes at the end.

        Raises:
            StorageError: It can't be written.
        """
        is_local = self.settings.warehouse_url is None
        folder = Path(self.address).parent if is_local else self.settings.home / "tmp"
        path = folder / f".{secrets.token_hex(8)}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self.address} can't be written: {error.strerror or error}") from error

    def holds(self, draft: Path, volatile: Collection[str]) -> bool:
        """Whether the file is there and has the draft's rows, but for the volatile columns."""
        import duckdb

        with session(self.settings) as duck:
            sources = [parquet_source([str(path)]) for path in (self.address, draft)]
            try:
                old, new = (duck.sql(f"SELECT * FROM {source} LIMIT 0") for source in sources)
            except duckdb.Error:
                # There is none, or it is no Parquet: either way a new one takes its place.
                return False
            kept = [name for name in new.columns if name not in volatile]
            is_alike = (old.columns, old.types) == (new.columns, new.types)
            return is_alike and digest(duck, sources[0], kept) == digest(duck, sources[1], kept)

    def replace(self, draft: Path) -> None:
        """Puts the draft in the file's place, in one step."""
        if self.settings.warehouse_url is None:
            draft.replace(self.address)
            return
        from pyarrow.fs import LocalFileSystem, copy_files
        from pyiceberg.io.pyarrow import PyArrowFileIO

        bucket = PyArrowFileIO(self.settings.file_properties).fs_by_scheme("s3", None)
        key = self.address.removeprefix("s3://")
        copy_files(str(draft), key, source_filesystem=LocalFileSystem(), destination_filesystem=bucket)


class ParquetFile:
    """A Parquet file being written, whose row groups do not depend on where a batch ends.

    Args:
        path: The new file.
        schema: Its columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.schema = schema
        self._held: list[pa.RecordBatch] = []
        self._waiting = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes rows; writes when a row group is full."""
        self._held.append(batch)
        self._waiting += batch.num_rows
        while self._waiting >= GROUP_ROWS:
            self._write(GROUP_ROWS)

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._waiting:
            self._write(self._waiting)
        self._writer.close()

    def _write(self, size: int) -> None:
        import pyarrow as pa

        rows = pa.Table.from_batches(self._held, self.schema)
        self._writer.write_table(rows.slice(0, size).combine_chunks(), row_group_size=size)
        self._held, self._waiting = rows.slice(size).to_batches(), rows.num_rows - size


def output_file(settings: Settings, path: str | Path) -> OutputFile:
    """The file that a path such as `ml/predictions/batch_20240115.parquet` names.

    Args:
        settings: The home; with its warehouse in a bucket, a bucket in the path must be that one, else it is ignored.
        path: Below the warehouse, or an absolute path that leads there.

    Raises:
        InputError: It does not end in .parquet, leads out of the warehouse or among a table's files, or holds a sign
            that means something else.
    """
    text = _plain(path)
    relative = _relative(settings, text)
    parts = relative.split("/")
    if not parts[-1].removesuffix(ENDING) or not text.endswith(ENDING):
        raise InputError(f"output_path is {text!r}", expected=f"a file whose name ends in {ENDING}")
    if ".".join(parts[:2]) in all_contracts() and parts[2:3] in (["data"], ["metadata"]):
        raise InputError(
            f"{text!r} lies among the files of the table {'.'.join(parts[:2])}", expected="a path outside of them"
        )
    if settings.warehouse_url is None:
        target, root = settings.warehouse / relative, settings.warehouse.resolve()
        if not target.parent.resolve().is_relative_to(root):
            raise _outside(settings, text)
        if target.is_dir():
            raise InputError(f"{target} is a folder", expected=f"a file whose name ends in {ENDING}")
    return OutputFile(settings, relative)


def input_file(settings: Settings, path: str | Path) -> str:
    """Where a Parquet file is: below the warehouse, or else where this machine has it.

    Raises:
        InputError: It is in neither place, does not end in .parquet, or holds a sign that means something else.
    """
    text = _plain(path)
    if not text.endswith(ENDING):
        raise InputError(f"{text!r} can't be read as rows to score", expected=f"a file whose name ends in {ENDING}")
    if Path(text).is_file() and not text.startswith("s3"):
        return text
    try:
        below = OutputFile(settings, _relative(settings, text)).address
    except InputError:
        below = ""
    if below.startswith("s3://") or Path(below).is_file():
        return below
    raise InputError(f"there is no file {text!r}", expected="a Parquet file below the warehouse or of this machine")


def _plain(path: str | Path) -> str:
    text = str(path)
    if not text.isprintable() or _PATTERN_SIGNS & set(text):
        signs = " ".join(sorted(_PATTERN_SIGNS))
        raise InputError(f"the path is {text!r}", expected=f"printable characters, and none of {signs}")
    return text


def _relative(settings: Settings, text: str) -> str:
    """The path below the warehouse."""
    named = re.fullmatch(r"s3[an]?://([^/]+)/+(.*)", text)
    inside = named[2] if named is not None else text
    if settings.warehouse_url is not None:
        own, _, folder = settings.warehouse_url.removeprefix("s3://").partition("/")
        if named is not None and named[1] != own:
            raise InputError(f"{text!r} lies in the bucket {named[1]}", expected=f"a path in {own}, the warehouse's")
        inside = inside.removeprefix(f"{folder}/") if named is not None and folder else inside
    elif named is None and text.startswith("/"):
        if not text.startswith(f"{settings.warehouse}/"):
            raise _outside(settings, text)
        inside = text.removeprefix(f"{settings.warehouse}/")
    parts = [part for part in inside.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise _outside(settings, text)
    return "/".join(parts)


def _outside(settings: Settings, text: str) -> InputError:
    return InputError(
        f"{text!r} leads out of the warehouse",
        expected=f"a path below {settings.warehouse_url or settings.warehouse}, such as ml/predictions/batch.parquet",
    )
