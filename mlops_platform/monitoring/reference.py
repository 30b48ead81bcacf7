"""The rows that data is compared with, where a person names them by a documented path.

A path that ends in `.parquet` is a file below the warehouse, or of this machine; any other names a table.
`ml/training_sets/train_v1.parquet`, where no such file exists, names the first training set that was published: its
train rows, as the table held them then (`train_v2` the second, and so on). Does not belong here: the reference of a
model version, which the drift report of a tick takes from the registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.contracts.ml import SPLITS, TARGET
from mlops_platform.errors import InputError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import parquet_source, session
from mlops_platform.storage.maintenance.rewriting import OPERATION
from mlops_platform.storage.paths import table_at

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

SPLIT, TRAIN = "split", SPLITS[0]
# Keys, labels and the split of a training set: no drift to look for.
NOT_COMPARED = frozenset({"customer_id", "feature_date", "target", TARGET, SPLIT})

_BUCKET = re.compile(r"s3[an]?://([^/]+)/+(.+)")
_TRAINING_SET = re.compile(r"ml/training_sets/train_v([1-9]\d*)\.parquet")


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows to compare with.

    Args:
        rows: The rows.
        source: Where they come from, for a person.
    """

    rows: pa.Table
    source: str


def read_reference(lake: Lake, path: str) -> Reference:
    """The rows at a path; of a training set's file those of its split `train`.

    Args:
        lake: The home's tables.
        path: Such as `ml/training_sets/train_v1.parquet` or `ml/features/customer_features/`, a bucket in front or not.

    Raises:
        InputError: There is no such file, training set or table, or the file is no Parquet.
        StorageError: The table's state has been expired.
    """
    if not path.endswith(".parquet"):
        snapshot = lake.snapshot(table_at(lake.settings, path))
        return Reference(snapshot.to_arrow(), f"{snapshot.contract.name}, snapshot {snapshot.snapshot_id}")
    inside, file = _file(lake.settings, path)
    named = _TRAINING_SET.fullmatch(inside)
    if named is not None and not _exists(lake.settings, file):
        state = _training_set(lake, path, int(named[1]))
        rows = state.to_arrow(where=[Condition(SPLIT, "=", TRAIN)])
        return Reference(rows, f"{state.contract.name}, snapshot {state.snapshot_id}, split {TRAIN}")
    return Reference(_train_rows(_read(lake.settings, path, file)), path)


def _file(settings: Settings, path: str) -> tuple[str, str]:
    """The path below the warehouse, and where the file is.

    Raises:
        InputError: The path lies in another bucket than the warehouse.
    """
    named = _BUCKET.fullmatch(path)
    inside = named[2] if named else path.removeprefix("./")
    if settings.warehouse_url is None:
        below = settings.warehouse / inside
        return inside, str(below if named or below.is_file() else Path(path))
    own, _, folder = settings.warehouse_url.removeprefix("s3://").partition("/")
    if named is None:
        return inside, path if Path(path).is_file() else f"{settings.warehouse_url}/{inside}"
    if named[1] != own:
        raise InputError(f"{path} lies in the bucket {named[1]}", expected=f"a file in {own}, the warehouse's")
    return inside.removeprefix(f"{folder}/"), f"s3://{own}/{inside}"


def _exists(settings: Settings, file: str) -> bool:
    from pyiceberg.io.pyarrow import PyArrowFileIO

    return bool(PyArrowFileIO(settings.file_properties).new_input(file).exists())


def _training_set(lake: Lake, path: str, number: int) -> TableSnapshot:
    """The n-th training set that was published and is still held.

    Raises:
        InputError: There are fewer.
    """
    snapshot = lake.snapshot(lake.features.training_set)
    # Compaction writes the same rows again.
    published = [
        state
        for state in (snapshot.table.snapshots() if snapshot.table is not None else [])
        if state.summary is None or state.summary.get(OPERATION) != "compact"
    ]
    if number > len(published):
        known = f"ml/training_sets/train_v1.parquet to train_v{len(published)}.parquet" if published else "none yet"
        raise InputError(
            f"there is neither a file {path} nor a training set number {number}",
            expected=f"a Parquet file below {lake.settings.warehouse_location}, the path of a table such as "
            f"ml/features/customer_features/, or a training set that was published ({known})",
            hint="`mlops train` publishes a training set.",
        )
    return snapshot.at(published[number - 1].snapshot_id)


def _read(settings: Settings, path: str, file: str) -> pa.Table:
    import duckdb

    with session(settings) as duck:
        try:
            return duck.sql(f"SELECT * FROM {parquet_source([file])}").to_arrow_table()
        except duckdb.Error as error:
            raise InputError(
                f"{path} can't be read: {str(error).splitlines()[0]}",
                expected=f"a Parquet file below {settings.warehouse_location} or of this machine",
            ) from error


def _train_rows(rows: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return rows.filter(pc.equal(rows[SPLIT], TRAIN)) if SPLIT in rows.column_names else rows
