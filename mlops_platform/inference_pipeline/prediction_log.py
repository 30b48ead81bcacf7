"""The prediction log: written by the service, one JSON line a prediction, and read into `ml.online_predictions`.

A line is on its way to disk (`os.write` on a file opened for appending) before the prediction is answered, so that a
killed process loses no answered prediction. Every process writes files of its own and holds a lock on the one it
writes: the lock dies with the process, and a file without a writer is complete. Does not belong here: metrics, HTTP,
the clock.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_platform.contracts import ONLINE_PREDICTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import PlatformError
from mlops_platform.inference_pipeline.spool import (
    PATTERN,
    REJECTED_SUFFIX,
    bounded,
    read_file,
    set_aside,
    without_writer,
)
from mlops_platform.storage.audit import CheckOutcome
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.pseudonym import customer_hmacs
from mlops_platform.storage.publish import Draft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import pyarrow as pa
    from msgspec import Struct

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake

ROTATE_BYTES = 16 * 2**20
COLLECT_BYTES = 256 * 2**20
REJECTED_CHECK = "lines_are_predictions"
_ENCODER = msgspec.json.Encoder()


def prediction_record(
    prediction_id: str, timestamp: str, *, model_name: str, model_version: str, features: Mapping[str, Any] | Struct,
    prediction: int, probability: float, inference_latency_ms: float, customer_hmac: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One line of the log, as documented.

    Args:
        prediction_id: `PRED_…`.
        timestamp: When it was answered, from `timestamp_of`.
        model_name: Name in the registry.
        model_version: Version in the registry; the log writes `v3` for 3.
        features: The row that was scored.
        prediction: 1: predicted to churn.
        probability: Chance of churn.
        inference_latency_ms: Time to answer.
        customer_hmac: Who was asked for, under the home's key; None where features were given.
    """
    stays = 1.0 - probability
    whose = {} if customer_hmac is None else {"customer_hmac": customer_hmac}
    return {
        "prediction_id": prediction_id,
        "timestamp": timestamp,
        "model_name": model_name,
        "model_version": f"v{model_version}",
        "features": features,
        "prediction": prediction,
        "probability": [stays, probability],
        "confidence": max(stays, probability),
        "inference_latency_ms": inference_latency_ms,
        **whose,
    }


def timestamp_of(at: datetime) -> str:
    """An aware instant as the log writes it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def customer_names(settings: Settings, customer_ids: Sequence[str]) -> list[str] | None:
    """The names under which the log knows customers; None where the home's key can't be read."""
    try:
        return customer_hmacs(settings, customer_ids)
    except PlatformError:
        return None


class PredictionLog:
    """Appends predictions to a file of this process; a new file for each day, and for each `rotate_bytes`.

    Args:
        folder: The spool; made when first written to.
        rotate_bytes: Size at which the next file begins.
    """

    def __init__(self, folder: Path, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.folder = folder
        self.rotate_bytes = rotate_bytes
        self._lock = threading.Lock()
        self._file: int | None = None
        self._day: date | None = None
        self._size = 0

    def append(self, records: Sequence[Mapping[str, Any]], *, day: date) -> bool:
        """Appends the records with one write.

        Args:
            records: From `prediction_record`.
            day: Local day of the answer; it names the file.

        Returns:
            Whether all of them were written. A full disk or a folder that can't be written is no reason to fail.
        """
        data = _ENCODER.encode_lines(records)
        with self._lock:
            try:
                written = os.write(self._open_file(day), data)
            except OSError:
                return False
            if written < len(data):
                self._cut()
                return False
            self._size += written
            return True

    def close(self) -> None:
        """Closes the file, which thereby is complete."""
        with self._lock:
            self._close()

    def _open_file(self, day: date) -> int:
        """The day's file, opened if need be.

        Raises:
            OSError: It can't be made.
        """
        is_full = self._size >= self.rotate_bytes or day != self._day
        # Without a name left the file was deleted under us, and what is written to it would be lost.
        if self._file is not None and (is_full or os.fstat(self._file).st_nlink == 0):
            self._close()
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"predictions-{day:%Y%m%d}-{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
            draft = self.folder / f".{name}"
            file = os.open(draft, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                # Locked before it gets the name readers look for: they never see it without its writer.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.rename(self.folder / name)
            except OSError:
                os.close(file)
                raise
            self._file, self._day, self._size = file, day, 0
        return self._file

    def _cut(self) -> None:
        """Takes back a write cut short (the disk is full): the next line must not continue it."""
        assert self._file is not None  # noqa: S101 - something was written to it
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What the spool holds that the table does not.

    Args:
        draft: New rows for ml.online_predictions.
        files: Spool files that were read.
        read: Predictions in them, those already in the table included.
        rejected: Lines that are no predictions; they stand in a `.rejected` file beside.
        lake: The tables it was compared with.
    """

    draft: Draft
    files: tuple[Path, ...]
    read: int
    rejected: int
    lake: Lake

    def retire(self) -> tuple[Path, ...]:
        """Deletes what the publish of the draft has made superfluous; see `retire`."""
        return retire(self.lake)


def collect(lake: Lake, *, max_bytes: int = COLLECT_BYTES) -> Collected:
    """Reads the spool into a draft of the predictions that are not in the table yet.

    A half-written last line of a file that is still being written is left for the next time.

    Args:
        lake: The home's tables.
        max_bytes: After so many bytes further files are left for the next time; complete files come first.
    """
    import pyarrow as pa

    spool = [read_file(path) for path in bounded(lake.settings.prediction_spool, max_bytes)]
    for file in spool:
        set_aside(file)
    rejected = sum(len(file.rejected) for file in spool)
    schema = arrow_schema(ONLINE_PREDICTIONS)
    rows = pa.Table.from_pylist([row for file in spool for row in file.rows], schema=schema)
    new = _unpublished(lake, rows)
    check = CheckOutcome(
        REJECTED_CHECK,
        passed=not rejected,
        message=f"{rejected} lines of the prediction log are no predictions, see *{REJECTED_SUFFIX}"
        if rejected
        else "",
        is_blocking=False,
        figures={"rejected": rejected},
    )
    figures = {"read": rows.num_rows, "new": new.num_rows, "rejected": rejected}
    draft = Draft(ONLINE_PREDICTIONS, new, checks=(check,), figures=figures)
    return Collected(draft, tuple(file.path for file in spool), rows.num_rows, rejected, lake)


def retire(lake: Lake) -> tuple[Path, ...]:
    """Deletes the complete spool files of which every prediction is in the table; returns them.

    Whether a publish succeeded is read from the table itself, so this may be called at any time: after a publish, or
    before the next `collect` when the process died between the two.
    """
    import pyarrow as pa

    retired = []
    for path in sorted(lake.settings.prediction_spool.glob(PATTERN)):
        with without_writer(path) as is_complete:
            if not is_complete:
                continue
            file = read_file(path)
            set_aside(file)
            rows = pa.Table.from_pylist(list(file.rows), schema=arrow_schema(ONLINE_PREDICTIONS))
            if _unpublished(lake, rows).num_rows == 0:
                path.unlink()
                retired.append(path)
    return tuple(retired)


def last_written(folder: Path) -> int:
    """When the spool was last written, in nanoseconds; 0 when it is empty. A sensor compares it with its cursor."""
    return max((path.stat().st_mtime_ns for path in folder.glob(PATTERN)), default=0)


def _unpublished(lake: Lake, rows: pa.Table) -> pa.Table:
    """The rows whose prediction_id the table lacks, each once."""
    import pyarrow.compute as pc

    if not rows.num_rows:
        return rows
    # A prediction keeps its time, so that only the days the rows belong to need be read.
    since = Condition("predicted_at", ">=", pc.min(rows["predicted_at"]).as_py())
    published = lake.snapshot(ONLINE_PREDICTIONS)
    with published.relation(["prediction_id"], [since]) as (connection, view):
        connection.register("spooled", rows)
        return connection.sql(
            f"SELECT * FROM spooled ANTI JOIN {view} USING (prediction_id) "
            "QUALIFY row_number() OVER (PARTITION BY prediction_id ORDER BY predicted_at) = 1"
        ).to_arrow_table()
